"""Cells that a WHERE clause excludes are not computed."""

from __future__ import annotations

import dataclasses

import numpy as np

from kryptondb.optimizer.context import Context
from kryptondb.optimizer.evaluate import Array, Values, decide, numbers
from kryptondb.optimizer.logical import LogicalPlan, Occlusion
from kryptondb.optimizer.relational import Filter, Predictions
from kryptondb.optimizer.tree import PlanNode


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
            return dataclasses.replace(node, input=dataclasses.replace(node.input, runs=()))
        if not isinstance(node, Filter) or not isinstance(node.input, Occlusion):
            return node
        table = node.input
        possible, rest = decide(node.predicate, grid_columns(table), table.grid.rows * table.grid.cols)
        restricted = _restricted(table, possible)
        return restricted if rest is None else Filter(restricted, rest)

    return dataclasses.replace(plan, root=plan.root.transform(push))


def _restricted(table: Occlusion, wanted: Array) -> Occlusion:
    from kryptondb.optimizer.workload import runs_of_mask

    if table.runs is not None or wanted.all():
        return table
    return dataclasses.replace(table, runs=runs_of_mask(wanted.reshape(table.grid.rows, table.grid.cols)))


def grid_columns(table: Occlusion) -> dict[str, Values]:
    """What is known of each cell before anything runs, in reading order: arrays [rows * cols]."""
    grid = table.grid
    row, col = (axis.ravel() for axis in np.meshgrid(np.arange(grid.rows), np.arange(grid.cols), indexing="ij"))
    return {
        "row": numbers(row),
        "col": numbers(col),
        "y": numbers(grid.tops[row]),
        "x": numbers(grid.lefts[col]),
        "height": numbers(grid.heights[row]),
        "width": numbers(grid.widths[col]),
    }
