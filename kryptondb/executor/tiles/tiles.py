"""A grid cut into tiles: blocks of neighboring positions that run as one batch, with one region size per node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from kryptondb.network import Network
from kryptondb.network.regions import Regions, Spans
from kryptondb.optimizer.grid_cells import numbered

#: What a run of rows or columns costs by itself, in positions.
_COST_OF_A_RUN = 0.5
#: On a longer axis only this many positions at both ends, where the border cuts regions off, are cut with care.
_LONG, _ENDS = 256, 48
#: A block of the grid whose tiles fill less of it, in the mean, is none: a tile of few cells costs almost as much.
_LEAST_FILLED = 0.5


@dataclass(frozen=True, eq=False)
class Tile:
    """Every pair of some grid rows and some grid columns; int64 arrays of indices into the grid."""

    scattered: ClassVar[bool] = False
    rows: np.ndarray
    cols: np.ndarray

    @property
    def size(self) -> int:
        """How many positions."""
        return len(self.rows) * len(self.cols)

    @property
    def asked(self) -> Tile:
        """The cells that the tile answers, each of them once."""
        return self

    def answers(self, values: torch.Tensor) -> torch.Tensor:
        """Values of all positions [size, ...] -> those of the cells asked for."""
        return values

    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of every position, in reading order; int64 [size] each."""
        return np.repeat(self.rows, len(self.cols)), np.tile(self.cols, len(self.rows))

    def halves(self) -> Sequence[Tile]:
        """Two tiles of half the size, cut across the longer side; a tile of one position gives itself."""
        if self.size < 2:
            return [self]
        if len(self.rows) >= len(self.cols):
            return [Tile(part, self.cols) for part in np.array_split(self.rows, 2)]
        return [Tile(self.rows, part) for part in np.array_split(self.cols, 2)]


@dataclass(frozen=True, eq=False)
class ScatteredTile(Tile):
    """Positions without a pattern: the first row with the first column, the second with the second, ..."""

    scattered: ClassVar[bool] = True

    @property
    def size(self) -> int:
        return len(self.rows)

    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        return self.rows, self.cols

    def halves(self) -> Sequence[Tile]:
        if self.size < 2:
            return [self]
        parts = zip(np.array_split(self.rows, 2), np.array_split(self.cols, 2), strict=True)
        return [ScatteredTile(rows, cols) for rows, cols in parts]


def tiles_of(
    mask: np.ndarray, shape: tuple[int, int], extents: Extents | None = None, at_once: int = 1
) -> Iterator[Tile]:
    """Tiles of at most `shape` rows by columns that hold every cell of the mask [rows, cols] once, and no other.

    With `extents`, tiles are cut where the sizes of regions change: at the border of a picture, where regions are cut
    off, tiles are their own. Else they are as equal as can be. Where the mask has no pattern that would fill tiles,
    cells whose regions are of like sizes are put together, wherever they lie; of these `at_once` run side by side.
    """
    used_rows, used_cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if extents is None:
        all_rows, all_cols = even(used_rows, shape[0]), even(used_cols, shape[1])
    else:
        all_rows, all_cols = extents.cut(used_rows, shape[0], 0), extents.cut(used_cols, shape[1], 1)
    cells = mask[np.ix_(used_rows, used_cols)]
    if extents is None:
        for rows, cols, part in blocks(cells, all_rows, all_cols):
            yield from crossed(cells[part], rows, cols)
    else:
        yield from tiles_of_runs(cells, all_rows, all_cols, shape[0] * shape[1], extents, at_once)


def tiles_of_runs(
    cells: np.ndarray,
    all_rows: Sequence[np.ndarray],
    all_cols: Sequence[np.ndarray],
    size: int,
    extents: Extents,
    at_once: int = 1,
) -> Iterator[Tile]:
    """Tiles of at most `size` cells that hold the cells of these runs of rows and columns that are asked for.

    Args:
        cells: which pairs of the runs' rows and columns are, boolean [rows, cols].
    """
    scattered = np.zeros_like(cells)
    for rows, cols, part in blocks(cells, all_rows, all_cols):
        tiles = list(crossed(cells[part], rows, cols))
        if len(tiles) * _LEAST_FILLED * len(rows) * len(cols) <= sum(tile.size for tile in tiles):
            yield from tiles
        else:
            scattered[part] = cells[part]
    rows, cols = np.nonzero(scattered)
    if len(rows):
        yield from gathered(np.concatenate(all_rows)[rows], np.concatenate(all_cols)[cols], size, extents, at_once)


def gathered(
    rows: np.ndarray, cols: np.ndarray, size: int, extents: Extents, at_once: int = 1
) -> Iterator[ScatteredTile]:
    """Tiles of at most `size` cells that hold the cells at these places once, those of like regions together.

    They are a multiple of those that run at once, and as equal as can be: none runs alone while others wait for it.
    """
    heights, widths = extents.work
    order = np.lexsort((cols, rows, widths[cols], heights[rows]))
    for part in even(order, size, at_once):
        yield ScatteredTile(rows[part], cols[part])


def blocks(
    cells: np.ndarray, all_rows: Sequence[np.ndarray], all_cols: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[slice, slice]]]:
    """Every run of rows with every run of columns, and where it lies in the cells of all of them."""
    row = 0
    for rows in all_rows:
        col = 0
        for cols in all_cols:
            yield rows, cols, (slice(row, row + len(rows)), slice(col, col + len(cols)))
            col += len(cols)
        row += len(rows)


def crossed(cells: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> Iterator[Tile]:
    """Tiles of some rows and columns that hold every pair of them that is asked for [rows, cols] once, and no other."""
    patterns: dict[bytes, list[int]] = {}
    every, length = cells.tobytes(), cells.shape[1]
    for place in np.flatnonzero(cells.any(axis=1)).tolist():
        patterns.setdefault(every[place * length : (place + 1) * length], []).append(place)
    for places in patterns.values():
        yield Tile(rows[places], cols[cells[places[0]]])


def even(indices: np.ndarray, size: int, multiple: int = 1) -> list[np.ndarray]:
    """Runs of at most `size`, as equal as can be: 53 in runs of at most 8 are 4 of 8 and 3 of 7.

    Their number is a multiple of `multiple`, where there are enough indices.
    """
    runs = -(-len(indices) // (size * multiple)) * multiple
    return [] if not len(indices) else np.array_split(indices, min(runs, len(indices)))


@dataclass(frozen=True, eq=False)
class Distinct:
    """Which columns of a matrix are equal.

    Attributes:
        class_of: the class of each column, int64 [columns].
        examples: a column of each class, int64 [classes].
    """

    class_of: np.ndarray
    examples: np.ndarray


def distinct(columns: np.ndarray) -> Distinct:
    """Puts equal columns of an int64 matrix into one class."""
    class_of = numbered([line.tobytes() for line in np.ascontiguousarray(columns.T)])
    return Distinct(class_of, np.unique(class_of, return_index=True)[1])


@dataclass(frozen=True, eq=False)
class AxisSpans:
    """The spans of all nodes of a network along one axis. Most nodes share them with others: each is held once.

    Attributes:
        of_node: which of the spans each node has, int64 [nodes].
        first: where each of them begins, for each position of the grid, int64 [positions, spans].
        sizes: how many cells each has, int64 [positions, spans].
    """

    of_node: np.ndarray
    first: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, of_nodes: Sequence[Spans | None], count: int, lengths: Sequence[int]) -> AxisSpans:
        """Of the spans of each node for so many positions; a node without any spans its whole length."""
        numbers: dict[bytes | int, int] = {}
        some: list[tuple[np.ndarray, np.ndarray]] = []
        of_node = []
        for spans, length in zip(of_nodes, lengths, strict=True):
            known = length if spans is None else spans.first.tobytes() + spans.last.tobytes()
            number = numbers.setdefault(known, len(some))
            if number == len(some):
                whole = np.zeros(count, dtype=np.int64), np.full(count, length, dtype=np.int64)
                some.append(whole if spans is None else (spans.first, spans.sizes))
            of_node.append(number)
        first, sizes = (np.stack(part, axis=1) for part in zip(*some, strict=True))
        return cls(np.array(of_node, dtype=np.int64), first, sizes)

    def of_nodes(self, of_spans: np.ndarray) -> np.ndarray:
        """What is given for the spans, [n, spans], for every node: [nodes, n]."""
        found: np.ndarray = np.ascontiguousarray(of_spans.T)[self.of_node]
        return found


@dataclass(frozen=True, eq=False)
class Extents:
    """The spans of all nodes of a network over a grid, so that a tile's geometry is one indexing operation.

    Nodes without a region span their whole value.
    """

    regions: Regions

    @property
    def network(self) -> Network:
        """The network they belong to."""
        return self.regions.network

    @cached_property
    def heights(self) -> np.ndarray:
        """Rows of each node's value, int64 [nodes]."""
        return np.array([node.height for node in self.network.nodes], dtype=np.int64)

    @cached_property
    def widths(self) -> np.ndarray:
        """Columns of each node's value, int64 [nodes]."""
        return np.array([node.width for node in self.network.nodes], dtype=np.int64)

    @cached_property
    def spans(self) -> tuple[AxisSpans, AxisSpans]:
        """The spans along the grid's rows, and along its columns: one object where these are alike."""
        grid = self.regions.grid
        y = AxisSpans.of(self.regions.y, grid.rows, self.heights.tolist())
        x = AxisSpans.of(self.regions.x, grid.cols, self.widths.tolist())
        alike = all(np.array_equal(getattr(y, name), getattr(x, name)) for name in ("of_node", "first", "sizes"))
        return y, y if alike else x

    @cached_property
    def operations(self) -> np.ndarray:
        """Operations of one location of each node, float64 [nodes]."""
        return np.array([node.flops for node in self.network.nodes], dtype=np.float64)

    @cached_property
    def work(self) -> tuple[np.ndarray, np.ndarray]:
        """How much work each grid row's regions are, and each column's, were they as large as it is along both axes."""
        y, x = (
            along.sizes**2 @ np.bincount(along.of_node, weights=self.operations, minlength=along.sizes.shape[1])
            for along in self.spans
        )
        return y, x

    @cached_property
    def position_sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of each node's region by grid row, and columns by grid column; int64 [nodes, positions] each."""
        y, x = (along.of_nodes(along.sizes) for along in self.spans)
        return y, x

    @property
    def position_firsts(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each node's region begins by grid row, and by grid column; int64 [nodes, positions] each."""
        y, x = (along.of_nodes(along.first) for along in self.spans)
        return y, x

    @cached_property
    def mean_sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of each node's region in the mean over all grid rows, and columns; float64 [nodes] each."""
        y, x = (along.sizes.mean(axis=0)[along.of_node] for along in self.spans)
        return y, x

    @cached_property
    def classes(self) -> tuple[Distinct, Distinct]:
        """Which grid rows have regions of the same sizes in all nodes, and which columns."""
        y, x = self.spans
        of_rows = distinct(y.sizes.T)
        return of_rows, of_rows if x is y else distinct(x.sizes.T)

    def summed(self, indices: np.ndarray, axis: int) -> np.ndarray:
        """The sizes of each node's region, summed over some rows (axis 0) or columns (1); float64 [nodes]."""
        classes, along = self.classes[axis], self.spans[axis]
        counts = np.bincount(classes.class_of[indices], minlength=len(classes.examples))
        found: np.ndarray = (counts @ along.sizes[classes.examples]).astype(np.float64)[along.of_node]
        return found

    def sizes(self, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of each node's region that a tile has in common, its largest; int64 [nodes] each."""
        y, x = (
            along.sizes[indices].max(axis=0)[along.of_node]
            for along, indices in zip(self.spans, (tile.rows, tile.cols), strict=True)
        )
        return y, x

    def sizes_at(self, indices: np.ndarray, axis: int) -> np.ndarray:
        """Rows (columns) of each node's region at some grid rows (axis 0) or columns (1); int64 [nodes, n]."""
        along = self.spans[axis]
        return along.of_nodes(along.sizes[indices])

    def sizes_of_runs(self, runs: Sequence[np.ndarray], axis: int) -> np.ndarray:
        """Rows (axis 0) or columns (1) of each node's region that each run has in common; int64 [nodes, runs]."""
        along = self.spans[axis]
        begins = np.cumsum([0, *map(len, runs[:-1])])
        return along.of_nodes(np.maximum.reduceat(along.sizes[np.concatenate(runs)], begins, axis=0))

    def tile(self, rows: np.ndarray, cols: np.ndarray) -> Tile:
        """The tile of a run of rows and a run of columns."""
        return Tile(rows, cols)

    def computed(self, run: np.ndarray, axis: int) -> np.ndarray:
        """The rows (axis 0) or columns (1) that a tile of this run computes."""
        return run

    def cut(self, indices: np.ndarray, size: int, axis: int) -> list[np.ndarray]:
        """Rows (axis 0) or columns (1) of the grid in runs of at most `size`, so that least work is done twice.

        In the middle of a long axis they are of that size. All of a run take the size of its largest region. A run
        costs its length times the operations that its sizes take, and a little by itself, for smaller batches run less
        well. The cheapest cut is found from the front, by dynamic programming.
        """
        if len(indices) > _LONG:
            middle = (len(indices) - 2 * _ENDS) // size * size
            first, between, last = np.split(indices, [_ENDS, _ENDS + middle])
            return [*self.cut(first, size, axis), *between.reshape(-1, size), *self.cut(last, size, axis)]
        count = len(indices)
        if count == 0:
            return []
        flops = self.operations * self.mean_sizes[1 - axis]
        sizes = self.sizes_at(indices, axis)
        by_itself = _COST_OF_A_RUN * float((flops @ sizes).mean())
        best, begin = [0.0], [0]
        for end in range(1, count + 1):
            starts = range(end - 1, max(-1, end - 1 - size), -1)
            largest = np.maximum.accumulate(sizes[:, end - 1 : (end - 1 - size if end > size else None) : -1], axis=1)
            costs = (flops @ largest) * np.arange(1, len(starts) + 1) + by_itself
            totals = costs + np.array([best[start] for start in starts])
            least = int(totals.argmin())
            best.append(float(totals[least]))
            begin.append(starts[least])
        runs: list[np.ndarray] = []
        end = count
        while end:
            runs.append(indices[begin[end] : end])
            end = begin[end]
        return runs[::-1]

    def of(self, tile: Tile) -> TileExtents:
        """The geometry of one tile: the largest size among its positions, moved back inside the border (29 to 34)."""
        sizes_y, sizes_x = self.sizes(tile)
        y, x = self.spans
        first_y, first_x = y.of_nodes(y.first[tile.rows]), x.of_nodes(x.first[tile.cols])
        ys = np.minimum(first_y, (self.heights - sizes_y)[:, None])
        xs = np.minimum(first_x, (self.widths - sizes_x)[:, None])
        return TileExtents(ys, sizes_y, xs, sizes_x, tile.scattered)


@dataclass(frozen=True, eq=False)
class TileExtents:
    """For every node: where each row's and column's region begins, and the size that is common to the tile.

    Attributes:
        ys: int64 [nodes, tile rows]; xs: int64 [nodes, tile columns].
        heights, widths: int64 [nodes].
        scattered: whether rows and columns go together one by one, not each with each.
    """

    ys: np.ndarray
    heights: np.ndarray
    xs: np.ndarray
    widths: np.ndarray
    scattered: bool = False

    @property
    def positions(self) -> int:
        """How many positions the tile has."""
        rows, cols = self.ys.shape[1], self.xs.shape[1]
        return int(rows if self.scattered else rows * cols)

    @cached_property
    def locations(self) -> np.ndarray:
        """Locations of each node that one position recomputes, int64 [nodes]."""
        locations: np.ndarray = self.heights * self.widths
        return locations


def window_extent(size: int, stride: int, outputs: int) -> int:
    """Cells that `outputs` neighboring outputs of a window operator read along one axis."""
    return size + (outputs - 1) * stride
