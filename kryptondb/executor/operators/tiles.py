"""A grid cut into tiles: blocks of neighbouring positions that run as one batch, with one region size per node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kryptondb.network import Network
from kryptondb.network.regions import Regions, Spans


@dataclass(frozen=True, eq=False)
class Tile:
    """Every pair of some grid rows and some grid columns; int64 arrays of indices into the grid."""

    rows: np.ndarray
    cols: np.ndarray

    @property
    def size(self) -> int:
        """How many positions."""
        return len(self.rows) * len(self.cols)

    def halves(self) -> list[Tile]:
        """Two tiles of half the size, cut across the longer side; a tile of one position gives itself."""
        if self.size < 2:
            return [self]
        if len(self.rows) >= len(self.cols):
            return [Tile(part, self.cols) for part in np.array_split(self.rows, 2)]
        return [Tile(self.rows, part) for part in np.array_split(self.cols, 2)]


def tiles_of(mask: np.ndarray, shape: tuple[int, int]) -> Iterator[Tile]:
    """Tiles of at most `shape` rows by columns that hold every cell of the mask [rows, cols] once, and no other."""
    used_rows, used_cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    for rows in _even(used_rows, shape[0]):
        for cols in _even(used_cols, shape[1]):
            block = mask[np.ix_(rows, cols)]
            patterns: dict[bytes, list[int]] = {}
            for place, line in enumerate(block):
                if line.any():
                    patterns.setdefault(line.tobytes(), []).append(place)
            for places in patterns.values():
                yield Tile(rows[places], cols[block[places[0]]])


def _even(indices: np.ndarray, size: int) -> list[np.ndarray]:
    """Runs of at most `size`, as equal as can be: 53 in runs of at most 8 are 4 of 8 and 3 of 7."""
    return [] if not len(indices) else np.array_split(indices, -(-len(indices) // size))


@dataclass(frozen=True, eq=False)
class Extents:
    """The spans of all nodes of a network over a grid, stacked so that a tile's geometry is one indexing operation.

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
    def _y(self) -> tuple[np.ndarray, np.ndarray]:
        return self._stacked(self.regions.y, self.regions.grid.rows, self.heights)

    @cached_property
    def _x(self) -> tuple[np.ndarray, np.ndarray]:
        return self._stacked(self.regions.x, self.regions.grid.cols, self.widths)

    @staticmethod
    def _stacked(
        spans: tuple[Spans | None, ...], count: int, extents: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        first = np.zeros((len(extents), count), dtype=np.int64)
        sizes = np.repeat(extents[:, None], count, axis=1)
        for index, span in enumerate(spans):
            if span is not None:
                first[index], sizes[index] = span.first, span.sizes
        return first, sizes

    def of(self, tile: Tile) -> TileExtents:
        """The geometry of one tile: the largest size among its positions, moved back inside the border (29 to 34)."""
        first_y, sizes_y = self._y[0][:, tile.rows], self._y[1][:, tile.rows].max(axis=1)
        first_x, sizes_x = self._x[0][:, tile.cols], self._x[1][:, tile.cols].max(axis=1)
        ys = np.minimum(first_y, (self.heights - sizes_y)[:, None])
        xs = np.minimum(first_x, (self.widths - sizes_x)[:, None])
        return TileExtents(ys, sizes_y, xs, sizes_x)


@dataclass(frozen=True, eq=False)
class TileExtents:
    """For every node: where each row's and column's region begins, and the size that is common to the tile.

    Attributes:
        ys: int64 [nodes, tile rows]; xs: int64 [nodes, tile columns].
        heights, widths: int64 [nodes].
    """

    ys: np.ndarray
    heights: np.ndarray
    xs: np.ndarray
    widths: np.ndarray

    @cached_property
    def locations(self) -> np.ndarray:
        """Locations of each node that one position recomputes, int64 [nodes]."""
        locations: np.ndarray = self.heights * self.widths
        return locations
