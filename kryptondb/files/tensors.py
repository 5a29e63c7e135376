"""Safetensors files, read and written: the length of a header, the header (JSON), then the tensors' bytes one after the
other.

Files are read into memory, not mapped as the safetensors package does: a mapped file that is cut short meanwhile ends
the process. Nothing in a file is executed, and what its header claims is checked before memory is taken for it.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from kryptondb.files.regular import open_regular
from kryptondb.files.schema import Either, Items, Object, OneOf, Row, Text, Unfit, Whole, from_json

MOST_HEADER = 64 << 20  # bytes of JSON; a network of 100,000 tensors needs 15 MB
ALIGNMENT = 64  # bytes: where the first tensor begins, as torch's own memory does

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MOST_AXES = 64
_OFFSET = Whole(0, 1 << 50)
_ENTRY = Object(
    {"dtype": OneOf(*DTYPES), "shape": Items(Whole(0, 1 << 40), most=_MOST_AXES), "data_offsets": Row(_OFFSET, _OFFSET)}
)
_METADATA = Either(OneOf(None), Object(others=Text(most=MOST_HEADER)))
_HEADER = Object(optional={"__metadata__": _METADATA}, others=_ENTRY, keys=Text(most=4096))


class TensorFile:
    """An open safetensors file whose header is read and checked.

    Attributes:
        metadata: what the writer said about it, texts by name.
    """

    def __init__(self, stream: BinaryIO) -> None:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(MOST_HEADER, size - 8):
            raise Unfit(f"its header would be {length:,} bytes of {size:,}")
        header = _HEADER.check(from_json(stream.read(length), MOST_HEADER))
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        self._entries: dict[str, Any] = header
        self._stream, self._bytes = stream, size - 8 - length
        end = 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            begin, after = entry["data_offsets"]
            wanted = math.prod(entry["shape"]) * DTYPES[entry["dtype"]].itemsize
            if begin != end or after - begin != wanted:
                raise Unfit(f"{wanted:,} bytes do not lie from {begin:,} to {after:,}", name)
            end = after
        if end != self._bytes:
            raise Unfit(f"its tensors would be {end:,} bytes of {self._bytes:,}")

    def read(self) -> dict[str, torch.Tensor]:
        """The tensors by name, views of one piece of memory. Raises Unfit where the file was cut short meanwhile."""
        memory = torch.empty(self._bytes, dtype=torch.uint8)
        if self._bytes and self._stream.readinto(memory.numpy().data) != self._bytes:  # type: ignore[attr-defined]
            raise Unfit("it was cut short while it was read")
        return {name: _tensor(memory, entry) for name, entry in self._entries.items()}


@contextmanager
def open_tensors(path: str | Path, most: int) -> Iterator[TensorFile]:
    """A safetensors file.

    Args:
        most: bytes; a larger file is refused.

    Raises:
        OSError: it cannot be opened or read, or is not a regular file of that size.
        Unfit: it is damaged or something else.
    """
    with open_regular(path, most) as stream:
        yield TensorFile(stream)


def header_of(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """What a file begins with that holds these tensors, whose bytes follow in their order.

    Raises Unfit where it is larger than any reader takes.
    """
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-(len(header) + 8) % ALIGNMENT)
    if len(header) > MOST_HEADER:
        raise Unfit(f"a header of {len(header):,} bytes")
    return struct.pack("<Q", len(header)) + header


def _tensor(memory: torch.Tensor, entry: dict[str, Any]) -> torch.Tensor:
    begin, end = entry["data_offsets"]
    dtype = DTYPES[entry["dtype"]]
    data = memory[begin:end]
    if begin % dtype.itemsize:  # torch makes no view there
        data = data.clone()
    return data.view(dtype).view(entry["shape"])
