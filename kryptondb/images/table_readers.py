"""Readers of the columns of Parquet and Arrow files: a few rows at a time, within bounds of memory.

Single rows of an uncompressed Arrow batch are read where they lie: a batch may be larger than the memory.
"""

from __future__ import annotations

import bisect
import itertools
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kryptondb.errors import ImageError
from kryptondb.images import table_sizes
from kryptondb.images.content import file_content

if TYPE_CHECKING:
    import pyarrow as pa

    from kryptondb.images.table_sizes import Buffer

_SIGNATURES = {b"PAR1": "parquet", b"ARROW1": "arrow"}
_STREAM = b"\xff\xff\xff\xff"
_ROWS = 16  # that are read at once, if they are small
MOST_BYTES = 512 << 20  # of one cell
#: Bytes. What is larger than the first is read row by row; what inflates to more than the second must fill a fair part
#: of the file; what takes more than the third is not read.
_READ_TOGETHER, _MOST_INFLATED, _MOST_TOGETHER = 32 << 20, 128 << 20, 2 << 30
_MOST_RATIO = 4
_BUFFER = 1 << 20


def open_table(path: Path, shown: str) -> _Parquet | _Arrow:
    """A reader of the table at a path, by its first bytes. Raises ImageError where it is none, or cannot be opened."""
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
        if largest > MOST_BYTES:
            raise ImageError(
                f"{self._shown}: values of {largest:,} bytes are more than the {MOST_BYTES:,} that are read"
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
            inflated, stored = (sum(getattr(buffer, size) for buffer in buffers) for size in ("inflated", "stored"))
            rows = None
            if inflated > _READ_TOGETHER and not message.compressed and self._messages.little_endian:
                rows = rows_of(self.schema.field(column), buffers, MOST_BYTES)
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


class Rows:
    """The rows of one column of a batch. `read` gives one of them."""

    def __init__(self, field: pa.Field, buffers: Sequence[Buffer], most: int) -> None:
        self._field, self._buffers, self._most = field, buffers, most

    def read(self, stream: BinaryIO, row: int) -> pa.RecordBatch:
        """The row as a batch of its own.

        Raises:
            ValueError: a value outside its buffer, or one that is too long.
        """
        import pyarrow as pa

        value = self._value(stream, self._field.type, iter(self._buffers), row)
        return pa.RecordBatch.from_arrays([pa.array([value], self._field.type)], [self._field.name])

    def _value(self, stream: BinaryIO, kind: pa.DataType, buffers: Iterator[Buffer], row: int) -> object:
        """A value of a type; takes the type's buffers, whether there is a value or not."""
        from pyarrow import types

        validity = next(buffers)
        there = not validity.stored or _bytes_of(stream, validity, row // 8, 1)[0] >> row % 8 & 1
        if types.is_struct(kind):
            parts = {part.name: self._value(stream, part.type, buffers, row) for part in kind}
            return parts if there else None
        if types.is_fixed_size_binary(kind):
            start, end, data = row * kind.byte_width, (row + 1) * kind.byte_width, next(buffers)
        else:
            width, form = (8, "<2q") if types.is_large_binary(kind) or types.is_large_string(kind) else (4, "<2i")
            offsets, data = next(buffers), next(buffers)
            start, end = struct.unpack(form, _bytes_of(stream, offsets, row * width, 2 * width)) if there else (0, 0)
        if not there:
            return None
        if end - start > self._most:
            raise ValueError(f"a value of {end - start:,} bytes is more than the {self._most:,} that are read")
        value = _bytes_of(stream, data, start, end - start)
        return value.decode() if types.is_string(kind) or types.is_large_string(kind) else value


def rows_of(field: pa.Field, buffers: Sequence[Buffer], most: int) -> Rows | None:
    """The rows of a column of an uncompressed, little-endian batch; None for a type of which no row lies alone.

    Args:
        most: bytes of a value.
    """
    return Rows(field, buffers, most) if _lies_alone(field.type) else None


def _lies_alone(kind: pa.DataType) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return all(_lies_alone(part.type) for part in kind)
    known = (
        *(types.is_binary, types.is_large_binary, types.is_string, types.is_large_string),
        types.is_fixed_size_binary,
    )
    return any(check(kind) for check in known)


def _bytes_of(stream: BinaryIO, buffer: Buffer, start: int, length: int) -> bytes:
    """Bytes of a buffer. ValueError where it does not hold them."""
    if start < 0 or length < 0 or start + length > buffer.stored:
        raise ValueError("a value outside its buffer")
    stream.seek(buffer.at + start)
    found = stream.read(length)
    if len(found) != length:
        raise ValueError("the file ends in a value")
    return found
