"""Cells that a WHERE clause excludes are not computed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import reduce
from operator import and_

import numpy as np

from kryptondb.grammar.statements import Expression
from kryptondb.network import Grid
from kryptondb.optimizer.evaluate import Array, Values, numbers, truth
from kryptondb.optimizer.expressions import columns_of, conjunction, conjuncts
from kryptondb.optimizer.logical import Context, LogicalPlan, Occlusion
from kryptondb.optimizer.nodes import Filter, PlanNode, Predictions

#: How many cells a condition is evaluated on at once: some ten arrays of float64 are alive meanwhile.
_PLACES_AT_ONCE = 1 << 20


def push_region_into_grid(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Computes only the cells for which a WHERE clause can be true; predictions need none at all.

    Before:  Filter(y BETWEEN 32 AND 96 AND drop > 0.1) < Occlusion(grid 53 x 53)
    After:   Filter(drop > 0.1) < Occlusion(grid 53 x 53, 901 positions)

    Any combination of conditions is evaluated on the grid itself, with what is not known yet (drop, score, ...) as
    "true or false": `y < 32 OR (y > 96 AND drop > 0.1)` leaves the rows between them out. A condition leaves the filter
    only where the grid decides it.
    """

    def push(node: PlanNode) -> PlanNode:
        if isinstance(node, Predictions) and isinstance(node.input, Occlusion):
            return dataclasses.replace(node, input=node.input.asking(runs=()))
        if not isinstance(node, Filter) or not isinstance(node.input, Occlusion):
            return node
        table = node.input
        parts = [(part, _possible(part, table.experiment.grid)) for part in conjuncts(node.predicate)]
        rest = conjunction(part for part, possible in parts if not possible.decided)
        restricted = (
            table
            if table.experiment.runs is not None
            else _restricted(table, [possible.cells for _, possible in parts])
        )
        return restricted if rest is None else Filter(restricted, rest)

    return dataclasses.replace(plan, root=plan.root.transform(push))


@dataclass(frozen=True, eq=False)
class _Possible:
    """Where a condition can be true.

    Attributes:
        cells: boolean, [rows, cols], or [rows, 1], [1, cols] and [1, 1] where it is alike along an axis.
        decided: whether the grid alone decides it, everywhere.
    """

    cells: Array
    decided: bool


def _possible(condition: Expression, grid: Grid) -> _Possible:
    """Evaluates a condition on as few places as it needs; on all cells a block of rows at a time."""
    rows, cols = row_columns(grid), col_columns(grid)
    read = columns_of(condition)
    by_row, by_col = not read.isdisjoint(rows), not read.isdisjoint(cols)
    if not (by_row and by_col):
        known, shape = (rows, (-1, 1)) if by_row else (cols, (1, -1)) if by_col else ({}, (1, 1))
        found = truth(condition, known, len(next(iter(known.values())).data) if known else 1)
        return _Possible(found.true.reshape(shape), found.decided)
    step = max(1, _PLACES_AT_ONCE // grid.cols)
    cells, decided = np.empty((grid.rows, grid.cols), dtype=bool), True
    for first in range(0, grid.rows, step):
        row, col = (axis.ravel() for axis in np.indices(cells[first : first + step].shape))
        known = {name: numbers(values.data[first + row]) for name, values in rows.items()}
        known |= {name: numbers(values.data[col]) for name, values in cols.items()}
        found = truth(condition, known, len(row))
        cells[first : first + step] = found.true.reshape(-1, grid.cols)
        decided = decided and found.decided
    return _Possible(cells, decided)


def _restricted(table: Occlusion, possible: list[Array]) -> Occlusion:
    from kryptondb.optimizer.workload import some_cells

    wanted = reduce(and_, possible)
    if wanted.all():
        return table
    grid = table.experiment.grid
    return table.asking(runs=some_cells(np.broadcast_to(wanted, (grid.rows, grid.cols))))


def row_columns(grid: Grid) -> dict[str, Values]:
    """What is known of each row of cells before anything runs: arrays [rows]."""
    return {"row": numbers(np.arange(grid.rows)), "y": numbers(grid.tops), "height": numbers(grid.heights)}


def col_columns(grid: Grid) -> dict[str, Values]:
    """What is known of each column of cells before anything runs: arrays [cols]."""
    return {"col": numbers(np.arange(grid.cols)), "x": numbers(grid.lefts), "width": numbers(grid.widths)}
