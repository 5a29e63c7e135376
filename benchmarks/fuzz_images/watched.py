"""Cases run in a process that is watched: what a case does to the process is kept apart from what it answers."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.fuzz_images.damage import case
from benchmarks.fuzz_images.trial import attempt

SECONDS = 20.0  # after which a case hangs
_STARTING = 600.0  # after which a process that does not begin hangs
_READY = "ready"
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_HAS_SERVER = "forkserver" in multiprocessing.get_all_start_methods()


@dataclass(frozen=True)
class Verdict:
    """What came of one case. `memory` is the most that its process held, in bytes, 0 if that is unknown."""

    number: int
    format: str
    outcome: str
    seconds: float
    memory: int


def verdicts(
    numbers: Sequence[int],
    seed: int,
    originals: Sequence[Any],
    *,
    seconds: float = SECONDS,
    trial: Callable[[Any, Path], str] = attempt,
    make: Callable[[int, int, Sequence[Any]], Any] = case,
) -> Iterator[Verdict]:
    """Runs the cases in order. A process that ends or hangs is replaced, and the next case runs in a new one.

    Args:
        seconds: after which a case hangs.
        trial: runs one case in a folder of its own and says what came of it; a function of a module.
        make: the case of a number, a seed and the originals; a function of a module.
    """
    # Not a copy of this process, whose memory and threads would be the new one's.
    context = multiprocessing.get_context("forkserver" if _HAS_SERVER else "spawn")
    left = list(numbers)
    while left:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, list(left), seed, originals, trial, make), daemon=True)
        process.start()
        theirs.close()
        limit = _STARTING  # of what comes next
        while left:
            began = time.perf_counter()
            answer = None
            with contextlib.suppress(EOFError, ConnectionError):
                answer = ours.recv() if ours.poll(limit) else "hang"
            limit = seconds
            if answer == _READY:
                continue
            if isinstance(answer, Verdict):
                left.pop(0)
                yield answer
                continue
            process.kill() if answer == "hang" else None
            process.join()
            outcome = f"no answer in {seconds:g} seconds" if answer == "hang" else _ending(process.exitcode or 0)
            number = left.pop(0)
            format = make(number, seed, originals).original.format
            yield Verdict(number, format, outcome, time.perf_counter() - began, 0)
            break
        process.join()
        ours.close()


def _ending(code: int) -> str:
    return f"the process ended by {signal.Signals(-code).name}" if code < 0 else f"the process ended with status {code}"


def _work(
    answers: Connection,
    numbers: Sequence[int],
    seed: int,
    originals: Sequence[Any],
    trial: Callable[[Any, Path], str],
    make: Callable[[int, int, Sequence[Any]], Any],
) -> None:
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders in C say what they think of a file
    with tempfile.TemporaryDirectory() as folder:
        answers.send(_READY)
        for number in numbers:
            damaged = make(number, seed, originals)
            _forget_memory()
            began = time.perf_counter()
            outcome = trial(damaged, Path(folder))
            took = time.perf_counter() - began
            answers.send(Verdict(number, damaged.original.format, outcome, took, _most_memory()))


def _forget_memory() -> None:
    """Begins a new measurement of the most memory that this process holds (Linux)."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def _most_memory() -> int:
    """In bytes."""
    with contextlib.suppress(OSError, ValueError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
