"""What a run has done so far: seconds, operations, positions, images, memory, progress, and the images left out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Stats:
    """Counts that grow while a query runs.

    Attributes:
        seconds: time spent making rows; what the reader of the rows does between them is not counted.
        flops: floating point operations, two a multiply-add.
        positions: patch positions computed, over all images. One position serves all classes.
        images: pictures that were opened and asked about.
        failed: pictures that were left out.
        peak_memory: the most bytes of main memory the process held, weights and libraries included; None where the
            system does not tell, and before the first picture. When the query did not need more than the process had
            held before it, this is the most seen between two tiles.
        rows: rows of the result.
    """

    seconds: float = 0.0
    flops: float = 0.0
    positions: int = 0
    images: int = 0
    failed: int = 0
    peak_memory: int | None = None
    rows: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a query is; one for each tile.

    `done` of `total` positions of the picture `image`, which is number `image_number` (from 1) of `images`, when that
    number is known.
    """

    image: str
    done: int
    total: int
    image_number: int
    images: int | None


@dataclass(frozen=True)
class ImageFailure:
    """A picture that was left out, and why."""

    image: str
    message: str


class MemoryMeter:
    """The peak of the process's resident memory since this meter was made, by what the system counts itself."""

    def __init__(self) -> None:
        self._highest_before, self._peak = _resident()

    def sample(self) -> int | None:
        """Looks once more, and gives the peak in bytes. About 30 microseconds."""
        highest, now = _resident()
        if highest is None or self._highest_before is None:
            return None
        # A new high of the process is one since the meter was made, even if it came and went between two looks.
        self._peak = max(self._peak, now, highest if highest > self._highest_before else 0)
        return self._peak


def _resident() -> tuple[int | None, int]:
    """(highest so far, now) in bytes; (None, 0) where the system does not tell."""
    if sys.platform == "linux":
        try:
            with Path("/proc/self/status").open(encoding="ascii", errors="replace") as status:
                sizes = {
                    line[:6]: int(line.split()[1]) * 1024 for line in status if line.startswith(("VmHWM:", "VmRSS:"))
                }
            return sizes["VmHWM:"], sizes["VmRSS:"]
        except (OSError, KeyError):
            return None, 0
    try:
        import resource
    except ImportError:  # Windows
        return None, 0
    unit = 1 if sys.platform == "darwin" else 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return highest, highest
