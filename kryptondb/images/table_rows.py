"""Single rows of an uncompressed Arrow batch, read where they lie: a batch may be larger than the memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa

    from kryptondb.images.table_sizes import Buffer


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
        there = not validity.stored or _read(stream, validity, row // 8, 1)[0] >> row % 8 & 1
        if types.is_struct(kind):
            parts = {part.name: self._value(stream, part.type, buffers, row) for part in kind}
            return parts if there else None
        if types.is_fixed_size_binary(kind):
            start, end, data = row * kind.byte_width, (row + 1) * kind.byte_width, next(buffers)
        else:
            width, form = (8, "<2q") if types.is_large_binary(kind) or types.is_large_string(kind) else (4, "<2i")
            offsets, data = next(buffers), next(buffers)
            start, end = struct.unpack(form, _read(stream, offsets, row * width, 2 * width)) if there else (0, 0)
        if not there:
            return None
        if end - start > self._most:
            raise ValueError(f"a value of {end - start:,} bytes is more than the {self._most:,} that are read")
        value = _read(stream, data, start, end - start)
        return value.decode() if types.is_string(kind) or types.is_large_string(kind) else value


def of(field: pa.Field, buffers: Sequence[Buffer], most: int) -> Rows | None:
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


def _read(stream: BinaryIO, buffer: Buffer, start: int, length: int) -> bytes:
    """Bytes of a buffer. ValueError where it does not hold them."""
    if start < 0 or length < 0 or start + length > buffer.stored:
        raise ValueError("a value outside its buffer")
    stream.seek(buffer.at + start)
    found = stream.read(length)
    if len(found) != length:
        raise ValueError("the file ends in a value")
    return found
