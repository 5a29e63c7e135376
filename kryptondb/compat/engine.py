"""The query engine under the drop-in classes: a traced network, a grid, and a tensor in place of a picture."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from kryptondb.compat.traced import Traced
from kryptondb.executor import heap
from kryptondb.executor.edges import Paint, painted
from kryptondb.executor.experiment import exact_inference
from kryptondb.executor.operators import OPERATORS, AnyOperator, Context, Full
from kryptondb.executor.operators.replay import Replays
from kryptondb.network import Grid
from kryptondb.optimizer.choose import choose
from kryptondb.optimizer.context import Context as Planning
from kryptondb.optimizer.logical import Hints
from kryptondb.optimizer.memory import memory_limit
from kryptondb.optimizer.workload import Workload

#: Scores may be numbers of any size: maps of them are to be what the peers compute, up to little more than rounding.
_CONVOLUTION = "accurate"
_local = threading.local()


@dataclass(frozen=True, eq=False)
class Engine:
    """How the windows of images of one shape are computed, chosen by cost as a query's are.

    Attributes:
        traced: the network.
        grid: where the windows stand.
        device: where the network is.
        operator: how it runs; reason: why.
    """

    traced: Traced
    grid: Grid
    device: torch.device
    operator: AnyOperator
    reason: str

    @classmethod
    def planned(cls, traced: Traced, grid: Grid, image: torch.Tensor) -> Engine:
        """The cheapest exact operator for windows on images like this one, [C, H, W].

        Raises:
            PlanError: none fits in the memory that is free.
        """
        context = _planning()
        device = str(image.device)
        precision = str(image.dtype).removeprefix("torch.")
        limit = memory_limit(context, device)
        workload = Workload(traced.network, grid, None, 1, device, limit, precision)
        with heap.kept():
            choice = choose(workload, Hints(precision=precision, convolution=_CONVOLUTION), context)
        operator = choice.chosen.operator
        assert isinstance(operator, AnyOperator)
        return cls(traced, grid, image.device, operator, f"{choice.chosen.description}; {choice.reason}")

    @property
    def explanation(self) -> str:
        """What runs, and why."""
        whole = isinstance(self.operator, Full)
        return f"{'full inference of the traced network' if whole else 'incremental inference'}: {self.reason}"

    @cached_property
    def replays(self) -> Replays | None:
        """Passes that all images share, where they are recorded."""
        return None if isinstance(self.operator, Full) else self.operator.replays(self.device)

    def on(self, image: torch.Tensor, read: Callable[[torch.Tensor], torch.Tensor]) -> Run:
        """Runs the unoccluded image [C, H, W].

        Args:
            read: outputs [n, *shape] -> the numbers that are wanted of each, [n, k].
        """
        return Run(self, image, read)


class Run:
    """One image's windows.

    Attributes:
        base: the numbers wanted of the unoccluded image, float64 [k].
    """

    def __init__(self, engine: Engine, image: torch.Tensor, read: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._engine, self._image = engine, image

        def numbers(output: torch.Tensor) -> np.ndarray:
            shaped = output.reshape(len(output), *engine.traced.shape)
            found: np.ndarray = read(shaped).double().cpu().numpy()
            return found

        with exact_inference(engine.device):
            self._context = Context(
                network=engine.traced.network,
                grid=engine.grid,
                mask=np.ones((engine.grid.rows, engine.grid.cols), dtype=bool),
                image=image[None].contiguous(memory_format=torch.channels_last),
                patches=self._unpainted,
                read=numbers,
                replays=engine.replays,
            )
            output = engine.operator.prepare(self._context)
            self.base: np.ndarray = numbers(output)[0]

    def cells(self, paint: Paint, progress: Callable[[int], None] = lambda _: None) -> np.ndarray:
        """The numbers wanted with each window painted, float64 [k, rows, cols].

        Args:
            paint: the fill; rectangles of the image's own type.
            progress: told how many windows are done, now and then.
        """
        engine, image = self._engine, self._image
        grid = engine.grid

        def patches(ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
            shown = painted(paint, image, grid, ys, xs)
            return shown.to(image.dtype).contiguous(memory_format=torch.channels_last)

        self._context.patches = patches
        found = np.empty((len(self.base), grid.rows, grid.cols))
        done = 0
        with heap.kept(), exact_inference(engine.device):
            for block in engine.operator.run(self._context):
                found[:, block.rows, block.cols] = block.scores.T
                done += len(block.rows)
                progress(done)
        return found

    def _unpainted(self, ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
        raise AssertionError("cells() says what windows are painted with")


def _planning() -> Planning:
    """What planning may ask for: this machine's rates, measured once a thread, and the memory that is free."""
    if not hasattr(_local, "planning"):
        from kryptondb.session import connect

        session = connect()  # in memory: a drop-in class leaves no file behind
        _local.planning = Planning(session.models, session.settings, {}, session.rates, OPERATORS)
    planning: Planning = _local.planning
    return planning
