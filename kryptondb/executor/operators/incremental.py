"""`incremental`: recompute, tile by tile, only the region that an occlusion can change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch

from kryptondb.executor.operators.base import base_bytes, materialize
from kryptondb.executor.operators.context import Context, Scores, shrinking
from kryptondb.executor.operators.footprint import full_bytes_moved, peak_elements
from kryptondb.executor.operators.tile_run import TileRun
from kryptondb.executor.operators.tiles import Extents, Tile, TileExtents, tiles_of
from kryptondb.network import Grid, Network, Rule
from kryptondb.network.regions import regions
from kryptondb.optimizer.cost import Cost, Rates
from kryptondb.optimizer.workload import Workload, mask_of_runs

_SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24)


@lru_cache(maxsize=16)
def extents_of(network: Network, grid: Grid) -> Extents:
    """The geometry of a network over a grid, kept from query to query."""
    return Extents(regions(network, grid))


@dataclass(frozen=True)
class Incremental:
    """Algorithm 1 over tiles of neighbouring positions.

    Exact up to rounding of the network's precision. Source: paper, section 4.1, equations 21 to 34.

    Attributes:
        tile: grid rows and columns that run as one batch.
    """

    name: ClassVar[str] = "incremental"
    exact: ClassVar[bool] = True
    tile: tuple[int, int]

    @classmethod
    def candidates(cls, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[Incremental]:
        """The tile with the lowest estimate that memory allows; none for networks that only run as a whole."""
        network = workload.network
        if not network.traced or network.batch_statistics:
            return []
        sides = [side for side in _SIDES if side <= max(workload.grid.rows, workload.grid.cols)]
        shapes = [(side, side) for side in sides]
        if "batch" in hints:
            side = max(1, int(round(float(hints["batch"]) ** 0.5)))
            shapes = [(side, max(1, int(hints["batch"]) // side))]
        costs = {shape: cls(shape).estimate(workload, rates) for shape in shapes}
        fitting = [shape for shape in shapes if costs[shape].memory <= workload.memory_limit] or shapes[:1]
        return [cls(min(fitting, key=lambda shape: costs[shape].seconds))]

    def estimate(self, workload: Workload, rates: Rates) -> Cost:
        """One full inference for the base, then every tile's regions, windows read and tail."""
        network, element = workload.network, workload.element_bytes
        work = self.work(workload)
        flops = network.flops + work.flops
        moved = full_bytes_moved(network, element) + work.moved_elements * element
        moved += work.tiles * network.parameter_bytes
        calls = (1 + 2 * work.tiles) * len(network.nodes)
        memory = base_bytes(network, element) + work.peak_elements * element
        return Cost(rates.seconds(flops, moved, calls), flops, int(memory))

    def work(self, workload: Workload) -> Work:
        """What all tiles together compute, read and hold."""
        return _work(workload.network, workload.grid, workload.runs, self.tile)

    def redundancy(self, workload: Workload) -> tuple[float, float]:
        """The redundancy ratio reached, and the ideal one with each position's own region (equation 20)."""
        work = self.work(workload)
        full = workload.network.flops * workload.positions
        return full / max(work.flops, 1.0), full / max(work.ideal_flops, 1.0)

    def describe(self, workload: Workload) -> str:
        """For EXPLAIN."""
        reached, ideal = self.redundancy(workload)
        return f"{workload.precision}, tiles {self.tile[0]} x {self.tile[1]}, R {reached:.2f} of {ideal:.2f} ideal"

    def prepare(self, context: Context) -> torch.Tensor:
        """Materializes the base; gives the scores of the unoccluded image, [1, classes]."""
        context.base = materialize(context.network, context.image)
        context.flops += context.network.flops
        return context.base.output

    def run(self, context: Context) -> Iterator[Scores]:
        """Yields a block of cells a tile; `prepare` comes first."""
        network, grid, base = context.network, context.grid, context.base
        assert base is not None
        extents = extents_of(network, grid)
        per_location = np.array([node.flops for node in network.nodes])

        def compute(tile: Tile) -> Scores:
            rows, cols = np.repeat(tile.rows, len(tile.cols)), np.tile(tile.cols, len(tile.rows))
            geometry = extents.of(tile)
            patches = context.patches(grid.ys[rows], grid.xs[cols])
            output = TileRun(network, base, geometry).run(patches)
            context.flops += float(per_location @ geometry.locations) * tile.size
            return Scores(rows.astype(np.int32), cols.astype(np.int32), context.read(output))

        yield from shrinking(list(tiles_of(context.mask, self.tile)), compute, Tile.halves)


@dataclass(frozen=True)
class Work:
    """What a tiling of a grid adds up to.

    Attributes:
        tiles: how many there are.
        flops: of all tiles.
        ideal_flops: were every position to recompute its own region alone.
        moved_elements: written and read again between operators, windows gathered counted.
        peak_elements: alive at once in the largest tile.
    """

    tiles: int
    flops: float
    ideal_flops: float
    moved_elements: float
    peak_elements: float


@lru_cache(maxsize=256)
def _work(
    network: Network, grid: Grid, runs: tuple[tuple[int, int, int], ...] | None, shape: tuple[int, int]
) -> Work:
    mask = mask_of_runs(runs, grid.rows, grid.cols)
    extents = extents_of(network, grid)
    flops_each = np.array([node.flops for node in network.nodes])
    channels = np.array([0 if node.rule is Rule.CONSTANT else node.channels for node in network.nodes], dtype=np.float64)
    fresh = np.array([node.fresh for node in network.nodes])
    tiles, flops, moved = 0, 0.0, 0.0
    largest: tuple[float, Tile | None] = (0.0, None)
    for tile in tiles_of(mask, shape):
        geometry = extents.of(tile)
        tiles += 1
        flops += float(flops_each @ geometry.locations) * tile.size
        held = float((channels * fresh) @ geometry.locations) * tile.size
        read = _window_elements(network, geometry) * tile.size
        moved += 2.0 * (held + read)
        if held + read > largest[0]:
            largest = (held + read, tile)
    peak = _peak(network, extents.of(largest[1]), largest[1].size) if largest[1] is not None else 0.0
    located = extents.regions
    ideal = sum(float(node.flops * located.locations(node)[mask].sum()) for node in network.nodes if node.flops)
    return Work(tiles, flops, ideal, moved, peak)


def _window_elements(network: Network, geometry: TileExtents) -> float:
    """Elements that one position gathers to read windows and merge branches."""
    return sum(_read_elements(network, geometry, index) for index in range(len(network.nodes)))


def _read_elements(network: Network, geometry: TileExtents, index: int) -> float:
    node = network.nodes[index]
    if not network.regional[index]:
        projected = [network.nodes[i] for i in node.inputs if network.regional[i]]
        return float(sum(source.channels * source.height * source.width for source in projected))
    height, width = int(geometry.heights[index]), int(geometry.widths[index])
    if node.window is not None:
        source = network.nodes[node.inputs[0]]
        y, x = node.window.y, node.window.x
        if y.size == x.size == y.stride == x.stride == 1:
            return 0.0
        return float((y.size + (height - 1) * y.stride) * (x.size + (width - 1) * x.stride) * source.channels)
    if node.rule is Rule.MERGE:
        return float(sum(network.nodes[i].channels for i in node.inputs if network.regional[i]) * height * width)
    return 0.0


def _peak(network: Network, geometry: TileExtents, positions: int) -> float:
    locations = geometry.locations
    return positions * peak_elements(
        network,
        lambda node: float(node.channels * locations[node.index]),
        lambda node: _read_elements(network, geometry, node.index),
    )
