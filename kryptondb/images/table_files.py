"""Parquet and Arrow files with pictures in a column: one picture a row, the bytes of a file or the path of one.

`scans.parquet#column=image`, or one row of it, `scans.parquet#column=image&row=17`. Rows count from 0. A column holds
bytes, paths (seen from the table's folder) or addresses, or both in a struct of `bytes` and `path`, as Hugging Face
stores images. Only that column is read, of it no more than a few rows at a time, and nothing before it is known how
much memory it takes (`table_sizes`).
"""

from __future__ import annotations

import bisect
import itertools
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kryptondb.errors import ImageError, did_you_mean
from kryptondb.files.endings import ENDINGS
from kryptondb.files.paths import is_file_address
from kryptondb.images import remote, table_rows, table_sizes
from kryptondb.images.content import file_content, suffix_of
from kryptondb.images.folders import Unreadable, is_folder
from kryptondb.images.part import asked_for
from kryptondb.options.tables import TABLE_FRAGMENTS
from kryptondb.text.plain_text import printable

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = frozenset(ending for ending, kind in ENDINGS.items() if kind in ("parquet", "arrow", "arrows"))
COLUMN: str = TABLE_FRAGMENTS["column"].default  # where none is named
_SIGNATURES = {b"PAR1": "parquet", b"ARROW1": "arrow"}
_STREAM = b"\xff\xff\xff\xff"
_ROWS = 16  # that are read at once, if they are small
_MOST_BYTES = 512 << 20  # of one cell
_LONGEST_PATH = 1 << 15
#: Bytes. What is larger than the first is read row by row; what inflates to more than the second must fill a fair part
#: of the file; what takes more than the third is not read.
_READ_TOGETHER, _MOST_INFLATED, _MOST_TOGETHER = 32 << 20, 128 << 20, 2 << 30
_MOST_RATIO = 4
_BUFFER = 1 << 20


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
            self._batches = _open(path, self._shown)
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


class _Parquet:
    def __init__(self, path: Path, shown: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path, self._shown = path, shown
        # Buffered: else a whole column chunk is read at once.
        self._file = pq.ParquetFile(pa.OSFile(os.fsencode(path)), buffer_size=_BUFFER)
        self.schema: pa.Schema = self._file.schema_arrow
        metadata = self._file.metadata
        counts = [int(metadata.row_group(number).num_rows) for number in range(metadata.num_row_groups)]
        if min(counts, default=0) < 0 or sum(counts) != metadata.num_rows:
            raise ValueError("its row groups have other rows than the file")
        with path.open("rb") as stream:
            self._chunks = table_sizes.parquet_chunks(stream)
        if len(self._chunks) != len(counts):
            raise ValueError("its row groups are others than its footer says")
        self._firsts = [0, *itertools.accumulate(counts)]

    def groups(self) -> list[int]:
        """The first row of each group that is read alone, and the number of rows."""
        return self._firsts

    def read(self, column: str, index: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of one column from the row group on that holds row `index`."""
        for group in range(bisect.bisect_right(self._firsts, index) - 1, len(self._firsts) - 1):
            first, leaves = self._firsts[group], self._leaves(column)
            rows = self._rows_at_once(group, leaves)
            paths = list(dict.fromkeys(leaves.values()))
            for batch in self._file.iter_batches(rows, row_groups=[group], columns=paths):
                yield first, batch
                first += batch.num_rows

    def _leaves(self, column: str) -> dict[int, str]:
        """The column's parts, of a struct those that are needed: their names by their numbers in the file."""
        names = (column, f"{column}.bytes", f"{column}.path")
        schema = self._file.schema
        paths = {number: str(schema.column(number).path) for number in range(len(schema))}
        return {number: path for number, path in paths.items() if path in names}

    def _rows_at_once(self, group: int, leaves: Iterable[int]) -> int:
        """How many rows of a group may be read together; ImageError where not even one may."""
        largest = 1
        with self._path.open("rb") as stream:
            for number in leaves:
                if number >= len(self._chunks[group]):
                    raise ValueError("a row group without all of its columns")
                for page in table_sizes.pages(stream, self._chunks[group][number]):
                    _check_inflated(self._shown, "a page", page.inflated, page.stored)
                    largest = max(largest, page.inflated)
                largest = max(largest, self._file.schema.column(number).length)  # of values of one size, nulls too
        if largest > _MOST_BYTES:
            raise ImageError(
                f"{self._shown}: values of {largest:,} bytes are more than the {_MOST_BYTES:,} that are read"
            )
        return min(_ROWS, max(1, _READ_TOGETHER // largest))


class _Arrow:
    """An Arrow IPC file. Never mapped: a mapped file that is cut ends the process."""

    schema: pa.Schema

    def __init__(self, path: Path, shown: str) -> None:
        self._path, self._shown = path, shown
        with path.open("rb") as stream:
            self._messages = self._find(stream)
        for dictionary in self._messages.dictionaries:
            _check_inflated(shown, "a dictionary", dictionary.inflated, dictionary.stored)
        self._firsts = [0, *itertools.accumulate(message.rows for message in self._messages.batches)]
        self._readers: dict[str, Any] = {}
        self._read_schema()

    def _find(self, stream: BinaryIO) -> table_sizes.Messages:
        return table_sizes.arrow_batches(stream)

    def _read_schema(self) -> None:
        import pyarrow as pa

        self.schema = pa.ipc.open_file(pa.OSFile(os.fsencode(self._path))).schema

    def groups(self) -> list[int]:
        """The first row of each batch, and the number of rows."""
        return self._firsts

    def read(self, column: str, index: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of one column from the one that holds row `index`; of a large batch row by row where that can be."""
        for number in range(bisect.bisect_right(self._firsts, index) - 1, len(self._firsts) - 1):
            first, message = self._firsts[number], self._messages.batches[number]
            buffers = message.column(self.schema, column)
            inflated, stored = (sum(getattr(each, size) for each in buffers) for size in ("inflated", "stored"))
            rows = None
            if inflated > _READ_TOGETHER and not message.compressed and self._messages.little_endian:
                rows = table_rows.of(self.schema.field(column), buffers, _MOST_BYTES)
            if rows is None:
                _check_inflated(self._shown, "a batch", inflated, stored)
                yield first, self._batch(column, number)
                continue
            with self._path.open("rb") as stream:
                for row in range(max(0, index - first), message.rows):
                    yield first + row, rows.read(stream, row)

    def _batch(self, column: str, number: int) -> pa.RecordBatch:
        """A batch of one column."""
        import pyarrow as pa

        if column not in self._readers:
            options = pa.ipc.IpcReadOptions(included_fields=[self.schema.get_field_index(column)])
            self._readers[column] = pa.ipc.open_file(pa.OSFile(os.fsencode(self._path)), options=options)
        return self._readers[column].get_batch(number)


class _ArrowStream(_Arrow):
    """An Arrow IPC stream: the same messages without a footer that says where they are."""

    def _find(self, stream: BinaryIO) -> table_sizes.Messages:
        messages, self._blocks = table_sizes.stream_batches(stream)
        self._places = [place for place, block in enumerate(self._blocks) if block.batch]
        self._heads = [place for place, block in enumerate(self._blocks) if not block.batch]
        return messages

    def _read_schema(self) -> None:
        self.schema = self._opened(self._blocks[:1]).schema

    def _batch(self, column: str, number: int) -> pa.RecordBatch:
        import pyarrow as pa

        place = self._places[number]
        # Dictionaries come before the batches that need them, and a later one may replace one that was there before.
        needed = [self._blocks[head] for head in self._heads if head < place]
        options = pa.ipc.IpcReadOptions(included_fields=[self.schema.get_field_index(column)])
        return self._opened([*needed, self._blocks[place]], options).read_next_batch()

    def _opened(self, blocks: list[table_sizes.Block], options: Any = None) -> Any:
        """A stream of some of the messages."""
        import pyarrow as pa

        stored = sum(block.length for block in blocks)
        if stored > _MOST_TOGETHER:
            raise ImageError(
                f"{self._shown}: a batch of {stored:,} bytes is more than is read at once",
                hint="Write it as an Arrow file, of which one column can be read: pyarrow.ipc.new_file.",
            )
        data = bytearray()
        with self._path.open("rb") as stream:
            for block in blocks:
                stream.seek(block.at)
                data += stream.read(block.length)
        return pa.ipc.open_stream(pa.py_buffer(data), options=options)


def _check_inflated(shown: str, what: str, inflated: int, stored: int) -> None:
    """Raises ImageError for what inflates to far more than the file holds of it, and for what no memory should hold."""
    if inflated > min(_MOST_TOGETHER, max(_MOST_INFLATED, _MOST_RATIO * stored)):
        raise ImageError(
            f"{shown}: {what} inflates from {stored:,} to {inflated:,} bytes, which is more than is read at once",
            hint="Write the table with fewer rows in a page or batch (row_group_size, max_chunksize).",
        )


def _open(path: Path, shown: str) -> _Parquet | _Arrow:
    try:
        with file_content(path).open() as stream:
            start = stream.read(6)
    except OSError as error:
        raise ImageError(f"{shown}: {(error.strerror or str(error)).lower()}") from None
    kind = next((kind for signature, kind in _SIGNATURES.items() if start.startswith(signature)), None)
    if start[:4] == _STREAM:
        return _ArrowStream(path, shown)
    if kind is None:
        raise ImageError(f"{shown}: not a Parquet or Arrow file")
    return _Parquet(path, shown) if kind == "parquet" else _Arrow(path, shown)


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
            f'{shown}: no column is named, and there is none called "{COLUMN}"', hint=f"The columns are {names}."
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
        f"{shown}: the column {field.name} holds {kind}, and no pictures",
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
