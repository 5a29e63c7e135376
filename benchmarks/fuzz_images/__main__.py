"""Command line of the fuzz: prints a table, one row a format, and the cases that went wrong; status 1 if any did."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.fuzz_images.damage import case
from benchmarks.fuzz_images.originals import originals
from benchmarks.fuzz_images.trial import PICTURE, REFUSED
from benchmarks.fuzz_images.watched import SECONDS, Verdict, verdicts

MOST_MEMORY = 2 << 30


def wrong(verdict: Verdict) -> str | None:
    """What is wrong with a verdict; None where nothing is."""
    if verdict.outcome not in (PICTURE, REFUSED):
        return verdict.outcome
    if verdict.memory > MOST_MEMORY:
        return f"{verdict.memory / 2**30:.2f} GiB of memory"
    return None


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
    table = Table("format", "files", "cases", "pictures", "refused", "wrong", "slowest", "memory")
    for format, each in sorted(found.items()):
        outcomes = [verdict.outcome for verdict in each]
        table.add_row(
            format,
            str(sum(original.format == format for original in sound)),
            f"{len(each):,}",
            f"{outcomes.count(PICTURE):,}",
            f"{outcomes.count(REFUSED):,}",
            str(sum(wrong(verdict) is not None for verdict in each)),
            f"{max(verdict.seconds for verdict in each):.1f} s",
            f"{max(verdict.memory for verdict in each) / 2**20:,.0f} MiB",
        )
    Console().print(table)
    print(f"{len(failures)} of {chosen.cases:,} cases went wrong (seed {chosen.seed}, a hang is {SECONDS:g} s)")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
