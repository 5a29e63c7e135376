"""When a call runs incrementally, and how: the query engine on a traced network and a tensor instead of a picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch

from kryptondb.compat.tracing import Traced, Tracer
from kryptondb.executor.edges import Paint, painted
from kryptondb.executor.operators import OPERATORS, AnyOperator, Full, ImageContext
from kryptondb.executor.runner import exact_inference
from kryptondb.executor.tiles.replay import Replays
from kryptondb.network import Grid
from kryptondb.optimizer.logical import Context as Planning
from kryptondb.optimizer.logical import Hints
from kryptondb.optimizer.strategies.exact import cheapest
from kryptondb.optimizer.strategies.request import Request
from kryptondb.optimizer.workload import Workload, memory_limit
from kryptondb.process.memory import keeping_freed_memory
from kryptondb.process.torch_state import leaves_numbers_alone

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
        hints = Hints({"convolution": _CONVOLUTION})
        with keeping_freed_memory():
            choice = cheapest(Request(workload, context.rates(device), context.operators, hints))
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
            self._context = ImageContext(
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
        with keeping_freed_memory(), exact_inference(engine.device):
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

        database = connect().database  # in memory: a drop-in class leaves no file behind
        _local.planning = Planning(database.models, database.settings, {}, database.calibration.rates, OPERATORS)
    planning: Planning = _local.planning
    return planning


Found = TypeVar("Found")


@dataclass(frozen=True)
class Refusal:
    """Nothing was computed incrementally, and why."""

    why: str


def incrementally(
    forward: Callable[..., Any],
    images: torch.Tensor,
    tracer: Tracer,
    *,
    unfit: str | None,
    total: int,
    once: Callable[[], float],
    evaluate: Callable[[], object],
    batches: Iterator[int],
    occluded: Callable[[], torch.Tensor],
    compute: Callable[[Traced], Found | Refusal],
) -> Found | Refusal:
    """What `compute` makes of the traced network, or all batches run through, and why.

    A network that is known already is taken at once. Else batches run until they have taken, or will take, so long
    that tracing pays; then it is traced, and they go on only where that is refused.

    Args:
        images: [N, C, H, W] where it is `unfit` for nothing.
        unfit: why the call cannot run incrementally whatever the function, None where it may.
        total: how many windows there are.
        once: tells how many seconds the unoccluded inputs take; asked only where no network is known.
        evaluate: evaluates them again.
        batches: runs one batch after the other, and gives how many windows are done.
        occluded: an image with something hidden, [1, C, H, W], that the traced network is tried on.
    """
    why = unfit
    if why is None and not leaves_numbers_alone():  # the peers compute in them, and so do batches
        why = "autocast or one of torch's modes is on, which the function runs in"
    known = tracer.known(forward, images) if why is None else None
    if isinstance(known, Traced):
        found = compute(known)
        if not isinstance(found, Refusal):
            return found
        why = found.why
    elif known is not None:
        why = known
    clock = BatchClock(total, tracer.spent(forward))
    pays = why is None and clock.pays_at_once(once(), evaluate)
    while True:
        if why is None and pays:
            traced = tracer.trace(forward, images, occluded())
            found = Refusal(traced) if isinstance(traced, str) else compute(traced)
            if not isinstance(found, Refusal):
                return found
            why = found.why
        done = next(batches, None)
        if done is None:
            return Refusal(why or tracer.not_worth(forward, clock.seconds))
        pays = why is None and clock.pays_after(done)


#: Seconds of batches, of this call and earlier ones with the same function, that are worth a tracing. It takes 2 to 5.
WORTH_TRACING = 10.0


#: How many times as fast as one by one images may be in batches.
_GAIN_OF_BATCHES = 2.0


@dataclass(eq=False)
class BatchClock:
    """Times the batches of one call, and says when tracing the function would pay.

    Attributes:
        total: how many windows it has.
        spent: seconds that the same function has taken in earlier calls.
    """

    total: int
    spent: float
    _began: float = field(default_factory=time.perf_counter)
    _first: int = 0
    _after_first: float = 0.0

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._began

    def pays_at_once(self, once: float, evaluate: Callable[[], object]) -> bool:
        """Whether tracing pays for certain, before any window is computed.

        Args:
            once: seconds of the first evaluation of the unoccluded inputs.
            evaluate: evaluates them again, where the first time may have been slow because it was the first.
        """
        if once * self.total <= _GAIN_OF_BATCHES * WORTH_TRACING:
            return False
        start = time.perf_counter()
        evaluate()
        again = min(once, time.perf_counter() - start)
        return again * self.total > _GAIN_OF_BATCHES * WORTH_TRACING

    def pays_after(self, done: int) -> bool:
        """Whether tracing pays, after so many windows: told from the second batch on, the first pays for warming up."""
        now = time.perf_counter()
        if not self._first:
            self._first, self._after_first = done, now
            return False
        left = (now - self._after_first) / (done - self._first) * (self.total - done)
        return self.spent + self.seconds + left > WORTH_TRACING
