"""A stopwatch on every node of a network while `incremental` runs, without a hook in the operator's own loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, ParamSpec, TypeVar

import torch

from benchmarks.clock import now
from kryptondb.executor.operators import ImageContext, Incremental, Scores
from kryptondb.executor.tiles.tile_run import TileRun
from kryptondb.network import Node

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


@dataclass(eq=False)
class Stopwatch:
    """Seconds so far.

    Attributes:
        nodes: of each node of the network, over all tiles.
        bases: of materializing the base, one per image.
        painting: of making the patches; reading: of making scores out of the network's output.
    """

    device: str
    nodes: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    bases: list[float] = field(default_factory=list)
    painting: float = 0.0
    reading: float = 0.0

    def timed(self, work: Callable[Arguments, Answer], note: Callable[[float], None]) -> Callable[Arguments, Answer]:
        """The same work; `note` receives the seconds of every call."""

        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
            start = now(self.device)
            answer = work(*args, **kwargs)
            note(now(self.device) - start)
            return answer

        return run

    def paint(self, seconds: float) -> None:
        self.painting += seconds

    def read(self, seconds: float) -> None:
        self.reading += seconds


def watched(operator: Incremental, stopwatch: Stopwatch) -> Incremental:
    """The same operator, which reports to a stopwatch where its time goes."""

    class WatchedRun(TileRun):
        def _node(self, node: Node, patches: torch.Tensor, batch: int) -> Any:
            start = now(stopwatch.device)
            value = super()._node(node, patches, batch)
            stopwatch.nodes[node.index] += now(stopwatch.device) - start
            return value

    class Watched(Incremental):
        tile_run: ClassVar[type[TileRun]] = WatchedRun

        def prepare(self, context: ImageContext) -> torch.Tensor:
            return stopwatch.timed(super().prepare, stopwatch.bases.append)(context)

        def run(self, context: ImageContext) -> Iterator[Scores]:
            context.patches = stopwatch.timed(context.patches, stopwatch.paint)
            context.read = stopwatch.timed(context.read, stopwatch.read)
            return super().run(context)

    # A recorded pass cannot be told apart: uniform tiles run as they stand.
    return Watched(operator.tile, operator.winograd, operator.head, uniform=operator.uniform)
