"""Rounds: which cells of the grid are measured, so that a minute's sample stands for the whole map.

A round is a band of grid rows as high as one tile of the plan, over all columns. `incremental` computes the whole
band, and so cuts it into the very tiles of a query over the whole grid, those at the left and right border included.
Bands at the upper and lower border are cheaper than the others (regions are cut off there), so the bands are sorted by
their cost, cut into as many groups as there are rounds, and one of each group taken so that their mean is the grid's.
Where large tiles leave fewer bands than rounds, bands run more than once. Contenders that run whole inferences pay the
same at every position; they compute cells spread evenly over the band.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kryptondb.executor.tiles.tiles import tiles_of
from kryptondb.network import Grid
from kryptondb.optimizer.workload import Runs, runs_of_mask

POSITIONS_A_ROUND = 64  # one batch of `full`, four of 16


@dataclass(frozen=True, eq=False)
class Round:
    """One turn for every contender.

    Attributes:
        band: every cell of a band of rows.
        cells: some cells of the band, int64 [n, 2] of row and column.
        runs: the same cells as runs.
    """

    band: Runs
    cells: np.ndarray
    runs: Runs


def bands_of(grid: Grid, tile: tuple[int, int]) -> list[Runs]:
    """The grid's rows of tiles."""
    rows = {int(part.rows[0]): part.rows for part in tiles_of(np.ones((grid.rows, grid.cols), dtype=bool), tile)}
    return [tuple((int(row), 0, grid.cols - 1) for row in band) for _, band in sorted(rows.items())]


def plan_rounds(grid: Grid, tile: tuple[int, int], positions: int, cost: Callable[[Runs], float]) -> list[Round]:
    """Rounds that together hold about `positions` cells, the bands that they are drawn from as dear as the whole grid.

    Args:
        tile: rows and columns of the plan's tiles.
        cost: of one position in a band, in any unit.
    """
    bands = bands_of(grid, tile)
    room = min(sum(last - first + 1 for _, first, last in band) for band in bands)
    count = max(1, round(positions / POSITIONS_A_ROUND), min(len(bands), -(-positions // room)))
    times, rest = divmod(count, len(bands))  # of a plan with large tiles all bands run, and more than once
    chosen = list(range(len(bands))) * times + representatives([cost(band) for band in bands], rest)
    shares = [len(part) for part in np.array_split(np.arange(positions), count)]
    return [_round(grid, bands[number], share) for number, share in zip(chosen, shares, strict=True)]


def representatives(each: Sequence[float], count: int) -> list[int]:
    """Which `count` of some bands stand for all of them, given the cost of each: their mean is the mean of all."""
    costs = np.array(each)
    chosen: list[int] = []
    if count == 0:
        return chosen
    owed = 0.0  # what the bands taken so far cost less than those that they stand for
    for alike in np.array_split(np.argsort(costs, kind="stable"), count):
        owed += float(costs[alike].mean())
        best = min(alike.tolist(), key=lambda number: abs(owed - costs[number]))
        owed -= float(costs[best])
        chosen.append(best)
    return sorted(chosen)


def _round(grid: Grid, band: Runs, share: int) -> Round:
    cells = np.array([(row, col) for row, first, last in band for col in range(first, last + 1)], dtype=np.int64)
    share = min(share, len(cells))
    cells = cells[((np.arange(share) + 0.5) * len(cells) / share).astype(np.int64)]
    return Round(band, cells, runs_of_cells(grid, cells))


def runs_of_cells(grid: Grid, cells: np.ndarray) -> Runs:
    """Cells [n, 2] of row and column as runs."""
    mask = np.zeros((grid.rows, grid.cols), dtype=bool)
    mask[cells[:, 0], cells[:, 1]] = True
    return runs_of_mask(mask)
