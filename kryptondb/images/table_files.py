"""Parquet and Arrow files with pictures in a column: one picture a row, the bytes of a file or the path of one.

`scans.parquet#column=image`, or one row of it, `scans.parquet#column=image&row=17`. Rows count from 0. A column holds
bytes, paths (seen from the table's folder) or addresses, or both in a struct of `bytes` and `path`, as Hugging Face
stores images. Only that column is read, and of it no more than a few rows at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from kryptondb.errors import ImageError, did_you_mean
from kryptondb.images import remote
from kryptondb.images.content import file_content, suffix_of
from kryptondb.images.folders import Unreadable, is_folder
from kryptondb.images.picture import printable

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = frozenset({".parquet", ".arrow", ".feather"})
COLUMN = "image"  # where none is named
_OPTIONS = ("column", "row")
_SIGNATURES = {b"PAR1": "parquet", b"ARROW1": "arrow"}
_ROWS = 16  # that are read at once
_MOST_BYTES = 512 << 20  # of one cell


@dataclass(frozen=True)
class Row:
    """A row that holds a picture's bytes."""

    name: str
    index: int


#: What a row gives: bytes that `ImageTable.picture` reads, a path or address, or why there is none.
Cell = Row | str | Unreadable


def is_table(path: Path, fragment: str) -> bool:
    """Whether a path is a table by its suffix, or is asked for a column."""
    named = {item.partition("=")[0] for item in fragment.split("&")}
    return not is_folder(path) and (suffix_of(path.name) in SUFFIXES or "column" in named)


def names_one_row(fragment: str) -> bool:
    """Whether a row is asked for."""
    return "row" in {item.partition("=")[0] for item in fragment.split("&")}


class ImageTable:
    """The column of a file that holds pictures.

    Raises:
        ImageError: an option that there is not; the file is missing, damaged or no table; no such column, or one of
            another type.
    """

    def __init__(self, path: Path, fragment: str) -> None:
        self._shown = printable(path)
        self._folder = path.parent
        column, self._row = _options(self._shown, fragment)
        with _damage(self._shown):
            self._batches = _open(path, self._shown)
            self._column = _chosen(self._shown, self._batches.schema, column)
            self._has_bytes = _holds_bytes(self._shown, self._batches.schema.field(self._column))
        self._lock = threading.Lock()
        self._ahead: Iterator[tuple[int, pa.RecordBatch]] = iter(())
        self._current: tuple[int, pa.RecordBatch] | None = None

    def cells(self) -> Iterator[Cell]:
        """One a row, in order. Bytes are not read."""
        if self._row is not None:
            yield self._cell(self._row, None if self._has_bytes is True else self._value(self._row))
            return
        if self._has_bytes is True:
            yield from (self._cell(index, None) for index in range(self._rows()))
            return
        for first, batch in self._reading(0):
            values = batch.column(0).to_pylist()
            yield from (self._cell(first + index, value) for index, value in enumerate(values))

    def picture(self, row: Row) -> bytes:
        """The bytes of a row. Raises ImageError for a row without, or with too many."""
        value = self._value(row.index)
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise ImageError(f"{row.name}: the row holds no picture")
        if len(data) > _MOST_BYTES:
            raise ImageError(f"{row.name}: {len(data):,} bytes are more than the {_MOST_BYTES:,} that are read")
        return bytes(data)

    def _cell(self, index: int, value: Any) -> Cell:
        name = f"{self._shown}#row={index}"
        if self._has_bytes is True or (isinstance(value, dict) and value.get("bytes") is not None):
            return Row(name, index)
        path = value.get("path") if isinstance(value, dict) else value
        if not path:
            return Unreadable(name, ImageError(f"{name}: the row holds no picture"))
        return str(path) if remote.is_remote(path) else str(self._folder / path)

    def _value(self, index: int) -> Any:
        """A row's value. Rows that are asked for in order are read once; others from the start of their group."""
        with self._lock:
            if self._current is None or index < self._current[0]:
                self._ahead, self._current = self._reading(index), None
            while self._current is None or index >= self._current[0] + self._current[1].num_rows:
                self._current = next(self._ahead, None)
                if self._current is None:
                    raise ImageError(f"{self._shown}: no row {index:,}: it has {self._rows():,}, from 0")
            first, batch = self._current
            return batch.column(0)[index - first].as_py()

    def _rows(self) -> int:
        with _damage(self._shown):
            return self._batches.rows()

    def _reading(self, index: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of the column from the one that holds a row on, each with the number of its first row."""
        with _damage(self._shown):
            for first, batch in self._batches.read(self._column, index):
                batch.validate(full=True)  # before a value of a damaged file is looked at
                yield first, batch


class _Parquet:
    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path)
        self.schema: pa.Schema = self._file.schema_arrow

    def rows(self) -> int:
        """How many there are."""
        return int(self._file.metadata.num_rows)

    def read(self, column: str, index: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of one column from the row group on that holds row `index`."""
        metadata = self._file.metadata
        first = group = 0
        while group < metadata.num_row_groups and first + metadata.row_group(group).num_rows <= index:
            first += metadata.row_group(group).num_rows
            group += 1
        for each in range(group, metadata.num_row_groups):
            for batch in self._file.iter_batches(_ROWS, row_groups=[each], columns=[column]):
                yield first, batch
                first += batch.num_rows


class _Arrow:
    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.schema: pa.Schema = self._reader.schema
        self._rows: int | None = None

    def rows(self) -> int:
        """How many there are: the batches are looked at, once."""
        if self._rows is None:
            batches = range(self._reader.num_record_batches)
            self._rows = sum(int(self._reader.get_batch(number).num_rows) for number in batches)
        return self._rows

    def read(self, column: str, index: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of one column from the one that holds row `index`."""
        first = 0
        for number in range(self._reader.num_record_batches):
            batch = self._reader.get_batch(number)
            if first + batch.num_rows > index:
                yield first, batch.select([column])
            first += batch.num_rows


def _open(path: Path, shown: str) -> _Parquet | _Arrow:
    try:
        with file_content(path).open() as stream:
            start = stream.read(6)
    except OSError as error:
        raise ImageError(f"{shown}: {(error.strerror or str(error)).lower()}") from None
    kind = next((kind for signature, kind in _SIGNATURES.items() if start.startswith(signature)), None)
    if kind is None:
        raise ImageError(f"{shown}: not a Parquet or Arrow file")
    return _Parquet(path) if kind == "parquet" else _Arrow(path)


@contextmanager
def _damage(shown: str) -> Iterator[None]:
    """Turns what Arrow says of a file that it cannot read into an ImageError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, LookupError, MemoryError) as error:
        raise ImageError(f"{shown}: damaged table: {_first_line(error)}") from None


def _options(shown: str, fragment: str) -> tuple[str | None, int | None]:
    """The column and the row that are asked for."""
    given = dict(item.split("=", 1) for item in fragment.split("&")) if fragment else {}
    for name in given:
        if name not in _OPTIONS:
            near = did_you_mean(name, _OPTIONS)
            raise ImageError(f'{shown}: a table has no option "{name}"', hint=near or "They are column and row.")
    row = given.get("row")
    if row is not None and not (row.isdecimal() and len(row) < 16):
        raise ImageError(f"{shown}: row must be a whole number from 0, not {row!r}")
    return unquote(given["column"]) if "column" in given else None, None if row is None else int(row)


def _chosen(shown: str, schema: pa.Schema, column: str | None) -> str:
    found = schema.names.count(column or COLUMN)
    if found > 1:
        raise ImageError(f'{shown}: {found:,} columns are named "{column or COLUMN}"')
    if found == 1:
        return column or COLUMN
    names = ", ".join(schema.names[:20])
    if column is None:
        raise ImageError(
            f'{shown}: no column is named, and there is none called "{COLUMN}"', hint=f"The columns are {names}."
        )
    raise ImageError(
        f'{shown}: no column named "{column}"', hint=did_you_mean(column, schema.names) or f"The columns are {names}."
    )


def _holds_bytes(shown: str, field: pa.Field) -> bool | None:
    """True for bytes, False for paths, None for a struct of both."""
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    if types.is_string(kind) or types.is_large_string(kind):
        return False
    if types.is_struct(kind) and "bytes" in [part.name for part in kind]:
        return None
    raise ImageError(
        f"{shown}: the column {field.name} holds {kind}, and no pictures",
        hint="It may hold the bytes of image files, their paths, or structs of bytes and path.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
