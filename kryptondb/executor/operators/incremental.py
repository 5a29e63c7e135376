"""`incremental`: recompute, tile by tile, only the region that an occlusion can change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch

from kryptondb.errors import PlanError
from kryptondb.executor.kernels.choice import SMALL, is_accurate, prepared_layers
from kryptondb.executor.kernels.winograd import Block, Workspace
from kryptondb.executor.operators.context import ImageContext, Scores
from kryptondb.executor.operators.full import Full, occluded
from kryptondb.executor.tiles.base import materialize, materialize_for_differences
from kryptondb.executor.tiles.costs import (
    choose_blocks,
    difference_seconds,
    node_seconds,
    overhead_seconds,
    weights_seconds,
    whole_seconds,
)
from kryptondb.executor.tiles.difference_run import DifferenceRun
from kryptondb.executor.tiles.footprint import MEMORY_SAVINGS, Accept, Footprint, MemorySaving, incremental_footprint
from kryptondb.executor.tiles.replay import CudaRecorder, Recorder, Replays, UniformRun, unrecordable
from kryptondb.executor.tiles.tile_run import TileRun
from kryptondb.executor.tiles.tiles import Tile
from kryptondb.executor.tiles.tilings import Tiling, tiling_of
from kryptondb.executor.tiles.uniform import UniformExtents
from kryptondb.executor.tiles.workers import shrinking, workers
from kryptondb.network import Cap, Network
from kryptondb.optimizer.cost import POSITIONS, Cost, Rates, base_and_positions
from kryptondb.optimizer.workload import BASE_BYTES, REDUCED_PRECISIONS, Workload
from kryptondb.process.memory import release_free_memory

_SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24)
_MOST_WORKERS = 8
_CELLS_OF_A_WORKER = 8  # with fewer, one alone is faster
_TILES_OF_A_WORKER = 2
_AS_FAST = 1.03  # estimates that differ less are equal, and memory decides
_PASSES_TO_RECORD = 4  # two to warm up, the recording, and making a graph of it
_CALLS_OF_A_REPLAY = 8  # inputs are copied, the graph is launched, its output is copied
_BATCH_BESIDE_TILES = 4  # whole images at once where tiles cannot answer: about what a tile holds
_Group = tuple[Tile, ...]
_Kind = TypeVar("_Kind", bound="Incremental")


@dataclass(frozen=True)
class Incremental:
    """Algorithm 1 over tiles of neighboring positions.

    Exact up to rounding of the network's precision. Source: paper, section 4.1, equations 21 to 34.

    Attributes:
        tile: the most grid rows and columns that run as one batch.
        winograd: convolutions computed from differences by Winograd's method: (node, rows, columns of a block).
        head: how many positions the network's head takes at once, those of several tiles together; 0: tile by tile.
        workers: how many tiles run side by side, each on its share of the processor.
        uniform: whether tiles come in few shapes and their places lie on the device, as a GPU has it best.
        graphs: whether one pass of each shape is recorded and replayed for the others; only where tiles are uniform.
        rounded: whether regions hold what an occlusion changes, in the query's reduced precision, and the base is in
            float32; else all is in the query's precision.
        tile_run: runs a tile; `benchmarks.breakdown` puts one in its place that times every node.
        recorder: records passes; tests put one in its place that needs no GPU.
    """

    name: ClassVar[str] = "incremental"
    exact: ClassVar[bool] = True
    rest: ClassVar[str] = POSITIONS
    tile_run: ClassVar[type[TileRun]] = TileRun
    tile: tuple[int, int]
    winograd: tuple[tuple[int, int, int], ...] = ()
    head: int = 0
    workers: int = 1
    uniform: bool = False
    graphs: bool = False
    rounded: bool = False
    recorder: ClassVar[Callable[[torch.device], Recorder]] = CudaRecorder

    def __post_init__(self) -> None:
        if self.graphs and not self.uniform:
            raise PlanError("graphs are recorded per shape of tile: they need uniform tiles", hint="Set uniform too.")
        if self.uniform and (self.winograd or self.workers > 1):
            raise PlanError(
                "uniform tiles run one by one, and every convolution directly", hint="Leave winograd and workers out."
            )
        if self.rounded and (self.winograd or self.uniform):
            raise PlanError(
                "differences are rounded in tiles as they come, and every convolution runs directly",
                hint="Leave winograd and uniform out.",
            )

    @classmethod
    def candidates(cls, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[Incremental]:
        """The tile with the lowest estimate that memory allows; none for networks that only run as a whole."""
        return cls.settings(cls, workload, rates, hints)

    @staticmethod
    def settings(
        of_tile: Callable[[tuple[int, int]], _Kind], workload: Workload, rates: Rates, hints: Mapping[str, Any]
    ) -> list[_Kind]:
        """The fastest operator that memory allows, as far as estimates tell, or the one that needs least memory.

        None for networks that only run as a whole.

        Args:
            of_tile: makes the operator for a tile, with nothing else chosen yet.
        """
        network = workload.network
        if network.undivided is not None:
            return []
        uniform = torch.device(workload.device).type == "cuda"
        longest = max(workload.grid.rows, workload.grid.cols)
        # Uniform tiles are padded: sides that divide the grid waste least.
        sides = {-(-longest // parts) for parts in range(1, longest + 1)} if uniform else set(_SIDES)
        shapes = [(side, side) for side in sorted(sides) if side <= min(longest, _SIDES[-1])]
        if "batch" in hints:
            side = max(1, round(float(hints["batch"]) ** 0.5))
            shapes = [(side, max(1, int(hints["batch"]) // side))]
        head = MEMORY_SAVINGS[0].head if network.head is not None else 0
        workers = min(torch.get_num_threads(), _MOST_WORKERS) if workload.device == "cpu" else 1
        if workload.positions < workers * _CELLS_OF_A_WORKER:
            workers = 1
        if "batch" not in hints:  # some tiles for each worker; how long they wait at the end is in the estimate
            most = max(1, workload.positions // (workers * _TILES_OF_A_WORKER)) if workers > 1 else workload.positions
            shapes = [shape for shape in shapes if shape[0] * shape[1] <= most] or shapes[:1]
        transforms = workload.precision == "float32" and hints.get("convolution") != "direct"
        # Winograd's method takes the places of differences as slices, which a recorded graph cannot change.
        transforms = transforms and not uniform
        graphs = uniform and unrecordable(network) is None
        rounded = workload.precision in REDUCED_PRECISIONS and not uniform
        small = hints.get("convolution") == "accurate"

        def allowed(_: Network, __: int, block: Block) -> bool:
            return not small or max(block) <= SMALL

        def accurate(network: Network, index: int, block: Block) -> bool:
            return allowed(network, index, block) and is_accurate(network, index, block)

        def planned(shape: tuple[int, int], saving: MemorySaving, accept: Accept) -> _Kind:
            plain = of_tile(shape)
            if plain._cap() is None:  # a capped region that is rounded up would be another answer
                plain = replace(plain, uniform=uniform, graphs=graphs)
            plain = replace(plain, rounded=rounded, workers=min(workers, saving.workers))
            tiling = plain._tiling(workload)
            costs = (rates, workload.element_bytes, accept, workers, workload.fusions)
            blocks = choose_blocks(tiling, *costs) if transforms else {}
            blocks = saving.blocks(network, blocks)
            winograd = tuple((index, *block) for index, block in blocks.items())
            return replace(plain, winograd=winograd, head=min(head, saving.head))

        found: dict[_Kind, tuple[Cost, tuple[int, int], MemorySaving]] = {}
        for saving in MEMORY_SAVINGS:
            for shape in shapes:
                operator = planned(shape, saving, allowed)
                found[operator] = operator.estimate(workload, rates), shape, saving
            if all(cost.memory <= workload.memory_limit for cost, _, _ in found.values()):
                break  # memory is no matter
        for shape, saving in _ranked([plan for plan in found.values() if plan[0].memory <= workload.memory_limit]):
            # Whether layers are accurate takes longest to find out, and it is seldom against them.
            operator = planned(shape, saving, accurate)
            if operator.estimate(workload, rates).memory <= workload.memory_limit:
                return [operator]
        _, shape, saving = min(found.values(), key=lambda plan: plan[0].memory)
        return [planned(shape, saving, accurate)]

    @cached_property
    def blocks(self) -> dict[int, Block]:
        """Blocks of the convolutions that are computed from differences, by node."""
        return {index: (rows, columns) for index, rows, columns in self.winograd}

    def estimate(self, workload: Workload, rates: Rates) -> Cost:
        """One full inference for the base, then every tile's regions, windows read and head."""
        network, element = workload.network, workload.element_bytes
        tiling = self._tiling(workload)
        uneven = tiling.unevenness(self.workers)
        base = whole_seconds(network, 1, rates, BASE_BYTES if self.rounded else element, workload.fusions)
        seconds = base
        if self.rounded:
            seconds += uneven * difference_seconds(tiling, rates, element, self.workers)
        nodes = node_seconds(tiling, self.blocks, rates, element, self.workers, workload.fusions)
        seconds += uneven * sum(layer_seconds for _, layer_seconds in nodes)
        heads = -(-workload.positions // self.head) if self.head else 0
        head = self._shared_head(network)
        seconds += weights_seconds(tiling, self.blocks, rates, element, head, heads, workload.device)
        if self.uniform:
            passes = tiling.shapes * _PASSES_TO_RECORD if self.graphs else tiling.count
            calls = passes * 2 * len(network.nodes) + (tiling.count * _CALLS_OF_A_REPLAY if self.graphs else 0)
            seconds += rates.seconds(0.0, 0.0, calls)
        else:
            seconds += uneven * overhead_seconds(tiling, self.blocks, rates, self.workers, workload.fusions)
        footprint = self._footprint(tiling, element)
        return base_and_positions(footprint.cost(seconds, network.flops + tiling.flops, workload.device), base)

    def redundancy(self, workload: Workload) -> tuple[float, float]:
        """The redundancy ratio reached, and the ideal one with each position's own region (equation 20)."""
        tiling = self._tiling(workload)
        full = workload.network.flops * workload.positions
        return full / max(tiling.flops, 1.0), full / max(tiling.ideal_flops, 1.0)

    def describe(self, workload: Workload) -> str:
        """For EXPLAIN."""
        reached, ideal = self.redundancy(workload)
        at_once = f", {self.workers} at once" if self.workers > 1 else ""
        algorithms = f", Winograd in {len(self.winograd)} layers" if self.winograd else ""
        tiles = f"tiles {self.tile[0]} x {self.tile[1]}{at_once}"
        how = f"{algorithms}{self._graphs_told(workload)}"
        precision = f"{workload.precision} differences" if self.rounded else workload.precision
        return f"{precision}, {tiles}, R {reached:.2f} of {ideal:.2f} ideal{how}"

    def _graphs_told(self, workload: Workload) -> str:
        if not self.uniform:
            return ""
        if self.graphs:
            return f", {self._tiling(workload).shapes} CUDA graphs"
        reason = unrecordable(workload.network)
        return f", no CUDA graphs ({reason})" if reason else ", no CUDA graphs"

    def prepare(self, context: ImageContext) -> torch.Tensor:
        """Materializes the base; gives the scores of the unoccluded image, [1, classes]."""
        return prepare_base(context, self.blocks)

    def replays(self, device: torch.device) -> Replays | None:
        """Where passes are recorded, for all pictures of a query; None where none are."""
        return Replays(type(self).recorder(device)) if self.graphs else None

    def run(self, context: ImageContext) -> Iterator[Scores]:
        """Yields a block of cells a tile, or a few tiles where they share a head; `prepare` comes first."""
        network, grid, base = context.network, context.grid, context.base
        assert base is not None
        if not base.sound:  # nothing can be told from what changes in it
            yield from Full(_BATCH_BESIDE_TILES).run(context)
            return
        tiling = Tiling.of(network, grid, context.mask, self.tile, self.uniform, self._cap(), self.workers)
        layers = prepared_layers(network, self.blocks, context.layers_beside)
        release_free_memory()  # the base and the weights are there to stay, what they were made of is not
        footprint = self._footprint(tiling, context.element_bytes)
        guard = context.guard(footprint)
        per_location = tiling.extents.operations
        head = self._shared_head(network)
        uniform = self._uniform_run(context, tiling, head)

        def run_tile(tile: Tile, workspace: Workspace) -> torch.Tensor:
            rows, cols = tile.positions()
            patches = context.patches(grid.ys[rows], grid.xs[cols])
            if uniform is not None:
                return tile.answers(uniform.run(tile, patches))
            geometry = tiling.extents.of(tile)
            if context.rounded is not None:
                differences = DifferenceRun(network, base, geometry, before=guard.before, rounded=context.rounded)
                return differences.run(patches, head)
            run = self.tile_run(network, base, geometry, layers, workspace, before=guard.before)
            return run.run(patches, head)

        groups = self._groups(tiling.tiles)
        following = dict(pairwise(groups))
        started: dict[_Group, list[Callable[[], torch.Tensor]]] = {}

        with workers(self.workers, run_tile) as running:

            def begun(group: _Group) -> list[Callable[[], torch.Tensor]]:
                if group not in started:
                    waiting = [running.start(tile) for tile in group]
                    started[group] = [_result(start()) for start in waiting] if self.uniform else waiting
                return started[group]

            def compute(group: _Group) -> Scores:
                results = begun(group)
                if group in following and (running.pool is not None or self.uniform):
                    begun(following[group])  # so that workers, or the GPU, go on while the head runs and is read
                del started[group]
                outputs = [result() for result in results]
                for tile in group:
                    heights, widths = tiling.extents.sizes(tile)
                    context.flops += float(per_location @ (heights * widths)) * tile.size
                output = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
                if head is not None:
                    geometry = tiling.extents.of(group[0])  # which does not matter: behind it nothing has a region
                    output = self.tile_run(network, base, geometry, layers).run_head(head, output)
                places = [tile.asked.positions() for tile in group]
                rows, cols = (np.concatenate(index).astype(np.int32) for index in zip(*places, strict=True))
                output = in_full_where_nan(context, output, rows, cols)
                return Scores(rows, cols, context.read(output), tiling.extents.regions.free(rows, cols))

            yield from shrinking(groups, compute, _halves)

    def _uniform_run(self, context: ImageContext, tiling: Tiling, head: int | None) -> UniformRun | None:
        """Runs uniform tiles; None where tiles are as they come."""
        if not self.uniform:
            return None
        assert context.base is not None and isinstance(tiling.extents, UniformExtents)
        if not self.graphs:
            return UniformRun(context.network, context.base, tiling.extents, head, self.tile_run)
        replays = context.replays or self.replays(context.image.device)
        assert replays is not None
        base = replays.hold(context.network, context.base)
        return UniformRun(context.network, base, tiling.extents, head, self.tile_run, replays)

    def _tiling(self, workload: Workload) -> Tiling:
        how = self.tile, self.uniform, self._cap(), self.workers
        return tiling_of(workload.network, workload.grid, workload.cells, *how)

    def _cap(self) -> Cap | None:
        """What the regions of all nodes are capped at."""
        return None

    def _shared_head(self, network: Network) -> int | None:
        """The node that the head begins with where several tiles share it; None where each runs its own."""
        return network.head if self.head else None

    def _groups(self, tiles: Iterable[Tile]) -> list[_Group]:
        """Tiles whose heads run together."""
        groups: list[_Group] = []
        waiting: list[Tile] = []
        for tile in tiles:
            waiting.append(tile)
            if sum(tile.size for tile in waiting) >= self.head and len(waiting) >= self.workers:
                groups.append(tuple(waiting))
                waiting = []
        return [*groups, tuple(waiting)] if waiting else groups

    def footprint(self, workload: Workload) -> Footprint:
        """What it holds, told from the shapes of its tiles."""
        return self._footprint(self._tiling(workload), workload.element_bytes)

    def _footprint(self, tiling: Tiling, element_bytes: int) -> Footprint:
        head = self._shared_head(tiling.network)
        together = tiling.largest_group(self.head, self.workers)
        return incremental_footprint(tiling, self.blocks, element_bytes, together, head, self.workers, self.rounded)


def in_full_where_nan(context: ImageContext, output: torch.Tensor, rows: np.ndarray, cols: np.ndarray) -> torch.Tensor:
    """A network's scores [n, classes] of some cells; those that hold NaN by full inference: they may not be right."""
    lost = np.flatnonzero(output.isnan().any(1).cpu().numpy())
    if not len(lost):
        return output
    output, grid = output.clone(), context.grid
    for start in range(0, len(lost), _BATCH_BESIDE_TILES):
        part = lost[start : start + _BATCH_BESIDE_TILES]
        ys, xs = grid.ys[rows[part]], grid.xs[cols[part]]
        scores, _ = context.network.run(occluded(context.image, context.patches(ys, xs), ys, xs), plain=True)
        context.flops += context.network.flops * len(part)
        output[torch.from_numpy(part).to(output.device)] = scores.to(output.dtype)
    return output


def prepare_base(context: ImageContext, differences: Iterable[int]) -> torch.Tensor:
    """Materializes what tiles read; gives the scores of the unoccluded image, [1, classes].

    Args:
        differences: convolutions that are computed from differences.
    """
    network, image = context.network, context.image
    if context.rounded is None:
        context.base = materialize(network, image, differences)
    else:
        context.base = materialize_for_differences(network, image, context.rounded.dtype)
    context.flops += network.flops
    return context.base.output


def _ranked(costed: list[tuple[Cost, tuple[int, int], MemorySaving]]) -> list[tuple[tuple[int, int], MemorySaving]]:
    """The fastest first; of those that are as fast as it, the one that needs least memory."""
    as_fast = _AS_FAST * min((cost.seconds for cost, _, _ in costed), default=0.0)
    ranked = sorted(costed, key=lambda plan: (max(as_fast, plan[0].seconds), plan[0].memory))
    return [(shape, saving) for _, shape, saving in ranked]


def _result(done: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: done


def _halves(group: _Group) -> list[_Group]:
    """Two groups of half the tiles, or of half a tile."""
    if len(group) > 1:
        return [group[: len(group) // 2], group[len(group) // 2 :]]
    return [(half,) for half in group[0].halves()]
