"""Whether memory grows with the number of images: a folder of small pictures, copied as maps, watched all the while.

    python -m benchmarks.many_images --images 2000

The same folder is explained twice, into a folder of Parquet files and row by row. What counts is the memory that the
process holds in the second tenth of each run, when all that is needed once is there, beside the most that it holds in
the last tenth. Ends with status 1 where it has grown by more than 16 MiB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import kryptondb
from benchmarks.killed_batch import SIDE, make_pictures
from benchmarks.machine import describe_machine
from benchmarks.report import Sheet, add_markdown_option, command_line, console, show, write_section
from kryptondb.process.memory import resident_memory

GROWTH = 16 << 20  # bytes: what allocators keep for reasons of their own
_EVERY = 0.02  # seconds


@dataclass(frozen=True)
class Watched:
    """One run.

    Attributes:
        name: what ran.
        images: how many pictures were explained.
        seconds: how long it took.
        early, late: the most bytes of memory in the second and in the last tenth of that time.
    """

    name: str
    images: int
    seconds: float
    early: int
    late: int

    @property
    def sound(self) -> bool:
        """Whether memory stayed what it was."""
        return self.late - self.early <= GROWTH

    def row(self) -> list[str]:
        """Its line of the table."""
        sizes = [f"{size / 1e6:.1f}" for size in (self.early, self.late, self.late - self.early)]
        each = f"{(self.late - self.early) / self.images / 1000:.2f}"
        return [self.name, f"{self.images:,}", f"{self.images / self.seconds:.0f}", *sizes, each]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 where memory has grown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="how many pictures (%(default)s)")
    add_markdown_option(parser)
    options = parser.parse_args(arguments)
    if options.images < 1:
        parser.error("--images must be at least 1")
    with tempfile.TemporaryDirectory() as scratch:
        watched = runs(Path(scratch), options.images)
    result = Sheet(
        f"Pictures of {SIDE} x {SIDE}, patch 8, stride 4. Memory in MB, the most in the second and last tenth of "
        "a run, and by how much it grew, in all and in kB per image.",
        ["<run", "images", "images/s", "early", "late", "grown", "kB per image"],
        [each.row() for each in watched],
    )
    show(console(), result)
    if options.markdown is not None:
        line = command_line("benchmarks.many_images", sys.argv[1:] if arguments is None else arguments)
        write_section(options.markdown, line, describe_machine("cpu"), [result])
    return 0 if all(each.sound for each in watched) else 1


def runs(scratch: Path, images: int) -> list[Watched]:
    """Both ways to read a folder of this many pictures."""
    make_pictures(scratch / "pictures", images)
    query = f"SELECT HEATMAP FROM occlude(net, '{scratch / 'pictures'}', patch => 8, stride => 4)"
    with kryptondb.connect() as db:
        torch.manual_seed(0)
        db.register("net", _network(), size=SIDE)
        db.sql(query + " LIMIT 1").arrow()  # what only the first query needs

        def stream() -> int:
            return sum(batch.num_rows for batch in db.sql(query).batches())

        def copy() -> int:
            db.sql(f"COPY ({query}) TO '{scratch / 'maps'}/' (FORMAT parquet)")
            return images

        return [watch("COPY to Parquet files", copy), watch("rows one by one", stream)]


def watch(name: str, work: Callable[[], int]) -> Watched:
    """Runs something that explains pictures, and looks at the memory all the while."""
    samples: list[tuple[float, int]] = []
    done = threading.Event()

    def sample() -> None:
        found = resident_memory()
        if found is not None:
            samples.append((time.perf_counter(), found.now - found.files))

    def look() -> None:
        while not done.wait(_EVERY):
            sample()

    watcher = threading.Thread(target=look, daemon=True)
    began = time.perf_counter()
    watcher.start()
    try:
        images = work()
    finally:
        done.set()
        watcher.join()
        sample()
    seconds = time.perf_counter() - began

    def most(first: float, last: float) -> int:
        return max((size for at, size in samples if first <= (at - began) / seconds <= last), default=0)

    return Watched(name, images, seconds, most(0.1, 0.2), most(0.9, 1.0))


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
    ).eval()  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
