"""How a batch went: images done, failed and skipped, and how many a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kryptondb.text.units import bytes_text, counted

if TYPE_CHECKING:
    from kryptondb.copy.parts import Written

_COLUMNS = ("path", "done", "failed", "skipped", "images_a_second", "files", "rows", "bytes")


def status_row(path: str, written: Written) -> tuple[Sequence[str], list[Sequence[object]]]:
    """Names of columns and the one row of what COPY to a folder of Parquet files answers."""
    numbers = written.done, written.failed, written.skipped, written.pace
    return _COLUMNS, [(path, *numbers, written.files, written.rows, written.bytes)]


def status_line(path: str, written: Written) -> str:
    """`maps/: 412 images done, 3 failed, 1,200 there already; 3.1 images a second; 2 files, 41 MB`."""
    images = [f"{counted(written.done, 'image')} done"]
    if written.failed:
        images.append(f"{written.failed:,} failed")
    if written.skipped:
        images.append(f"{written.skipped:,} there already")
    parts = [", ".join(images)]
    if written.done:
        pace = f"{written.pace:,.0f}" if written.pace >= 10 else f"{written.pace:.2g}"
        parts.append(f"{pace} images a second")
        parts.append(f"{counted(written.files, 'file')}, {bytes_text(written.bytes)}")
    return f"{path}: {'; '.join(parts)}"
