"""Command line of the fuzz: prints a table, one row per format, and the cases that went wrong; status 1 if any did."""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from pathlib import Path

from rich.console import Console

from benchmarks.fuzz_images.damage import case
from benchmarks.fuzz_images.originals import originals
from benchmarks.fuzz_images.report import table_of, what_is_wrong
from benchmarks.fuzz_images.trial import PICTURE, REFUSED
from benchmarks.fuzz_images.watched import SECONDS, Verdict, verdicts

MOST_MEMORY = 2 << 30


def wrong(verdict: Verdict) -> str | None:
    """What is wrong with a verdict; None where nothing is."""
    return what_is_wrong(verdict, (PICTURE, REFUSED), MOST_MEMORY)


def main() -> int:
    """Runs the cases."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_images", description="Fuzzes every image decoder.")
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the files that went wrong are kept")
    chosen = parser.parse_args()
    sound = originals()
    found: dict[str, list[Verdict]] = defaultdict(list)
    failures: list[Verdict] = []
    for verdict in verdicts(range(chosen.first, chosen.first + chosen.cases), chosen.seed, sound):
        found[verdict.format].append(verdict)
        if wrong(verdict):
            failures.append(verdict)
            damaged = case(verdict.number, chosen.seed, sound)
            print(f"case {verdict.number}, {damaged.original.name} {damaged.fragment}: {wrong(verdict)}", flush=True)
            if chosen.keep:
                chosen.keep.mkdir(parents=True, exist_ok=True)
                (chosen.keep / f"{verdict.number}-{damaged.original.name}").write_bytes(damaged.data)
    files = Counter(original.format for original in sound)
    table = table_of(found, files, {PICTURE: "pictures", REFUSED: "refused"}, wrong)
    Console().print(table)
    print(f"{len(failures)} of {chosen.cases:,} cases went wrong (seed {chosen.seed}, a hang is {SECONDS:g} s)")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
