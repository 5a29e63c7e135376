"""A traced network in a file: one safetensors file, its tensors as they are and its nodes as JSON in the metadata.

Nothing in such a file is executed: safetensors holds bytes, and functions are looked up by name. A file is read by the
KryptonDB and the torch that wrote it, and while its checksum holds.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from kryptondb.files.atomic import atomic_file
from kryptondb.files.schema import Unfit, from_json
from kryptondb.files.tensors import ALIGNMENT, MOST_HEADER, header_of, open_tensors
from kryptondb.network.graph import Network
from kryptondb.network.network_json import (
    Unreadable,
    Unwritable,
    items,
    mapping,
    network_from_json,
    network_to_json,
    text,
    whole,
)
from kryptondb.version import __version__

FORMAT = "kryptondb network 1"
MOST_BYTES = 16 << 30

#: What a network may hold; any other is traced anew.
_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


def write_network(network: Network, path: Path) -> None:
    """Writes a traced network; the file appears whole or not at all.

    Raises:
        Unwritable: the network is not traced, or holds something that has no form in a file.
        ExecutionError: the file cannot be written.
    """
    value, tensors = network_to_json(network)
    ordered = {name: _in_memory_order(tensor) for name, tensor in tensors.items()}
    value["orders"] = {name: order for name, (_, order) in ordered.items()}
    # Those that keep the alignment come first; at the end it does not matter.
    stored = dict(sorted(((n, t) for n, (t, _) in ordered.items()), key=lambda item: item[1].nbytes % ALIGNMENT != 0))
    nodes = json.dumps(value, separators=(",", ":"), allow_nan=False)
    metadata = {**_writer(), "network": nodes, "checksum": _checksum(nodes, stored.items())}
    try:
        header = header_of(stored, metadata)
    except Unfit as unfit:
        raise Unwritable(str(unfit)) from unfit
    with atomic_file(path) as stream:
        stream.write(header)
        for tensor in stored.values():
            stream.write(_bytes(tensor))


def read_network(path: Path) -> Network:
    """Reads a network. It has no module.

    Raises:
        Unreadable: the file does not exist, is damaged, is something else, or was written by another version.
    """
    try:
        with open_tensors(path, MOST_BYTES) as file:
            if any(file.metadata.get(key) != wanted for key, wanted in _writer().items()):
                raise Unreadable("another version's file")
            tensors = file.read()
        nodes = file.metadata.get("network", "")
        if file.metadata.get("checksum") != _checksum(nodes, tensors.items()):
            raise Unreadable("a damaged file")
        return decode(from_json(nodes, MOST_HEADER), tensors)
    except Unreadable:
        raise
    except Exception as error:  # torch raises many kinds for nodes that are not what was traced
        raise Unreadable(f"not a file of ours: {error}") from error


def decode(value: Any, tensors: dict[str, torch.Tensor]) -> Network:
    """The network of a file's JSON and tensors. Raises Unreadable where they are not what `write_network` wrote."""
    orders = mapping(mapping(value).pop("orders", None))

    def take(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        tensor = tensors.get(name)
        if tensor is None:
            raise Unreadable("a tensor that is not there")
        order = [whole(place, 0, tensor.ndim - 1) for place in items(orders.get(text(name)), tensor.ndim)]
        if len(set(order)) != tensor.ndim:
            raise Unreadable("a tensor in no known order")
        tensor = tensor.permute(_inverse(order))
        if tuple(tensor.shape) != shape:
            raise Unreadable("a tensor of another shape than its node")
        return tensor

    return network_from_json(value, take)


@functools.lru_cache(maxsize=1)
def _writer() -> dict[str, str]:
    """Who writes: format, versions, and the source of this room, so that a network never outlives what traced it."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return {"format": FORMAT, "kryptondb": __version__, "torch": torch.__version__, "room": digest.hexdigest()}


def _in_memory_order(tensor: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """The tensor with its dimensions as they lie in memory, contiguous, and the order that brought them there.

    Weights of convolutions lie in the order of their images (channels last), and are to be found so again.
    """
    if tensor.dtype not in _DTYPES or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise Unwritable(f"a tensor of {tensor.dtype} on {tensor.device}")
    tensor = tensor.detach()
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda place: -strides[place])
    if not tensor.permute(order).is_contiguous():
        order = list(range(tensor.ndim))
    return tensor.permute(order).contiguous(), order


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _checksum(nodes: str, tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """CRC-32 of nodes and tensors: against damage, and fast enough for every start (half a gigabyte in 0.2 s)."""
    checksum = zlib.crc32(nodes.encode())
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(_bytes(tensor), checksum)
    return f"{checksum:08x}"


def _bytes(tensor: torch.Tensor) -> Any:
    """A contiguous tensor's memory as a buffer."""
    return tensor.flatten().view(torch.uint8).numpy().data if tensor.numel() else b""
