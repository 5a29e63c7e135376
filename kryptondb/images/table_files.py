"""Parquet and Arrow files with pictures in a column: one picture a row, the bytes of a file or the path of one.

`scans.parquet#column=image`, or one row of it, `scans.parquet#column=image&row=17`. Rows count from 0. A column holds
bytes, paths (seen from the table's folder) or addresses, or both in a struct of `bytes` and `path`, as Hugging Face
stores images. Only that column is read, of it no more than a few rows at a time, and nothing before it is known how
much memory it takes (`table_sizes`).
"""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kryptondb.errors import ImageError, did_you_mean
from kryptondb.files.paths import ENDINGS, is_file_address
from kryptondb.images import remote, table_readers
from kryptondb.images.content import asked_for, suffix_of
from kryptondb.images.folders import Unreadable, is_folder
from kryptondb.options.tables import TABLE_FRAGMENTS
from kryptondb.text.plain_text import printable

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = frozenset(ending for ending, kind in ENDINGS.items() if kind in ("parquet", "arrow", "arrows"))
COLUMN: str = TABLE_FRAGMENTS["column"].default  # where none is named
_LONGEST_PATH = 1 << 15


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
        asked = asked_for(TABLE_FRAGMENTS, fragment, self._shown) if fragment else {}
        self._row: int | None = asked.get("row")
        with _damage(self._shown):
            self._batches = table_readers.open_table(path, self._shown)
            self._column = _chosen(self._shown, self._batches.schema, asked.get("column"))
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
        for first, end in itertools.pairwise(self._batches.groups()):
            yield from self._cells_of(first, end)

    def _cells_of(self, first: int, end: int) -> Iterator[Cell]:
        """Those of one group of rows, whose values are read. A group that is damaged fails alone."""
        index = first
        try:
            for start, batch in self._reading(first):
                for value in batch.column(0):
                    if index == end:
                        return
                    yield self._cell(index, value.as_py())
                    index += 1
                if start + batch.num_rows >= end:
                    return
        except ImageError as error:
            for row in range(index, end):
                yield Unreadable(f"{self._shown}#row={row}", error)

    def picture(self, row: Row) -> bytes:
        """The bytes of a row. Raises ImageError for a row without, or with too many."""
        value = self._value(row.index)
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise ImageError(f"{row.name}: the row holds no picture")
        if len(data) > table_readers.MOST_BYTES:
            raise ImageError(
                f"{row.name}: {len(data):,} bytes are more than the {table_readers.MOST_BYTES:,} that are read"
            )
        return bytes(data)

    def _cell(self, index: int, value: Any) -> Cell:
        name = f"{self._shown}#row={index}"
        if self._has_bytes is True or (isinstance(value, dict) and value.get("bytes") is not None):
            return Row(name, index)
        path = value.get("path") if isinstance(value, dict) else value
        if not path:
            return Unreadable(name, ImageError(f"{name}: the row holds no picture"))
        if len(path) > _LONGEST_PATH:
            return Unreadable(name, ImageError(f"{name}: the row holds {len(path):,} characters, too many for a path"))
        if remote.is_remote(path) or is_file_address(path):
            return str(path)
        return str(self._folder / path)

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
        return self._batches.groups()[-1]

    def _reading(self, index: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of the column from the one that holds a row on, each with the number of its first row."""
        with _damage(self._shown):
            for first, batch in self._batches.read(self._column, index):
                batch.validate(full=True)  # before a value of a damaged file is looked at
                yield first, batch


@contextmanager
def _damage(shown: str) -> Iterator[None]:
    """Turns what Arrow says of a file that it cannot read into an ImageError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, LookupError, MemoryError, struct.error) as error:
        raise ImageError(f"{shown}: damaged table: {_first_line(error)}") from None


def _chosen(shown: str, schema: pa.Schema, column: str | None) -> str:
    found = schema.names.count(column or COLUMN)
    if found > 1:
        raise ImageError(f'{shown}: {found:,} columns are named "{column or COLUMN}"')
    if found == 1:
        return column or COLUMN
    names = ", ".join(schema.names[:20])
    if column is None:
        raise ImageError(
            f'{shown}: no column is named, and no column is called "{COLUMN}"', hint=f"The columns are {names}."
        )
    raise ImageError(
        f'{shown}: no column named "{column}"', hint=did_you_mean(column, schema.names) or f"The columns are {names}."
    )


def _holds_bytes(shown: str, field: pa.Field) -> bool | None:
    """True for bytes, False for paths, None for a struct of both."""
    import pyarrow as pa
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if _is_binary(kind):
        return True
    if _is_text(kind):
        return False
    if types.is_struct(kind):
        parts = {part.name: part.type for part in kind}
        if "bytes" in parts and _is_binary(parts["bytes"]) and _is_text(parts.get("path", pa.string())):
            return None
    raise ImageError(
        f"{shown}: the column {field.name} holds {kind}, not pictures",
        hint="It may hold the bytes of image files, their paths, or structs of bytes and path.",
    )


def _is_binary(kind: pa.DataType) -> bool:
    from pyarrow import types

    known = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(check(kind) for check in known)


def _is_text(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
