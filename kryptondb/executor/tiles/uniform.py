"""Tiles in few shapes: a GPU's libraries plan each shape anew, and a CUDA graph can only be replayed for its own.

A tile's shape is how many rows and columns of positions it has and how large every node's region is. Runs of rows are
padded to one length by their last row. Their sizes are rounded up to a few kinds: at the border, where the picture cuts
regions off, and inside. A region that is larger than it need be is recomputed to what the base holds there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from kryptondb.executor.tiles.tiles import Extents, Tile, blocks, crossed, even, window_extent
from kryptondb.network import Rule
from kryptondb.network.node import AxisWindow

#: Kinds of rows, and of columns: one for each border and one between them.
MOST_KINDS = 3
#: The most sizes of which every pair is compared before they are joined.
_MOST_COMPARED = 64


@dataclass(frozen=True, eq=False)
class PaddedTile(Tile):
    """A tile whose last row and column are repeated up to a common length; what they give is dropped.

    Attributes:
        real: the tile without the repetitions.
        longest: rows and columns of a tile that is not cut short.
    """

    real: Tile
    longest: tuple[int, int]

    @classmethod
    def of(cls, tile: Tile, longest: tuple[int, int]) -> PaddedTile:
        """A tile padded to the next of a few lengths."""
        return cls(_padded(tile.rows, longest[0]), _padded(tile.cols, longest[1]), tile, longest)

    @property
    def asked(self) -> Tile:
        return self.real

    def answers(self, values: torch.Tensor) -> torch.Tensor:
        if self.size == self.real.size:
            return values
        located = values.view(len(self.rows), len(self.cols), *values.shape[1:])
        return located[: len(self.real.rows), : len(self.real.cols)].flatten(0, 1)

    def halves(self) -> Sequence[Tile]:
        if self.real.size < 2:
            return [self]
        halves = self.real.halves()
        longest = max(len(half.rows) for half in halves), max(len(half.cols) for half in halves)
        return [PaddedTile.of(half, longest) for half in halves]


def _padded(indices: np.ndarray, longest: int) -> np.ndarray:
    """Repeats the last up to `longest`, its half, its quarter, ...: the shortest of them that is long enough.

    Even runs differ by one; those all become `longest`.
    """
    length = longest
    while len(indices) < longest - 1 and len(indices) <= -(-length // 2) < length:
        length = -(-length // 2)
    return np.concatenate([indices, np.repeat(indices[-1:], length - len(indices))])


@dataclass(frozen=True, eq=False)
class AxisKinds:
    """Runs of a grid's rows or columns, and the few sizes that their regions are rounded up to.

    Attributes:
        runs: indices into the grid, each used one once.
        kinds: the kind of each row or column, int64 [positions]; -1 for those that are not used.
        sizes: of every node's region, int64 [nodes, kinds].
    """

    runs: tuple[np.ndarray, ...]
    kinds: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, sizes: np.ndarray, used: np.ndarray, longest: int, weights: np.ndarray) -> AxisKinds:
        """Even runs of at most `longest`.

        Args:
            sizes: of each position's own regions, int64 [nodes, positions].
            weights: what a row more of each node's region costs, [nodes].
        """
        runs = tuple(even(used, longest))
        kinds = np.full(sizes.shape[1], -1, dtype=np.int64)
        if not runs:
            return cls((), kinds, np.zeros((len(sizes), 0), dtype=np.int64))
        largest = np.stack([sizes[:, run].max(axis=1) for run in runs])
        of_run, joined = rounded_up(largest, np.array([len(run) for run in runs]), weights, MOST_KINDS)
        for run, kind in zip(runs, of_run.tolist(), strict=True):
            kinds[run] = kind
        return cls(runs, kinds, joined.T)

    @property
    def longest(self) -> int:
        """Positions of the longest run."""
        return max((len(run) for run in self.runs), default=1)


def rounded_up(sizes: np.ndarray, counts: np.ndarray, weights: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Joins vectors of sizes until at most `most` are left, always the two whose union adds the least work.

    Args:
        sizes: int64 [vectors, nodes]; counts: how often each is used; weights: the cost of each node's unit.

    Returns:
        The kind of each vector, int64 [vectors], and the kinds' sizes, int64 [kinds, nodes].
    """
    kinds, inverse = np.unique(sizes, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    used = np.bincount(inverse, weights=counts, minlength=len(kinds))
    if len(kinds) > _MOST_COMPARED:  # every pair is compared: neighbors by work are joined first
        rank = np.argsort(np.argsort(kinds @ weights, kind="stable"), kind="stable") * _MOST_COMPARED // len(kinds)
        order = np.argsort(rank, kind="stable")
        kinds = np.maximum.reduceat(kinds[order], np.searchsorted(rank[order], np.arange(_MOST_COMPARED)), axis=0)
        used, inverse = np.bincount(rank, weights=used), rank[inverse]

    def added(kind: int) -> np.ndarray:
        joined = np.maximum(kinds, kinds[kind])
        work = (joined - kinds) @ weights * used + (joined - kinds[kind]) @ weights * used[kind]
        work[kind] = np.inf
        return np.asarray(work)

    costs = np.stack([added(kind) for kind in range(len(kinds))])
    while len(kinds) > most:
        kept, gone = sorted(int(i) for i in np.unravel_index(costs.argmin(), costs.shape))
        kinds[kept] = np.maximum(kinds[kept], kinds[gone])
        used[kept] += used[gone]
        inverse[inverse == gone] = kept
        inverse[inverse > gone] -= 1
        kinds, used = np.delete(kinds, gone, axis=0), np.delete(used, gone)
        costs = np.delete(np.delete(costs, gone, axis=0), gone, axis=1)
        costs[kept] = costs[:, kept] = added(kept)
    return inverse, kinds


@dataclass(frozen=True)
class TileShape:
    """What tiles of one shape share.

    Attributes:
        rows, cols: of positions.
        kinds: of their rows and of their columns; with the numbers above, they stand for the sizes of all regions.
        aligned: (node, source) where what the node reads is the region of its source as it stands.
    """

    rows: int
    cols: int
    kinds: tuple[int, int]
    aligned: frozenset[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class UniformExtents(Extents):
    """The geometry of a network over a grid, with the sizes of regions rounded up to a few.

    Attributes:
        axes: the runs of rows and of columns.
    """

    axes: tuple[AxisKinds, AxisKinds]

    @classmethod
    def rounding(cls, extents: Extents, used: Tile, shape: tuple[int, int]) -> UniformExtents:
        """For cells in these rows and columns, in tiles of at most `shape` rows and columns."""
        flops = extents.operations
        sizes = extents.position_sizes
        axes = [
            AxisKinds.of(sizes[axis], indices, shape[axis], flops * sizes[1 - axis].mean(axis=1))
            for axis, indices in enumerate((used.rows, used.cols))
        ]
        return cls(extents.regions, (axes[0], axes[1]))

    def tiles_of_runs(
        self, cells: np.ndarray, all_rows: Sequence[np.ndarray], all_cols: Sequence[np.ndarray]
    ) -> Iterator[PaddedTile]:
        """Tiles that hold once those pairs of the runs' rows and columns that are asked for, and repetitions of them.

        Args:
            cells: which pairs are, boolean [rows, cols].
        """
        for rows, cols, part in blocks(cells, all_rows, all_cols):
            for tile in crossed(cells[part], rows, cols):
                yield self.tile(tile.rows, tile.cols)

    def cut(self, indices: np.ndarray, size: int, axis: int) -> list[np.ndarray]:
        """The runs that sizes were rounded up for."""
        return list(self.axes[axis].runs)

    def tile(self, rows: np.ndarray, cols: np.ndarray) -> PaddedTile:
        """Some rows and columns, padded."""
        return PaddedTile.of(Tile(rows, cols), (self.axes[0].longest, self.axes[1].longest))

    def computed(self, run: np.ndarray, axis: int) -> np.ndarray:
        """A run, padded."""
        return _padded(run, self.axes[axis].longest)

    def sizes_of_runs(self, runs: Sequence[np.ndarray], axis: int) -> np.ndarray:
        """Rows or columns of each node's region in tiles of the runs' kinds; int64 [nodes, runs]."""
        kinds = self.axes[axis]
        of_runs: np.ndarray = kinds.sizes[:, kinds.kinds[[run[0] for run in runs]]]
        return of_runs

    def sizes(self, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of each node's region in tiles of this one's kind; int64 [nodes] each."""
        kinds = self._kinds(tile)
        return self.axes[0].sizes[:, kinds[0]], self.axes[1].sizes[:, kinds[1]]

    def shape(self, tile: Tile) -> TileShape:
        """The shape that a tile shares with others."""
        kinds = self._kinds(tile)
        return TileShape(len(tile.rows), len(tile.cols), kinds, self._aligned[kinds])

    def _kinds(self, tile: Tile) -> tuple[int, int]:
        return int(self.axes[0].kinds[tile.rows[0]]), int(self.axes[1].kinds[tile.cols[0]])

    @cached_property
    def _aligned(self) -> dict[tuple[int, int], frozenset[tuple[int, int]]]:
        """For each pair of kinds, what is aligned at all of their positions."""
        along_y, along_x = self._aligned_along(0), self._aligned_along(1)
        return {(y, x): in_y & in_x for y, in_y in enumerate(along_y) for x, in_x in enumerate(along_x)}

    def _aligned_along(self, axis: int) -> list[frozenset[tuple[int, int]]]:
        """For each kind of an axis, what is aligned along it."""
        found = []
        extents, first = (self.heights, self.widths)[axis], self.position_firsts[axis]
        for kind, sizes in enumerate(self.axes[axis].sizes.T):
            places = np.minimum(first[:, self.axes[axis].kinds == kind], (extents - sizes)[:, None])
            aligned = set()
            for node in self.network.nodes:
                if not self.network.regional[node.index] or node.rule not in (Rule.WINDOW, Rule.MERGE):
                    continue
                index, window = node.index, node.window
                if window is not None and window.repeats:
                    continue  # beyond the ends it reads other cells
                size, starts = int(sizes[index]), places[index]
                if window is not None:
                    along: AxisWindow = (window.y, window.x)[axis]
                    size, starts = window_extent(along.size, along.stride, size), starts * along.stride - along.before
                for source in node.inputs:
                    if sizes[source] == size and (places[source] == starts).all():
                        aligned.add((index, source))
            found.append(frozenset(aligned))
        return found
