"""A whole grid's tiles side by side: the sizes of their regions, and the operations that they take.

However many positions a grid has, its tiles are of few kinds: away from the border, regions have the same sizes
everywhere. Costs and memory are computed once per kind, so that planning for a million positions takes little longer
than for a thousand.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import overload

import numpy as np

from kryptondb.executor.tiles.tiles import Extents, Tile, distinct, gathered, tiles_of_runs
from kryptondb.executor.tiles.uniform import UniformExtents
from kryptondb.network import Cap, Grid, Network, Rule
from kryptondb.network.cache import cached_on_network
from kryptondb.network.regions import regions
from kryptondb.optimizer.grid_cells import GridCells, numbered

#: The most kinds of runs that are distinguished along an axis. Where there are more, similar ones are treated as the
#: largest of them, until this many are left.
_MOST_KINDS, _KINDS_LEFT = 56, 40
#: How many tiles, the last to run, are examined one by one: they decide how long workers wait for each other.
_EXAMINED = 4096
#: Cells without a pattern are planned from a sample of the blocks that they lie in: how many blocks and places.
_MOST_BLOCKS, _MOST_CELLS = 1024, 80 * 80
#: Where the sample misses cells that lie far apart, this many rows at a time are searched for some of them.
_ROWS_OF_THIN = 64
#: The sizes of the regions of all nodes are looked up for this many positions at a time.
_POSITIONS_AT_ONCE = 1 << 14
#: A mask of a large grid is read this many rows at a time.
_ROWS_AT_ONCE = 512


@cached_on_network(16)
def extents_of(network: Network, grid: Grid, cap: Cap | None = None) -> Extents:
    """The geometry of a network over a grid, its regions capped or not, kept from query to query."""
    return Extents(regions(network, grid, cap))


@cached_on_network(64)
def tiling_of(
    network: Network,
    grid: Grid,
    cells: GridCells,
    shape: tuple[int, int],
    uniform: bool = False,
    cap: Cap | None = None,
    at_once: int = 1,
) -> Tiling:
    """What the tiles of a query's cells come to, told from a sample of them where there are many without a pattern.

    Arguments and tiles are those of `Tiling.of`.
    """
    used = Tile(*cells.lines)
    if cells.is_block:
        return Tiling.of_block(network, grid, used, shape, uniform, cap)
    extents = _extents(network, grid, used, shape, uniform, cap)
    every = extents.cut(used.rows, shape[0], 0), extents.cut(used.cols, shape[1], 1)
    rows, cols = _spread(*every, *_most_runs(*every, used.size))
    examined = cells.at(np.concatenate(rows), np.concatenate(cols))
    exact = extents_of(network, grid, cap)
    if examined.any():
        return Tiling.of_runs(extents, exact, rows, cols, examined, shape, at_once, cells.count)
    return Tiling.of_thin(extents, exact, *_some_of(cells), shape[0] * shape[1], at_once, cells.count)


class CrossedTiles(Sequence[Tile]):
    """Every run of rows with every run of columns, in reading order. A tile is made when it is asked for."""

    def __init__(
        self,
        rows: Sequence[np.ndarray],
        cols: Sequence[np.ndarray],
        tile_of: Callable[[np.ndarray, np.ndarray], Tile],
    ) -> None:
        self._rows, self._cols, self._tile_of = rows, cols, tile_of

    def __len__(self) -> int:
        return len(self._rows) * len(self._cols)

    @overload
    def __getitem__(self, index: int) -> Tile: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Tile]: ...

    def __getitem__(self, index: int | slice) -> Tile | Sequence[Tile]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        row, col = divmod(range(len(self))[index], len(self._cols))
        return self._tile_of(self._rows[row], self._cols[col])


@dataclass(frozen=True, eq=False)
class RunKinds:
    """Runs of a grid's rows, or of its columns. Runs of as many positions with regions of the same sizes are one kind.

    Attributes:
        kind_of: the kind of each run, int64 [runs].
        examples: the number of a run of each kind, int64 [kinds].
        lengths: how many positions a run of each kind computes, int64 [kinds].
        sizes: rows or columns of each node's region, int64 [nodes, kinds].
        total: the sizes of each node's region, summed over the positions of all runs, float64 [nodes].
    """

    kind_of: np.ndarray
    examples: np.ndarray
    lengths: np.ndarray
    sizes: np.ndarray
    total: np.ndarray

    @classmethod
    def of(cls, extents: Extents, runs: Sequence[np.ndarray], axis: int) -> RunKinds:
        """The kinds of some runs of rows (axis 0) or columns (1)."""
        classes = extents.classes[axis].class_of[np.concatenate(runs)]
        ends = np.cumsum(list(map(len, runs))) * classes.itemsize
        every = classes.tobytes()
        of_run = numbered([every[begin:end] for begin, end in pairwise([0, *ends.tolist()])])
        _, examples = np.unique(of_run, return_index=True)
        some = [runs[number] for number in examples.tolist()]
        lengths = np.array([len(extents.computed(run, axis)) for run in some], dtype=np.int64)
        sizes = extents.sizes_of_runs(some, axis)
        total = (sizes @ (lengths * np.bincount(of_run))).astype(np.float64)
        alike = distinct(np.concatenate([lengths[None, :], sizes]))
        lengths, sizes = lengths[alike.examples], sizes[:, alike.examples]
        kind_of, examples = alike.class_of[of_run], examples[alike.examples]
        if len(examples) > _MOST_KINDS:
            work = (extents.operations * extents.mean_sizes[1 - axis]) @ sizes * lengths
            joined, largest = _joined(work)
            kind_of, examples, lengths, sizes = joined[kind_of], examples[largest], lengths[largest], sizes[:, largest]
        return cls(kind_of, examples, lengths, sizes, total)

    @property
    def counts(self) -> np.ndarray:
        """How many runs each kind has, int64 [kinds]."""
        return np.bincount(self.kind_of, minlength=len(self.examples))


def _joined(work: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The new kind of each kind, where those of similar work [kinds] are joined until `_KINDS_LEFT` are left.

    And the largest of each new one.
    """
    order = np.argsort(work, kind="stable")
    new = np.empty(len(work), dtype=np.int64)
    new[order] = np.arange(len(work)) * _KINDS_LEFT // len(work)
    last = np.append(np.flatnonzero(np.diff(new[order])), len(order) - 1)
    return new, order[last]


@dataclass(frozen=True, eq=False)
class Tiling:
    """Tiles and the sizes of their regions, by kind of tile.

    Attributes:
        extents: the geometry of every position.
        tiles: they hold each cell once, padding aside, in the order in which they run; or a sample of them.
        examples: the number of a tile of each kind, int64 [kinds].
        counts: how many tiles each kind has, [kinds]; fractions where the tiles are a sample.
        positions: how many positions a tile of each kind computes, int64 [kinds].
        heights: rows of each node's region, int64 [nodes, kinds of row runs]; widths: columns, int64 [nodes, ...].
        row_kind, col_kind: which of these a kind of tile has, int64 [kinds].
        last: the kinds of the last tiles, at most `_EXAMINED` of them.
        flops: operations of all tiles, as direct convolution does them.
        ideal_flops: the same, were every position to recompute its own region alone.
    """

    extents: Extents
    tiles: Sequence[Tile]
    examples: np.ndarray
    counts: np.ndarray
    positions: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    row_kind: np.ndarray
    col_kind: np.ndarray
    last: np.ndarray
    flops: float
    ideal_flops: float

    @classmethod
    def of(
        cls,
        network: Network,
        grid: Grid,
        mask: np.ndarray,
        shape: tuple[int, int],
        uniform: bool = False,
        cap: Cap | None = None,
        at_once: int = 1,
    ) -> Tiling:
        """Tiles of at most `shape` rows and columns, of which some run at once; `uniform` ones come in few shapes.

        Args:
            mask: the cells that the tiles hold, boolean [rows, cols].
        """
        used = Tile(np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0)))
        count = int(np.count_nonzero(mask))
        if used.size == count:
            return cls.of_block(network, grid, used, shape, uniform, cap)
        extents = _extents(network, grid, used, shape, uniform, cap)
        rows, cols = extents.cut(used.rows, shape[0], 0), extents.cut(used.cols, shape[1], 1)
        cells = mask[np.ix_(used.rows, used.cols)]
        return cls.of_runs(extents, extents_of(network, grid, cap), rows, cols, cells, shape, at_once, count)

    @classmethod
    def of_runs(
        cls,
        extents: Extents,
        exact: Extents,
        rows: Sequence[np.ndarray],
        cols: Sequence[np.ndarray],
        cells: np.ndarray,
        shape: tuple[int, int],
        at_once: int,
        count: int,
    ) -> Tiling:
        """The tiles of some runs, which stand for `count` cells.

        Args:
            exact: the sizes of regions where tiles are not uniform.
            cells: which pairs of the runs' rows and columns are asked for, boolean [rows, cols].
        """
        tiles = (
            extents.tiles_of_runs(cells, rows, cols)
            if isinstance(extents, UniformExtents)
            else tiles_of_runs(cells, rows, cols, shape[0] * shape[1], extents, at_once)
        )
        ideal_flops = _ideal_flops(exact, Tile(np.concatenate(rows), np.concatenate(cols)), cells)
        return cls._listed(extents, tuple(tiles), ideal_flops, count / np.count_nonzero(cells))

    @classmethod
    def of_thin(
        cls,
        extents: Extents,
        exact: Extents,
        rows: np.ndarray,
        cols: np.ndarray,
        size: int,
        at_once: int,
        count: int,
    ) -> Tiling:
        """The tiles of cells that lie far apart, of which those at some places stand for so many."""
        tiles: Iterable[Tile] = gathered(rows, cols, size, extents, at_once)
        if isinstance(extents, UniformExtents):
            tiles = (extents.tile(rows[[place]], cols[[place]]) for place in range(len(rows)))
        ideal_flops = float(exact.operations @ (exact.sizes_at(rows, 0) * exact.sizes_at(cols, 1)).sum(axis=1))
        return cls._listed(extents, tuple(tiles), ideal_flops, count / len(rows))

    @classmethod
    def _listed(cls, extents: Extents, tiles: tuple[Tile, ...], ideal_flops: float, weight: float = 1.0) -> Tiling:
        """Tiles without a pattern: each is a kind of its own, and stands for as many as its weight."""
        heights = _sizes_of(extents, [tile.rows for tile in tiles], 0)
        widths = _sizes_of(extents, [tile.cols for tile in tiles], 1)
        positions = np.array([tile.size for tile in tiles], dtype=np.int64)
        every = np.arange(len(tiles))
        return cls(
            extents=extents,
            tiles=tiles,
            examples=every,
            counts=np.full(len(tiles), weight),
            positions=positions,
            heights=heights,
            widths=widths,
            row_kind=every,
            col_kind=every,
            last=every[-_EXAMINED:],
            flops=weight * float((extents.operations @ (heights * widths) * positions).sum()),
            ideal_flops=weight * ideal_flops,
        )

    @classmethod
    def of_block(
        cls,
        network: Network,
        grid: Grid,
        block: Tile,
        shape: tuple[int, int],
        uniform: bool = False,
        cap: Cap | None = None,
    ) -> Tiling:
        """The same for every pair of some rows and some columns of the grid."""
        exact, extents = extents_of(network, grid, cap), _extents(network, grid, block, shape, uniform, cap)
        along_rows = extents.cut(block.rows, shape[0], 0)
        alike = not uniform and exact.spans[0] is exact.spans[1] and shape[0] == shape[1]
        alike = alike and np.array_equal(block.rows, block.cols)  # then columns are cut as rows are
        along_cols = along_rows if alike else extents.cut(block.cols, shape[1], 1)
        tiles = CrossedTiles(along_rows, along_cols, extents.tile)
        if not tiles:
            nothing, none = np.zeros(0, dtype=np.int64), np.zeros((len(network.nodes), 0), dtype=np.int64)
            return cls(extents, tiles, nothing, nothing, nothing, none, none, nothing, nothing, nothing, 0.0, 0.0)
        rows = RunKinds.of(extents, along_rows, 0)
        cols = rows if alike else RunKinds.of(extents, along_cols, 1)
        row_kind, col_kind = (
            index.ravel() for index in np.indices((len(rows.examples), len(cols.examples)), dtype=np.int64)
        )
        last_rows, last_cols = np.divmod(np.arange(max(0, len(tiles) - _EXAMINED), len(tiles)), len(along_cols))
        return cls(
            extents=extents,
            tiles=tiles,
            examples=rows.examples[row_kind] * len(along_cols) + cols.examples[col_kind],
            counts=rows.counts[row_kind] * cols.counts[col_kind],
            positions=rows.lengths[row_kind] * cols.lengths[col_kind],
            heights=rows.sizes,
            widths=cols.sizes,
            row_kind=row_kind,
            col_kind=col_kind,
            last=rows.kind_of[last_rows] * len(cols.examples) + cols.kind_of[last_cols],
            flops=float(extents.operations @ (rows.total * cols.total)),
            ideal_flops=float(exact.operations @ (exact.summed(block.rows, 0) * exact.summed(block.cols, 1))),
        )

    @property
    def network(self) -> Network:
        """The network they run through."""
        return self.extents.network

    @property
    def shapes(self) -> int:
        """How many shapes of tile there are, where they are uniform."""
        extents = self.extents
        if not isinstance(extents, UniformExtents):
            return len(self.tiles)
        return len({extents.shape(self.tiles[number]) for number in self.examples.tolist()})

    def region(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of a node's region in each kind of tile, int64 [kinds] each."""
        return self.heights[index][self.row_kind], self.widths[index][self.col_kind]

    def locations(self, index: int) -> np.ndarray:
        """Locations of a node that a tile of each kind recomputes, over all its positions, int64 [kinds]."""
        heights, widths = self.region(index)
        found: np.ndarray = heights * widths * self.positions
        return found

    def total(self, of_kinds: np.ndarray) -> float:
        """What is given per tile of each kind [kinds], summed over all tiles."""
        return float(of_kinds @ self.counts)

    @property
    def count(self) -> float:
        """How many tiles there are."""
        return float(self.counts.sum())

    @cached_property
    def work(self) -> np.ndarray:
        """Operations of a tile of each kind, as direct convolution does them, float64 [kinds]."""
        return self._weighted(self.extents.operations)

    def largest(self, count: int = 3) -> list[Tile]:
        """A tile of each of the sizes that hold most elements, the largest first."""
        held = self._weighted(np.array([node.channels for node in self.network.nodes], dtype=np.float64))
        _, first = np.unique(held, return_index=True)
        return [self.tiles[int(self.examples[kind])] for kind in first[::-1][:count]]

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        """The locations of all nodes in a tile of each kind, each node's times its weight [nodes]; float64 [kinds]."""
        if len(self.counts) == self.heights.shape[1]:
            by_kind = weights @ (self.heights[:, self.row_kind] * self.widths[:, self.col_kind])
        else:
            by_kind = np.einsum("n,nr,nc->rc", weights, self.heights, self.widths)[self.row_kind, self.col_kind]
        found: np.ndarray = by_kind * self.positions
        return found

    def unevenness(self, workers: int) -> float:
        """The factor by which workers take longer than with equal shares; each takes the next tile left."""
        if workers < 2 or self.flops <= 0.0:
            return 1.0
        busy = [0.0] * workers
        for work in self.work[self.last].tolist():
            heapq.heapreplace(busy, busy[0] + work)
        waiting = max(busy) - sum(busy) / workers  # what ran before these tiles kept all workers busy alike
        return 1.0 + waiting * workers / self.flops

    def largest_group(self, positions: int, tiles: int) -> int:
        """The most positions of successive tiles put together until they hold this many positions and tiles."""
        if len(self.tiles) > len(self.last):
            largest = int(self.positions.max())
            return max(positions - 1 + largest, tiles * largest)
        most = group = members = 0
        for size in self.positions[self.last].tolist():
            group, members = group + size, members + 1
            most = max(most, group)
            if group >= positions and members >= tiles:
                group = members = 0
        return most

    def completes(self, source: int, index: int) -> np.ndarray:
        """Whether a merge `index` has to complete a branch from its base: its region is smaller than the union.

        Boolean [kinds].
        """
        (height, width), (union_height, union_width) = self.region(source), self.region(index)
        smaller: np.ndarray = (height != union_height) | (width != union_width)
        return smaller

    def gathered(self, index: int) -> np.ndarray:
        """Elements that one position of a tile of each kind gathers for a node, int64 [kinds].

        They are gathered to read windows, to complete branches, or to fill a picture up.
        """
        network = self.network
        node = network.nodes[index]
        height, width = self.region(index)
        elements: np.ndarray = height * 0
        if not network.regional[index]:
            projected = [network.nodes[i] for i in node.inputs if network.regional[i]]
            elements = elements + sum(source.channels * source.height * source.width for source in projected)
        elif node.window is not None:
            y, x = node.window.y, node.window.x
            if node.window.repeats or not y.size == x.size == y.stride == x.stride == 1:
                read = (y.size + (height - 1) * y.stride) * (x.size + (width - 1) * x.stride)
                elements = read * network.nodes[node.inputs[0]].channels
        elif node.rule is Rule.MERGE:
            for i in node.inputs:
                if network.regional[i]:  # one that has the union's region is taken as it is
                    elements = elements + self.completes(i, index) * (network.nodes[i].channels * height * width)
        return elements


def _extents(
    network: Network, grid: Grid, used: Tile, shape: tuple[int, int], uniform: bool, cap: Cap | None
) -> Extents:
    """The geometry of tiles of at most `shape` rows and columns in these rows and columns."""
    exact = extents_of(network, grid, cap)
    return UniformExtents.rounding(exact, used, shape) if uniform else exact


def _sizes_of(extents: Extents, runs: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """As `Extents.sizes_of_runs`, for any number of runs."""
    parts = np.array_split(np.arange(len(runs)), -(-sum(map(len, runs)) // _POSITIONS_AT_ONCE))
    return np.concatenate([extents.sizes_of_runs(runs[part[0] : part[-1] + 1], axis) for part in parts], axis=1)


def _most_runs(rows: Sequence[np.ndarray], cols: Sequence[np.ndarray], cells: int) -> tuple[int, int]:
    """How many runs of rows and of columns to examine, of those that hold `cells` cells."""
    runs = len(rows) * len(cols)
    share = min(1.0, (min(_MOST_BLOCKS, _MOST_CELLS * runs / cells) / runs) ** 0.5)
    return max(1, int(len(rows) * share)), max(1, int(len(cols) * share))


def _spread(
    rows: Sequence[np.ndarray], cols: Sequence[np.ndarray], most_rows: int, most_cols: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """So many runs along each axis, one of each equal part of it: which one is drawn, for cells may be periodic."""
    random = np.random.default_rng(0)
    kept = [
        [runs[int(place * len(runs) / most)] for place in np.arange(most) + random.random(most)]
        for runs, most in ((rows, most_rows), (cols, most_cols))
    ]
    return kept[0], kept[1]


def _some_of(cells: GridCells) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of some of the cells, at most `_MOST_BLOCKS`: those of a few rows that are spread over them."""
    rows, cols = cells.lines
    for first in range(steps := max(1, len(rows) // _ROWS_OF_THIN)):
        some = rows[(first + steps // 2) % steps :: steps]
        found = np.nonzero(cells.at(some, cols))
        if len(found[0]):
            kept = np.linspace(0, len(found[0]) - 1, min(len(found[0]), _MOST_BLOCKS)).astype(np.int64)
            return some[found[0][kept]], cols[found[1][kept]]
    return rows[len(rows) // 2 :][:1], cols[len(cols) // 2 :][:1]  # so few that none of them was drawn


def _ideal_flops(extents: Extents, used: Tile, cells: np.ndarray) -> float:
    """Operations if each position recomputes its own region alone.

    Args:
        cells: which pairs of the used rows and columns are computed, boolean [rows, cols].
    """
    heights = extents.sizes_at(used.rows, 0).astype(np.float64)
    widths = extents.sizes_at(used.cols, 1).astype(np.float64)
    locations = np.zeros(len(heights))
    for first in range(0, len(cells), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        locations += ((widths @ cells[part].T.astype(np.float64)) * heights[:, part]).sum(axis=1)
    return float(extents.operations @ locations)
