"""A whole grid's tiles side by side: the sizes of all their regions, and the operations that they take."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kryptondb.executor.operators.tiles import Extents, Tile, tiles_of
from kryptondb.executor.operators.uniform import UniformExtents
from kryptondb.network import Cap, Grid, Network, Rule
from kryptondb.network.kept import kept_with_network
from kryptondb.network.regions import regions
from kryptondb.optimizer.workload import Runs, mask_of_runs


@kept_with_network(16)
def extents_of(network: Network, grid: Grid, cap: Cap | None = None) -> Extents:
    """The geometry of a network over a grid, its regions capped or not, kept from query to query."""
    return Extents(regions(network, grid, cap))


@kept_with_network(64)
def tiling_of(
    network: Network,
    grid: Grid,
    runs: Runs | None,
    shape: tuple[int, int],
    uniform: bool = False,
    cap: Cap | None = None,
    at_once: int = 1,
) -> Tiling:
    """The tiles of a query's cells with at most `shape` rows and columns; `uniform` ones come in few shapes."""
    return Tiling.of(network, grid, mask_of_runs(runs, grid.rows, grid.cols), shape, uniform, cap, at_once)


@dataclass(frozen=True, eq=False)
class Tiling:
    """Tiles and the sizes of their regions.

    Attributes:
        extents: the geometry of every position.
        mask: the cells that the tiles hold, boolean [rows, cols].
        tiles: they hold each of them once, padding aside.
    """

    extents: Extents
    mask: np.ndarray
    tiles: tuple[Tile, ...]

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
        """Tiles of at most `shape` rows and columns, of which some run at once; `uniform` ones come in few shapes."""
        extents = extents_of(network, grid, cap)
        if uniform:
            padded = UniformExtents.rounding(extents, mask, shape)
            return cls(padded, mask, tuple(padded.tiles(mask)))
        return cls(extents, mask, tuple(tiles_of(mask, shape, extents, at_once)))

    @property
    def network(self) -> Network:
        """The network they run through."""
        return self.extents.network

    @cached_property
    def positions(self) -> np.ndarray:
        """How many positions each tile has, int64 [tiles]."""
        return np.array([tile.size for tile in self.tiles], dtype=np.int64)

    @cached_property
    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of each node's region, int64 [nodes, tiles] each."""
        if not self.tiles:
            nothing = np.zeros((len(self.network.nodes), 0), dtype=np.int64)
            return nothing, nothing
        found = [self.extents.sizes(tile) for tile in self.tiles]
        return np.stack([heights for heights, _ in found], axis=1), np.stack([widths for _, widths in found], axis=1)

    @property
    def shapes(self) -> int:
        """How many shapes of tile there are, where they are uniform."""
        extents = self.extents
        if not isinstance(extents, UniformExtents):
            return len(self.tiles)
        return len({extents.shape(tile) for tile in self.tiles})

    def locations(self, index: int) -> np.ndarray:
        """Locations of a node that each tile recomputes, over all its positions, int64 [tiles]."""
        heights, widths = self.sizes
        found: np.ndarray = heights[index] * widths[index] * self.positions
        return found

    @cached_property
    def work(self) -> np.ndarray:
        """Operations of each tile, as direct convolution does them, float64 [tiles]."""
        heights, widths = self.sizes
        found: np.ndarray = self.extents.operations @ (heights * widths) * self.positions
        return found

    @property
    def flops(self) -> float:
        """Operations of all tiles, as direct convolution does them."""
        return float(self.work.sum())

    def unevenness(self, workers: int) -> float:
        """How many times as long so many workers take as with equal shares: each goes on with the first tile left."""
        flops = self.flops
        if workers < 2 or flops <= 0.0:
            return 1.0
        busy = [0.0] * workers
        for work in self.work:
            heapq.heapreplace(busy, busy[0] + float(work))
        return max(busy) * workers / flops

    @cached_property
    def ideal_flops(self) -> float:
        """The same, were every position to recompute its own region alone."""
        located = self.extents.regions
        return sum(
            float(node.flops * located.locations(node)[self.mask].sum()) for node in self.network.nodes if node.flops
        )

    def gathered(self, index: int) -> np.ndarray:
        """Elements that one position of each tile gathers for a node, int64 [tiles]."""
        return gathered_elements(self.network, *self.sizes, index)


def is_completed(heights: np.ndarray, widths: np.ndarray, source: int, index: int) -> np.ndarray:
    """Whether a merge `index` has to complete a branch from its base: its region is smaller than the union."""
    smaller: np.ndarray = (heights[source] != heights[index]) | (widths[source] != widths[index])
    return smaller


def gathered_elements(network: Network, heights: np.ndarray, widths: np.ndarray, index: int) -> np.ndarray:
    """Elements that one position gathers for a node: to read windows, complete branches, or fill a picture up.

    Args:
        heights, widths: of each node's region, int64 [nodes, ...].
    """
    node = network.nodes[index]
    height, width = heights[index], widths[index]
    elements: np.ndarray = height * 0
    if not network.regional[index]:
        projected = [network.nodes[i] for i in node.inputs if network.regional[i]]
        elements = elements + sum(source.channels * source.height * source.width for source in projected)
    elif node.window is not None:
        y, x = node.window.y, node.window.x
        if not y.size == x.size == y.stride == x.stride == 1:
            read = (y.size + (height - 1) * y.stride) * (x.size + (width - 1) * x.stride)
            elements = read * network.nodes[node.inputs[0]].channels
    elif node.rule is Rule.MERGE:
        for i in node.inputs:
            if network.regional[i]:  # one that has the union's region is taken as it is
                completed = is_completed(heights, widths, i, index)
                elements = elements + completed * (network.nodes[i].channels * height * width)
    return elements
