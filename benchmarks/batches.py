"""Contenders of given batch sizes: `full` against `incremental`, on CUDA with graphs and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.contenders import Ours
from benchmarks.subject import Subject
from kryptondb.executor.operators import Full, Incremental
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Workload


def of_batches(subject: Subject, workload: Workload, rates: Rates, batches: Sequence[int]) -> list[Ours]:
    """For each size, `full` and `incremental` with that many positions at once, whatever the planner would choose.

    Where the planner replays CUDA graphs, `incremental` runs once with them and once without, on the same tiles.
    """
    contenders: list[Ours] = []
    for batch in batches:
        contenders.append(Ours(subject, Full(batch), whole_bands=False, variant=f"batch {batch}"))
        for plan in Incremental.candidates(workload, rates, {"batch": batch}):
            if not plan.graphs:
                contenders.append(Ours(subject, plan, whole_bands=True, variant=f"batch {batch}"))
                continue
            for graphs in (True, False):
                variant = f"batch {batch}, {'graphs' if graphs else 'no graphs'}"
                contenders.append(Ours(subject, replace(plan, graphs=graphs), whole_bands=True, variant=variant))
    return contenders


def largest_tile(contenders: Sequence[Ours]) -> tuple[int, int]:
    """Rows and columns that hold a tile of any of them, so that no round cuts one short."""
    tiles = [each.operator.tile for each in contenders if isinstance(each.operator, Incremental)]
    return max((rows for rows, _ in tiles), default=8), max((cols for _, cols in tiles), default=8)
