"""Tiles in few shapes: their passes are recorded once per shape, and replayed for all other tiles of it (CUDA graphs).

A GPU does a small layer in less time than the processor takes to launch it. A graph launches all layers of a pass at
once, on the memory that it was recorded with: new inputs are copied into it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch

from kryptondb.errors import ExecutionError
from kryptondb.executor.tiles.base import Base
from kryptondb.executor.tiles.reads import Counts, PlacedReads, Places, counts_on_device
from kryptondb.executor.tiles.tile_run import TileRun
from kryptondb.executor.tiles.tiles import Tile
from kryptondb.executor.tiles.uniform import UniformExtents
from kryptondb.executor.tiles.workers import ran_out_of_memory
from kryptondb.network import Network

Inputs = tuple[torch.Tensor, ...]
_WARM_UPS = 2  # libraries choose their algorithms and kernels are compiled before a graph is recorded
#: Operators of such tags hand numbers back to the processor, on which it then acts; a graph cannot.
_READ_BACK = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class Recorder(Protocol):
    """Records work on a device."""

    def record(self, work: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Gives what does the work again, on the same memory; its result lies where it lay before."""


@dataclass(eq=False)
class CudaRecorder:
    """CUDA graphs. They share one pool of memory: they run one after the other, and results are copied at once."""

    device: torch.device
    pool: Any = field(init=False)  # a handle that only torch looks into
    aside: torch.cuda.Stream = field(init=False)

    def __post_init__(self) -> None:
        if self.device.type != "cuda":
            raise ExecutionError(
                f"graphs are replayed on CUDA devices, not on {self.device.type}",
                hint="Run the plan on a CUDA device, or with graphs=False.",
            )
        self.pool = torch.cuda.graph_pool_handle()
        # One for all recordings: libraries keep memory for each stream that they have seen.
        self.aside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def record(self, work: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Records the work as a CUDA graph; what is returned replays it and gives the same tensor, renewed."""
        with torch.cuda.device(self.device):
            own, aside = torch.cuda.current_stream(), self.aside
            aside.wait_stream(own)
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UPS):
                    work()
            own.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, pool=self.pool, stream=aside):
                    output = work()
            finally:
                torch.cuda.set_stream(own)  # a recording that fails leaves its own behind

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay


@dataclass(frozen=True, eq=False)
class _Recorded:
    inputs: Inputs
    replay: Callable[[], torch.Tensor]


@dataclass(eq=False)
class Replays:
    """The recorded passes of one plan, kept for all pictures of a query.

    Attributes:
        recorder: records them.
        failure: why nothing more is recorded; passes then run as they stand.
    """

    recorder: Recorder
    failure: str | None = None
    _base: Base | None = None
    _recorded: dict[Hashable, _Recorded] = field(default_factory=dict)
    _parts: dict[str, Replays] = field(default_factory=dict)

    def part(self, name: str) -> Replays:
        """Those of a stage of the plan: another one's shapes may be called alike and differ in their sizes."""
        return self._parts.setdefault(name, Replays(self.recorder))

    def hold(self, network: Network, base: Base) -> Base:
        """A picture's base in the memory that passes are recorded with."""
        if self._base is None:
            self._base = base
        elif base is not self._base:
            for index, table in base.tables.items():
                self._base.tables[index].rows.copy_(table.rows)
            for index, value in base.values.items():
                if network.varying[index] and isinstance(value, torch.Tensor):
                    self._base.values[index].copy_(value)
        return self._base

    def run(self, shape: Hashable, inputs: Inputs, work: Callable[[Inputs], torch.Tensor]) -> torch.Tensor:
        """`work(inputs)`, replayed where work on inputs of this shape was recorded before.

        Raises:
            RuntimeError: memory ran out. What was recorded is forgotten, which gives its memory back.
        """
        known = self._recorded.get(shape)
        if known is None and self.failure is None:
            try:
                known = self._recorded[shape] = self._record(inputs, work)
            except RuntimeError as error:
                if ran_out_of_memory(error):
                    self._recorded.clear()
                    raise
                self.failure = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                warnings.warn(f"no CUDA graphs, operators are launched one by one: {self.failure}", stacklevel=2)
        if known is None:
            return work(inputs)
        for static, new in zip(known.inputs, inputs, strict=True):
            static.copy_(new)
        return known.replay().clone()  # the next replay writes over it

    def _record(self, inputs: Inputs, work: Callable[[Inputs], torch.Tensor]) -> _Recorded:
        static = tuple(tensor.clone() for tensor in inputs)
        return _Recorded(static, self.recorder.record(lambda: work(static)))


def unrecordable(network: Network) -> str | None:
    """Why a pass through a network cannot be recorded, or None."""
    for node in network.nodes:
        tags = getattr(node.function, "tags", ())
        if network.varying[node.index] and any(tag in tags for tag in _READ_BACK):
            return f"{node.operator} at {node.name} gives numbers back to the processor"
    return None


@dataclass(eq=False)
class UniformRun:
    """Runs tiles of one picture.

    Attributes:
        last: the node whose value is wanted; None for the network's scores.
        tile_run: runs a tile.
        replays: recorded passes; without them every tile launches its operators one by one.
    """

    network: Network
    base: Base
    extents: UniformExtents
    last: int | None
    tile_run: type[TileRun]
    replays: Replays | None = None

    def run(self, tile: Tile, patches: torch.Tensor) -> torch.Tensor:
        """Patches [tile.size, C, h, w] -> the network's scores, or the value of the node `last`; repetitions too."""
        extents, shape = self.extents.of(tile), self.extents.shape(tile)
        places = Places.of(self.network, extents, patches.device)

        def work(inputs: Inputs) -> torch.Tensor:
            patches, ys, xs = inputs
            reads = PlacedReads(self.network, self.base, extents, shape, Places(ys, xs), self._counts)
            return self.tile_run(self.network, self.base, extents, reads=reads).run(patches, self.last)

        inputs = patches, places.ys, places.xs
        return work(inputs) if self.replays is None else self.replays.run(shape, inputs, work)

    @cached_property
    def _counts(self) -> Counts:
        return counts_on_device(self.network, self.base.output)
