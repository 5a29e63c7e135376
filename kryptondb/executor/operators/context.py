"""What an operator has in hand while it runs: one image, its network on its device, and how a score is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from kryptondb.executor.tiles.base import Base
from kryptondb.network import Grid, Network
from kryptondb.process.memory import MemoryGuard

if TYPE_CHECKING:
    from kryptondb.executor.kernels.winograd import Block
    from kryptondb.executor.tiles.footprint import Footprint
    from kryptondb.executor.tiles.replay import Replays

Work = TypeVar("Work")


@dataclass(frozen=True, eq=False)
class Scores:
    """Cells that are done.

    Attributes:
        rows, cols: their places in the grid, int32 [n].
        scores: the score of each class asked for, float64 [n, k].
        exact: whether they are what full inference would give, of all cells or of each, boolean [n].
        computed: whether the network ran for them; if not, they are reconstructed from others.
    """

    rows: np.ndarray
    cols: np.ndarray
    scores: np.ndarray
    exact: bool | np.ndarray = True
    computed: bool = True

    def none(self) -> Scores:
        """A block of none of its cells."""
        return Scores(self.rows[:0], self.cols[:0], self.scores[:0])


@dataclass(eq=False)
class ImageContext:
    """One image's experiment as an operator sees it.

    Attributes:
        network: on its device and in the precision of its base.
        rounded: the same in the precision of what an occlusion changes, where that is another; else None.
        grid: every position.
        mask: the cells to compute, boolean [rows, cols].
        image: the unoccluded image, normalized, [1, C, H, W].
        patches: `(ys, xs)`, int64 [n] each -> what the patch shows at these pixels, normalized, [n, C, h, w].
        read: scores of the network [n, classes] -> the scores asked for, float64 [n, k].
        base: the materialized base, where the operator's `prepare` makes one.
        flops: operations done so far; operators add to it.
        spent: seconds so far, by phase (`optimizer.cost.Phase`).
        replays: recorded passes that pictures share; None where none are recorded, or for this picture alone.
        held_before: bytes that the process held beside this image, None where its memory is not watched.
        beside: bytes that may come to that while this image runs: the next one's base.
        memory: bytes that may be held where operators would keep to less.
        layers_beside: convolutions whose prepared weights other operators of this image need, with their blocks.
        score: what `read` gives: 'probability', 'log_probability', 'logit' or 'output'.
        says_the_same: asks a module that runs as it stands about the unoccluded image again, and says whether it
            answers as before; None for a traced network, which always does.
        time_left: seconds that are left for this image; None without a limit.
    """

    network: Network
    grid: Grid
    mask: np.ndarray
    image: torch.Tensor
    patches: Callable[[np.ndarray, np.ndarray], torch.Tensor]
    read: Callable[[torch.Tensor], np.ndarray]
    base: Base | None = None
    flops: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)
    replays: Replays | None = None
    held_before: int | None = None
    beside: int = 0
    memory: int = 0
    layers_beside: Collection[tuple[int, Block]] = ()
    score: str = "probability"
    time_left: Callable[[], float] | None = None
    rounded: Network | None = None
    says_the_same: Callable[[], bool] | None = None

    def timed(self, phase: str, blocks: Iterator[Scores]) -> Scores | None:
        """The next block of cells, None after the last; what it takes, but for phases inside of it, is this phase's."""
        began, inside = time.perf_counter(), sum(self.spent.values())
        scores = next(blocks, None)
        took = time.perf_counter() - began - (sum(self.spent.values()) - inside)
        self.spent[phase] = self.spent.get(phase, 0.0) + took
        return scores

    def guard(self, footprint: Footprint) -> MemoryGuard:
        """Keeps a run to the budget of its plan, or to what the plan may hold where that is more."""
        return MemoryGuard(self.held_before, max(footprint.budget + self.beside, self.memory), footprint.needed)

    @property
    def element_bytes(self) -> int:
        """Bytes of one number of a region."""
        return self.image.element_size() if self.rounded is None else self.rounded.dtype.itemsize
