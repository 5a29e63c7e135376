"""How many bytes a column of a Parquet or Arrow file inflates to, known before any of it is inflated.

pyarrow allocates what a page or a buffer declares, gigabytes for a file of some kB, and shows neither. The few numbers
that say so are read here: where column chunks lie and their page headers (Thrift's compact protocol), and record batch
messages (FlatBuffers). pyarrow would say where chunks lie, but what is wrong with their description ends the process
there: a histogram of another length, a group without all of its columns, an encrypted column. Sources: parquet-format,
`parquet.thrift`; Arrow, `format/Message.fbs` and `format/File.fbs`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa

_HEADER_BYTES = 1 << 16  # of a page; its statistics are cut by those who write them
_MOST_METADATA = 64 << 20  # of a footer, or of an Arrow message
_DEPTH = 16

# Thrift's compact types.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


class _Compact:
    """Reads Thrift's compact protocol. ValueError and IndexError for what is none."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def varint(self) -> int:
        """An unsigned number."""
        found = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
            shift += 7
            if shift > 63:
                raise ValueError("a number without an end")

    def number(self) -> int:
        """A signed number."""
        found = self.varint()
        return (found >> 1) ^ -(found & 1)

    def fields(self, depth: int = 0) -> Iterator[tuple[int, int]]:
        """(id, type) of the fields of a struct; whoever takes one reads or skips its value."""
        if depth > _DEPTH:
            raise ValueError("structs too deep")
        last = 0
        while (byte := self.data[self.at]) != 0:
            self.at += 1
            last = last + (byte >> 4) if byte >> 4 else self.number()
            yield last, byte & 0x0F
        self.at += 1

    def skip(self, kind: int, depth: int = 0) -> None:
        """Passes over a value."""
        if kind in (_TRUE, _FALSE):
            return
        if kind in (_I16, _I32, _I64):
            self.varint()
        elif kind in (_BYTE, _DOUBLE):
            self.at += 1 if kind == _BYTE else 8
        elif kind == _BINARY:
            length = self.varint()
            self.at += length
        elif kind == _STRUCT:
            for _, inner in self.fields(depth):
                self.skip(inner, depth + 1)
        elif kind in (_LIST, _SET):
            for inner in self.items(depth):
                # Alone a truth is its type; in a list it has a byte.
                self.skip(_BYTE if inner in (_TRUE, _FALSE) else inner, depth + 1)
        else:  # neither footers nor page headers have maps
            raise ValueError("a value of an unknown type")

    def items(self, depth: int = 0) -> Iterator[int]:
        """The type of each value of a list; whoever takes one reads or skips the value."""
        if depth > _DEPTH:
            raise ValueError("lists too deep")
        head = self.data[self.at]
        self.at += 1
        count = head >> 4 if head >> 4 < 15 else self.varint()
        for _ in range(count):
            yield head & 0x0F


@dataclass(frozen=True)
class Chunk:
    """Where a column of a row group of a Parquet file begins, and its bytes, page headers included."""

    start: int
    length: int


def parquet_chunks(stream: BinaryIO) -> list[list[Chunk]]:
    """The column chunks of each row group of a Parquet file, in the order of the file's columns.

    Raises:
        ValueError: a footer that cannot be read, or a column that is encrypted.
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - 8))
    tail = stream.read(8)
    length = struct.unpack_from("<I", tail)[0] if len(tail) == 8 else 0
    if tail[4:] != b"PAR1" or not 0 < length <= min(size - 8, _MOST_METADATA):
        raise ValueError("the footer of the file is missing")
    stream.seek(size - 8 - length)
    footer = _Compact(stream.read(length))
    try:
        return [
            [_chunk(footer) for _ in _structs_in(footer, 1)]  # RowGroup.columns
            for _ in _structs_in(footer, 4)  # FileMetaData.row_groups
        ]
    except IndexError:
        raise ValueError("the footer of the file is cut off") from None


def _structs_in(data: _Compact, wanted: int) -> Iterator[None]:
    """Stands before each struct of the list in one field of a struct, which whoever iterates reads; skips the rest."""
    for field, kind in data.fields():
        if field != wanted or kind != _LIST:
            data.skip(kind)
            continue
        for inner in data.items():
            if inner != _STRUCT:
                raise ValueError("a list of unexpected values")
            yield


def _chunk(data: _Compact) -> Chunk:
    """Reads a ColumnChunk."""
    length = start = dictionary = -1
    for field, kind in data.fields():
        if field == 8:
            raise ValueError("its columns are encrypted")  # crypto_metadata
        if field != 3 or kind != _STRUCT:  # meta_data
            data.skip(kind)
            continue
        for inner, what in data.fields():
            if what != _I64 or inner not in (7, 9, 11):
                data.skip(what)
                continue
            number = data.number()
            if inner == 7:
                length = number  # total_compressed_size
            elif inner == 9:
                start = number  # data_page_offset
            else:
                dictionary = number  # dictionary_page_offset
    if min(start, length) < 0:
        raise ValueError("a column that does not say where it is")
    return Chunk(min(start, dictionary) if dictionary > 0 else start, length)


@dataclass(frozen=True)
class Page:
    """A page of a Parquet column chunk: its bytes in the file, and inflated. No value in it is longer."""

    stored: int
    inflated: int


def pages(stream: BinaryIO, chunk: Chunk) -> Iterator[Page]:
    """The pages of a column chunk, its dictionary among them.

    Raises:
        ValueError: a page header that cannot be read.
    """
    at, end = chunk.start, chunk.start + chunk.length
    while at < end:
        stream.seek(at)
        header = _Compact(stream.read(min(_HEADER_BYTES, end - at)))
        sizes = {2: -1, 3: -1}  # uncompressed_page_size, compressed_page_size
        try:
            for field, kind in header.fields():
                if field in sizes and kind == _I32:
                    sizes[field] = header.number()
                else:
                    header.skip(kind)
        except IndexError:
            raise ValueError("a page header is cut off") from None
        inflated, stored = sizes.values()
        if min(inflated, stored) < 0:
            raise ValueError("a page without a size")
        yield Page(stored, inflated)
        at += header.at + stored


class _Flat:
    """A FlatBuffers table. struct.error and ValueError for what is none."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self._layout = at - self._read("i", at)
        if not 0 <= self._layout < len(data):
            raise ValueError("a table outside its message")

    def _read(self, form: str, at: int) -> int:
        if at < 0:
            raise ValueError("a place before its message")
        return int(struct.unpack_from("<" + form, self.data, at)[0])

    def _place(self, field: int) -> int | None:
        """Where the value of a field stands, None where it is left out."""
        entry = 4 + 2 * field
        if entry >= self._read("H", self._layout):
            return None
        offset = self._read("H", self._layout + entry)
        return self.at + offset if offset else None

    def number(self, field: int, form: str) -> int:
        """A number in the form of `struct`, 0 where it is left out."""
        place = self._place(field)
        return 0 if place is None else self._read(form, place)

    def table(self, field: int) -> _Flat | None:
        """A table in a field."""
        place = self._place(field)
        return None if place is None else _Flat(self.data, place + self._read("I", place))

    def structs(self, field: int, form: str) -> list[tuple[Any, ...]]:
        """A vector of structs or numbers in the form of `struct`."""
        place = self._place(field)
        if place is None:
            return []
        start = place + self._read("I", place)
        count = self._read("I", start)
        size = struct.calcsize("<" + form)
        if start + 4 + count * size > len(self.data):
            raise ValueError("a list longer than its message")
        return list(struct.iter_unpack("<" + form, self.data[start + 4 : start + 4 + count * size]))


@dataclass(frozen=True)
class Buffer:
    """A buffer of an Arrow column: where it lies in the file, its bytes there, and inflated."""

    at: int
    stored: int
    inflated: int


@dataclass(frozen=True)
class BatchMessage:
    """What a record batch says of itself: its rows, and all buffers in the order of the schema."""

    rows: int
    compressed: bool
    buffers: tuple[Buffer, ...]
    view_buffers: tuple[int, ...]  # how many a view has beyond its two, view after view

    @property
    def inflated(self) -> int:
        """Bytes of all buffers, inflated."""
        return sum(buffer.inflated for buffer in self.buffers)

    @property
    def stored(self) -> int:
        """Bytes of all buffers in the file."""
        return sum(buffer.stored for buffer in self.buffers)

    def column(self, schema: pa.Schema, name: str) -> tuple[Buffer, ...]:
        """The buffers of one column."""
        views = iter(self.view_buffers)
        first = 0
        for field in schema:
            count = _buffers_of(field.type, views)
            if field.name == name:
                if first + count > len(self.buffers):
                    break
                return self.buffers[first : first + count]
            first += count
        raise ValueError("a batch without all of its columns")


def _buffers_of(kind: pa.DataType, views: Iterator[int]) -> int:
    """How many buffers a column of a type has, its children included."""
    from pyarrow import types

    while hasattr(kind, "storage_type"):  # an extension
        kind = kind.storage_type
    count: int = kind.num_buffers
    if types.is_binary_view(kind) or types.is_string_view(kind):
        count += next(views, 0)
    if types.is_union(kind):
        count -= 1  # a validity bitmap that is no longer written
    if types.is_null(kind) or types.is_run_end_encoded(kind):
        count = 0
    return count + sum(_buffers_of(kind.field(index).type, views) for index in range(kind.num_fields))


@dataclass(frozen=True)
class Messages:
    """What an Arrow IPC file holds: its record batches, and the dictionaries that are read before any of them."""

    batches: list[BatchMessage]
    dictionaries: list[BatchMessage]
    little_endian: bool


@dataclass(frozen=True)
class Block:
    """A message of an Arrow IPC stream: whether it is a record batch, where it begins, and its bytes."""

    batch: bool
    at: int
    length: int


#: The kinds of messages of an Arrow IPC stream.
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3


def arrow_batches(stream: BinaryIO) -> Messages:
    """What the batches of an Arrow IPC file say of themselves.

    Raises:
        ValueError, struct.error: a footer or a message that cannot be read.
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - 10))
    tail = stream.read(10)
    length = struct.unpack_from("<i", tail)[0] if len(tail) == 10 else -1
    if tail[4:] != b"ARROW1" or not 0 < length <= min(size - 10, _MOST_METADATA):
        raise ValueError("the footer of the file is missing")
    stream.seek(size - 10 - length)
    footer = _root(stream.read(length))
    schema = footer.table(1)
    if schema is None:
        raise ValueError("a file without a schema")
    dictionaries, batches = (footer.structs(field, "qi4xq") for field in (2, 3))
    return Messages(
        [_message(stream, size, *block, dictionary=False) for block in batches],
        [_message(stream, size, *block, dictionary=True) for block in dictionaries],
        little_endian=schema.number(0, "h") == 0,
    )


def stream_batches(stream: BinaryIO) -> tuple[Messages, list[Block]]:
    """What the batches of an Arrow IPC stream say of themselves, and where each message lies, the schema's first.

    Raises:
        ValueError, struct.error: a message that cannot be read.
    """
    size = stream.seek(0, 2)
    blocks: list[Block] = []
    found: dict[int, list[BatchMessage]] = {_DICTIONARY: [], _BATCH: []}
    little_endian = True
    at = 0
    while at < size:  # a stream may end without saying so
        stream.seek(at)
        start = stream.read(8)
        length = struct.unpack("<4xi", start)[0] if start[:4] == b"\xff\xff\xff\xff" and len(start) == 8 else -1
        if length == 0 and blocks:
            break
        if not 0 < length <= min(size - at - 8, _MOST_METADATA):
            raise ValueError("a message outside the stream")
        message = _root(stream.read(length))
        kind, body, header = message.number(1, "B"), message.number(3, "q"), message.table(2)
        if header is None or (kind == _SCHEMA) != (not blocks) or kind not in (_SCHEMA, *found):
            raise ValueError("a message in a place where it does not belong")
        if kind == _SCHEMA:
            little_endian = header.number(0, "h") == 0
        else:
            found[kind].append(_message(stream, size, at, 8 + length, body, dictionary=kind == _DICTIONARY))
        if not 0 <= body <= size - at - 8 - length:
            raise ValueError("a message outside the stream")
        blocks.append(Block(kind == _BATCH, at, 8 + length + body))
        at += 8 + length + body
    if not blocks:
        raise ValueError("a stream without a schema")
    return Messages(found[_BATCH], found[_DICTIONARY], little_endian), blocks


def _root(data: bytes) -> _Flat:
    return _Flat(data, struct.unpack_from("<I", data)[0])


def _message(stream: BinaryIO, size: int, at: int, header: int, body: int, *, dictionary: bool) -> BatchMessage:
    """The batch in a block of the file, a dictionary's for one."""
    if not 8 <= header <= _MOST_METADATA or at < 0 or body < 0 or at + header + body > size:
        raise ValueError("a batch outside the file")
    stream.seek(at)
    data = stream.read(header)
    skipped = 8 if data[:4] == b"\xff\xff\xff\xff" else 4
    found: _Flat | None = _root(data[skipped:]).table(2)
    if found is not None and dictionary:
        found = found.table(1)
    if found is None:
        raise ValueError("a message without a batch")
    compressed = found.table(3) is not None
    buffers = []
    for offset, length in found.structs(2, "qq"):
        if offset < 0 or length < 0 or offset + length > body:
            raise ValueError("a buffer outside its batch")
        place = at + header + offset
        inflated = length
        if compressed and length >= 8:
            stream.seek(place)
            declared = struct.unpack("<q", stream.read(8))[0]
            inflated = length - 8 if declared == -1 else declared
        if inflated < 0:
            raise ValueError("a buffer of a negative size")
        buffers.append(Buffer(place, length, inflated))
    rows = found.number(0, "q")
    if rows < 0:
        raise ValueError("a batch with a negative number of rows")
    return BatchMessage(rows, compressed, tuple(buffers), tuple(count for (count,) in found.structs(4, "q")))
