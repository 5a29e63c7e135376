"""Archives that tests of the catalog change, and what nobody may load."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


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
