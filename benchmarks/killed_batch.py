"""Whether a batch that is killed loses or repeats anything: killed at random moments, run again, and compared.

    python -m benchmarks.killed_batch --points 50

A process copies the maps of a folder of small pictures into a folder of Parquet files and is killed (SIGKILL): half of
the times at a moment drawn at random, half of the times in the middle of writing, around one of the calls that make a
file appear or last. It is started again, and may be killed again, until a run is let finish. What is in the folder then
must equal what an undisturbed run writes: every picture once, and the same maps.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image
from rich.console import Console
from rich.table import Table

IMAGES = 30
PART = 3  # images of a part, so that there are many
SIDE = 32
_SECONDS = 0.4  # a random kill comes within this time after the first picture
_CALLS = 60  # or within this number of calls that write
_KILLS = 2  # of one batch, at most
_BEGUN = "begun"


def main(arguments: Sequence[str] | None = None) -> int:
    """Kills the batch n times; the exit status is 1 if anything was lost or repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.killed_batch", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=50, help="batches that are killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=3, metavar=("FOLDER", "MAPS", "CALL"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child is not None:
        _child(*options.child)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = list(killed(options.points, options.seed, Path(scratch)))
    table = Table("outcome", "batches")
    for outcome, count in Counter(outcomes).items():
        table.add_row(outcome, f"{count}")
    Console().print(table)
    return 0 if set(outcomes) <= {SOUND, UNHURT} else 1


SOUND, UNHURT = "killed, and sound when run again", "done before the kill, and sound"


def killed(points: int, seed: int, scratch: Path) -> list[str]:
    """What came of each batch: `SOUND`, `UNHURT`, or what is wrong with it."""
    pictures = scratch / "pictures"
    make_pictures(pictures, IMAGES)
    whole = scratch / "whole"
    _start(pictures, whole, 0).wait()
    expected = _rows(whole)
    random_numbers = random.Random(seed)
    outcomes = []
    for point in range(points):
        maps, kills = scratch / f"maps{point}", 0
        for _ in range(random_numbers.randint(1, _KILLS)):
            kills += _killed_once(pictures, maps, random_numbers, by_call=point % 2 == 1)
        status = _start(pictures, maps, 0).wait()
        outcomes.append(_verdict(status, _rows(maps), expected, SOUND if kills else UNHURT))
    return outcomes


def make_pictures(folder: Path, count: int) -> None:
    """Small pictures of noise."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(numbers.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{index:05}.png")


def _killed_once(pictures: Path, maps: Path, random_numbers: random.Random, *, by_call: bool) -> bool:
    """Starts a batch and kills it; whether it was killed before it was done."""
    process = _start(pictures, maps, random_numbers.randint(1, _CALLS) if by_call else 0)
    if not by_call:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random_numbers.uniform(0, _SECONDS))
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _start(pictures: Path, maps: Path, call: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.killed_batch", "--child", str(pictures), str(maps), str(call)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _verdict(status: int, found: dict[str, list[bytes]], expected: dict[str, list[bytes]], otherwise: str) -> str:
    if status:
        return f"the last run ended with status {status}"
    if lost := expected.keys() - found.keys():
        return f"{len(lost)} pictures lost"
    if any(len(maps) > 1 for maps in found.values()):
        return "a picture twice"
    return otherwise if found == expected else "other maps"


def _rows(maps: Path) -> dict[str, list[bytes]]:
    """The maps in a folder, by picture."""
    found: dict[str, list[bytes]] = {}
    for part in sorted(maps.glob("*.parquet")):
        table = pyarrow.parquet.read_table(part)
        storage = table.column("heatmap").combine_chunks()
        for name, heatmap in zip(table.column("image").to_pylist(), storage.to_numpy_ndarray(), strict=True):
            found.setdefault(name, []).append(heatmap.tobytes())
    return found


def _child(pictures: str, maps: str, call: str) -> None:
    """The batch itself; around the `call`-th call that writes it kills itself, with 0 never."""
    import kryptondb
    from kryptondb.copy import parts
    from kryptondb.executor import calibrate
    from kryptondb.optimizer.cost import Rates
    from tests.networks import small_network

    parts._IMAGES = PART
    calibrate.measure = lambda _: Rates()  # what the machine is fast in changes nothing here
    if int(call):
        _die_at(int(call))
    with kryptondb.connect() as db:
        db.register("net", small_network(), size=SIDE, labels=["a", "b", "c"])
        db.sql("SET threads = 1")
        db.sql("SELECT base FROM occlude(net, ?, patch => 8) LIMIT 1", [np.zeros((SIDE, SIDE, 3), np.uint8)]).arrow()
        print(_BEGUN, flush=True)
        query = "SELECT HEATMAP FROM occlude(net, $pictures, patch => 8)"
        db.sql(f"COPY ({query}) TO $maps (FORMAT parquet)", {"pictures": pictures, "maps": maps + "/"})


def _die_at(call: int) -> None:
    """Kills this process just before or just after the `call`-th of its calls that make a file appear or last."""
    left = call

    def around(function):  # type: ignore[no-untyped-def]
        def deadly(*arguments, **options):  # type: ignore[no-untyped-def]
            nonlocal left
            for moment in ("before", "after"):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                if moment == "before":
                    answer = function(*arguments, **options)
            return answer

        return deadly

    os.fsync = around(os.fsync)
    Path.replace = around(Path.replace)  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
