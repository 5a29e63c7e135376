"""What a fuzz found: which verdicts are wrong, and a table with one row per format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from rich.table import Table

from benchmarks.fuzz_images.watched import Verdict


def what_is_wrong(verdict: Verdict, right: Iterable[str], most_memory: int) -> str | None:
    """What is wrong with a verdict; None where nothing is.

    Args:
        right: the outcomes that are right.
        most_memory: bytes that a case may take.
    """
    if verdict.outcome not in right:
        return verdict.outcome
    if verdict.memory > most_memory:
        return f"{verdict.memory / 2**30:.2f} GiB of memory"
    return None


def table_of(
    found: Mapping[str, Sequence[Verdict]],
    files: Counter[str],
    outcomes: Mapping[str, str],
    wrong: Callable[[Verdict], str | None],
) -> Table:
    """The table.

    Args:
        found: the verdicts by format.
        files: how many sound files each format has.
        outcomes: the heading of each outcome that is right.
    """
    table = Table("format", "files", "cases", *outcomes.values(), "wrong", "slowest", "memory")
    for format, each in sorted(found.items()):
        counts = Counter(verdict.outcome for verdict in each)
        table.add_row(
            format,
            str(files[format]),
            f"{len(each):,}",
            *(f"{counts[outcome]:,}" for outcome in outcomes),
            str(sum(wrong(verdict) is not None for verdict in each)),
            f"{max(verdict.seconds for verdict in each):.1f} s",
            f"{max(verdict.memory for verdict in each) / 2**20:,.0f} MiB",
        )
    return table
