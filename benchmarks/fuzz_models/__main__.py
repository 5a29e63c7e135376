"""Command line of the fuzz: prints a table, one row per format, and the cases that went wrong; status 1 if any did."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from rich.console import Console

from benchmarks.fuzz_images.report import table_of, what_is_wrong
from benchmarks.fuzz_images.watched import SECONDS, Verdict, verdicts
from benchmarks.fuzz_models.damage import case
from benchmarks.fuzz_models.originals import originals
from benchmarks.fuzz_models.trial import REFUSED, TAKEN, attempt

MOST_MEMORY = 3 << 29  # bytes: what torch, onnx and a session take themselves, and the bound of what a file may hold


def wrong(verdict: Verdict) -> str | None:
    """What is wrong with a verdict; None where nothing is."""
    return what_is_wrong(verdict, (TAKEN, REFUSED), MOST_MEMORY)


def main() -> int:
    """Runs the cases."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz_models", description="Fuzzes every reader of models, weights and databases."
    )
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", default="", help="one format only, with as many cases")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the files that went wrong are kept")
    chosen = parser.parse_args()
    sound = [original for original in originals() if chosen.format in ("", original.format)]
    found: dict[str, list[Verdict]] = defaultdict(list)
    failures = 0
    began = time.monotonic()
    numbers = range(chosen.first, chosen.first + chosen.cases)
    for verdict in verdicts(numbers, chosen.seed, sound, trial=attempt, make=case):
        found[verdict.format].append(verdict)
        if wrong(verdict):
            failures += 1
            damaged = case(verdict.number, chosen.seed, sound)
            print(f"case {verdict.number}, {damaged.original.name}: {wrong(verdict)}", flush=True)
            if chosen.keep:
                chosen.keep.mkdir(parents=True, exist_ok=True)
                (chosen.keep / f"{verdict.number}-{damaged.original.name}").write_bytes(damaged.data)
    files = Counter(original.format for original in sound)
    table = table_of(found, files, {TAKEN: "taken", REFUSED: "refused"}, wrong)
    Console().print(table)
    print(
        f"{failures} of {chosen.cases:,} cases went wrong in {time.monotonic() - began:.0f} s"
        f" (seed {chosen.seed}, a hang is {SECONDS:g} s)"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
