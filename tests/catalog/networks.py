"""Small networks and files for the catalog's tests."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn


class SmallNet(nn.Module):
    """[N, 3, 16, 16] -> [N, 5], 145 parameters, with batch norm and dropout so that the mode matters."""

    def __init__(self, classes: int = 5, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm(self.stem(images))).mean((2, 3))
        return self.head(self.drop(features))


class Pair(nn.Module):
    """Returns two tensors, which no classifier should."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images.mean((2, 3)), images


def small_net(seed: int = 0, **arguments: int) -> SmallNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallNet(**arguments).eval()


def export(module: nn.Module, path: Path, side: int = 16, channels: int = 3, dynamic: bool = True) -> str:
    """Saves a module as an exported program; returns the path as text."""
    example = torch.zeros(2 if dynamic else 1, channels, side, side)
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), path)
    return str(path)


def rewrite(path: str, change: Callable[[dict[str, bytes]], None]) -> None:
    """Rewrites the records of an archive in place; `change` gets them by name behind the archive's folder."""
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(f"{folder}/{name}", data)


def change_json(path: str, record: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrites one JSON record of an archive in place."""

    def apply(records: dict[str, bytes]) -> None:
        value = json.loads(records[record])
        change(value)
        records[record] = json.dumps(value).encode()

    rewrite(path, apply)


class Payload:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.marker,)


def pickled_payload(marker: Path) -> bytes:
    """What torch.save writes of a payload."""
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2), "extra": Payload(marker)}, buffer)
    return buffer.getvalue()
