"""Safetensors files: read as the safetensors package reads them, or refused before memory is taken for their claims."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from kryptondb.files.schema import Unfit
from kryptondb.files.tensors import DTYPES, header_of, open_tensors

MOST = 1 << 20


def tensors_of_every_kind() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    made = {name: torch.randint(0, 2, (2, 3, 5)).to(dtype) for name, dtype in DTYPES.items()}
    return {**made, "odd": torch.arange(3, dtype=torch.uint8), "none": torch.zeros(0, 4), "number": torch.tensor(1.5)}


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.flatten().view(torch.uint8).tolist())


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with open_tensors(path, MOST) as file:
        return file.read(), file.metadata


def test_tensors_of_every_kind_are_read_as_the_package_reads_them(tmp_path: Path) -> None:
    path, tensors = tmp_path / "a.safetensors", tensors_of_every_kind()
    data = save(tensors, metadata={"format": "pt"})
    path.write_bytes(data)
    found, metadata = read(path)
    assert metadata == {"format": "pt"} and found.keys() == tensors.keys()
    for name, wanted in load(data).items():
        assert found[name].dtype == wanted.dtype and found[name].shape == wanted.shape
        assert raw(found[name]) == raw(wanted)


def test_what_is_written_the_package_reads(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in tensors_of_every_kind().items() if tensor.numel() % 2 == 0}
    data = header_of(tensors, {"a": "b"}) + b"".join(raw(tensor) for tensor in tensors.values())
    found = load(data)
    assert all(raw(found[name]) == raw(tensor) for name, tensor in tensors.items())
    (tmp_path / "a.safetensors").write_bytes(data)
    assert read(tmp_path / "a.safetensors")[1] == {"a": "b"}


def test_a_file_without_metadata_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for header in (b"{}", b'{"__metadata__":null}'):
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        assert read(path) == ({}, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": "Q4"}, "Q4"),
        ({"dtype": "F64"}, "64 bytes do not lie"),
        ({"shape": [-1]}, "a whole number"),
        ({"shape": [1 << 39, 1 << 39]}, "bytes do not lie"),
        ({"shape": 8}, "a list"),
        ({"data_offsets": [0, 64]}, "32 bytes do not lie"),
        ({"data_offsets": [32, 64]}, "32 bytes do not lie"),
        ({"data_offsets": [-32, 0]}, "a whole number"),
        ({"data_offsets": [0]}, "a list of 2"),
        ({"shape": [0], "data_offsets": [0, 0]}, "its tensors would be 0 bytes of 32"),
        ({"more": 1}, "unknown"),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "a.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]} | change}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(32))
    with pytest.raises(Unfit, match=said):
        read(path)


def test_a_file_that_is_cut_short_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"w": torch.zeros(100_000)}))
    with open_tensors(path, MOST) as file, path.open("r+b") as stream:
        stream.truncate(200_000)
        with pytest.raises(Unfit, match="cut short"):
            file.read()


def test_whatever_is_damaged_is_read_or_refused(tmp_path: Path) -> None:
    path, chance = tmp_path / "a.safetensors", random.Random(0)
    whole = save({"w": torch.zeros(3, 4), "b": torch.zeros(4, dtype=torch.int64)})
    for _ in range(300):
        damaged = bytearray(whole[: chance.choice((len(whole), len(whole), chance.randrange(1, len(whole))))])
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            read(path)
        except Unfit:
            continue
