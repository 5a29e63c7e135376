"""`full`: batches of occluded images through the whole network, as every other tool does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from kryptondb.executor.operators.context import ImageContext, Scores
from kryptondb.executor.tiles.costs import whole_seconds
from kryptondb.executor.tiles.footprint import full_footprint
from kryptondb.executor.tiles.workers import shrinking
from kryptondb.network import Rule
from kryptondb.optimizer.cost import POSITIONS, Cost, Rates, base_and_positions
from kryptondb.optimizer.workload import Workload

_LARGEST_BATCH = 64
#: A module that runs as it stands is asked about the unoccluded image again after this many positions.
_ASK_AGAIN = 64


@dataclass(frozen=True)
class Full:
    """Naive occlusion (paper, section 3.1, steps 4 to 6), `batch` positions at a time. Exact."""

    name: ClassVar[str] = "full"
    exact: ClassVar[bool] = True
    rounded: ClassVar[bool] = False
    rest: ClassVar[str] = POSITIONS
    batch: int

    @classmethod
    def candidates(cls, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[Full]:
        """The largest batch that memory allows, at most 64: beyond that a larger one brings nothing."""
        if workload.network.batch_statistics:
            return [cls(1)]
        network, element = workload.network, workload.element_bytes
        batch = max(1, min(int(hints.get("batch", _LARGEST_BATCH)), max(1, workload.positions)))
        while batch > 1 and (needed := full_footprint(network, batch, element).budget) > workload.memory_limit:
            batch = max(1, min(batch - 1, int(batch * workload.memory_limit / needed)))
        return [cls(batch)]

    def estimate(self, workload: Workload, rates: Rates) -> Cost:
        """Every position is one inference, and the unoccluded image is one more."""
        network = workload.network
        batches, rest = divmod(workload.positions, self.batch)
        flops = (workload.positions + 1) * network.flops
        base, *others = (
            count * whole_seconds(network, size, rates, workload.element_bytes, workload.fusions)
            for count, size in [(1, 1), (batches, self.batch), (1, rest)]
            if count and size
        )
        footprint = full_footprint(network, self.batch, workload.element_bytes)
        return base_and_positions(footprint.cost(base + sum(others), flops, workload.device), base)

    def describe(self, workload: Workload) -> str:
        """For EXPLAIN."""
        return f"{workload.precision}, batches of {self.batch}"

    def prepare(self, context: ImageContext) -> torch.Tensor:
        """Runs the unoccluded image; gives its scores, [1, classes]."""
        context.flops += context.network.flops
        return context.network.run(context.image)[0]

    def run(self, context: ImageContext) -> Iterator[Scores]:
        """Yields a block of cells a batch."""
        rows, cols = (index.astype(np.int32) for index in np.nonzero(context.mask))
        footprint = full_footprint(context.network, self.batch, context.image.element_size())
        guard = context.guard(footprint)
        images = next((node.index for node in context.network.nodes if node.rule is Rule.INPUT), None)
        blocks = [np.arange(start, min(start + self.batch, len(rows))) for start in range(0, len(rows), self.batch)]

        def compute(block: np.ndarray) -> Scores:
            ys, xs = context.grid.ys[rows[block]], context.grid.xs[cols[block]]
            if images is not None:
                guard.before(images)
            output, _ = context.network.run(
                occluded(context.image, context.patches(ys, xs), ys, xs), before=guard.before
            )
            context.flops += context.network.flops * len(block)
            return Scores(rows[block], cols[block], context.read(output))

        done = asked = 0

        for cells in shrinking(blocks, compute, lambda block: [half for half in np.array_split(block, 2) if len(half)]):
            done += len(cells.rows)
            if context.says_the_same is not None and (done - asked >= _ASK_AGAIN or done == len(rows)):
                context.says_the_same()  # before these cells go out: they are not exact where it does not
                asked = done
            yield cells


def occluded(image: torch.Tensor, patches: torch.Tensor, ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
    """The image [1, C, H, W] once a position, each with its patch [C, h, w] in place; [n, C, H, W], channels last."""
    height, width = patches.shape[2:]
    images = image.expand(len(ys), -1, -1, -1).clone(memory_format=torch.channels_last)
    for number, (y, x) in enumerate(zip(ys.tolist(), xs.tolist(), strict=True)):
        images[number, :, y : y + height, x : x + width] = patches[number]
    return images
