"""Which cells are computed first: a coarse lattice over the cells asked for, and no cell outside of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kryptondb.optimizer.grid_cells import CellsByKind
from kryptondb.optimizer.recipe import lattice_lines


@dataclass(frozen=True, eq=False)
class Lattice:
    """Every `step`-th row and column of the smallest rectangle around the cells asked for, and its last ones.

    So each cell lies between four nodes of the lattice. Last ones that lie right beside others are no part of it: what
    is one cell away from a node is not worth a line of its own.

    Attributes:
        asked: boolean [rows, cols].
        step: at least 1.
    """

    asked: np.ndarray
    step: int

    @cached_property
    def rectangle(self) -> tuple[slice, slice]:
        """The smallest rectangle around the cells asked for."""
        return _span(self.asked, 0), _span(self.asked, 1)

    @cached_property
    def rows(self) -> np.ndarray:
        """The lattice's rows, int64 [m]."""
        return _lines(self.rectangle[0], self.step)

    @cached_property
    def cols(self) -> np.ndarray:
        """The lattice's columns, int64 [n]."""
        return _lines(self.rectangle[1], self.step)

    @cached_property
    def nodes(self) -> np.ndarray:
        """The lattice's nodes that are asked for, boolean [rows, cols]."""
        nodes = np.zeros_like(self.asked)
        nodes[np.ix_(self.rows, self.cols)] = self.asked[np.ix_(self.rows, self.cols)]
        return nodes

    @cached_property
    def cells(self) -> np.ndarray:
        """The nodes, and the cells that cannot be interpolated, boolean [rows, cols]."""
        return lattice_cells(CellsByKind.of_mask(self.asked), self.step).mask


def lattice_cells(asked: CellsByKind, step: int) -> CellsByKind:
    """The nodes of a lattice, and the cells that cannot be interpolated.

    A cell is interpolated only where the four nodes around it are asked for, or beyond the last ones those beside it.
    Of a rectangle that holds everywhere; at the edge of another shape it does not.
    """
    if not asked.count:
        return asked
    spans = [slice(int(used[0]), int(used[-1]) + 1) for used in asked.lines]
    sides = () if asked.count == math.prod(span.stop - span.start for span in spans) else ("before", "after")
    lines = [_lines(span, step) for span in spans]
    on_row, on_col = (_is_one_of(*axis) for axis in zip(lines, asked.shape, strict=True))
    rows, cols = (
        [_neighbour(along, np.arange(count), side) for side in sides]
        for along, count in zip(lines, asked.shape, strict=True)
    )

    def held(some_rows: np.ndarray, some_cols: np.ndarray) -> np.ndarray:
        supported = np.ones((len(some_rows), len(some_cols)), dtype=bool)
        for row_nodes in rows:
            for col_nodes in cols:
                supported &= asked.at(row_nodes[some_rows], col_nodes[some_cols])
        nodes = on_row[some_rows][:, None] & on_col[some_cols]
        cells: np.ndarray = asked.at(some_rows, some_cols) & (nodes | ~supported)
        return cells

    of_rows = (on_row.astype(np.int64), asked.rows, *(asked.rows[nodes] for nodes in rows))
    of_cols = (on_col.astype(np.int64), asked.cols, *(asked.cols[nodes] for nodes in cols))
    return CellsByKind.told_by(of_rows, of_cols, held)


def _is_one_of(lines: np.ndarray, count: int) -> np.ndarray:
    """For each place whether it is one of the lines, boolean [count]."""
    found = np.zeros(count, dtype=bool)
    found[lines] = True
    return found


def _span(asked: np.ndarray, axis: int) -> slice:
    """From the first to behind the last row or column that has cells asked for; nothing where none has."""
    places = np.flatnonzero(np.asarray(asked.any(axis=1 - axis)))
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _lines(span: slice, step: int) -> np.ndarray:
    """The rows or columns of such a side of the rectangle that are on the lattice."""
    lines: np.ndarray = span.start + lattice_lines(span.stop - span.start, step)
    return lines


def _neighbour(lines: np.ndarray, places: np.ndarray, side: str) -> np.ndarray:
    """For each place the nearest line that is not after it ('before'), or not before it ('after'); else the last."""
    index = np.searchsorted(lines, places, "right") - 1 if side == "before" else np.searchsorted(lines, places, "left")
    found: np.ndarray = lines[np.minimum(index, len(lines) - 1)]
    return found
