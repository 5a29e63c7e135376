"""A model on its device, ready to run an experiment: a picture in, its materialized base and its cells out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from kryptondb.catalog.scores import log_probabilities, probabilities
from kryptondb.executor.edges import painted
from kryptondb.executor.operators import AnyOperator, Full, ImageContext, Scores
from kryptondb.executor.tiles.replay import Replays
from kryptondb.images.fills import Fill, Painter, parse_fill
from kryptondb.images.picture import Picture
from kryptondb.network import Grid, Network, trace
from kryptondb.network.cache import cached_on_network
from kryptondb.network.consistency import same_random_numbers_after, why_differs
from kryptondb.optimizer.cost import BASE
from kryptondb.optimizer.experiment import ClassChoice, Experiment
from kryptondb.optimizer.workload import ELEMENT_BYTES, REDUCED_PRECISIONS, mask_of_runs
from kryptondb.process.memory import anonymous_bytes, release_free_memory
from kryptondb.process.torch_state import own_torch_state

if TYPE_CHECKING:
    from kryptondb.catalog import Model

#: What networks run in.
_DTYPES = {name: getattr(torch, name) for name in ELEMENT_BYTES}


@cached_on_network(4)
def placed(network: Network, device: str, precision: str, model: Model) -> Network:
    """A model's network on a device and in a precision; the last few are kept: a session moves its weights once.

    Twice the precision needs another tracing, and the module for it: batch norms were folded and rounded in the first.
    """
    if precision == "float64" and network.traced:
        network = trace(copy.deepcopy(model.module).double(), network.input_shape, model.activation)
    return network.to(device, _DTYPES[precision])


@dataclass(frozen=True, eq=False)
class ModelRunner:
    """Runs one experiment on picture after picture.

    Attributes:
        experiment: what is asked.
        model: gives the preprocessing.
        network: the model's traced network.
        operator: how the cells are computed.
        device: a torch device string.
        precision: what the network runs in, one of `workload.ELEMENT_BYTES`.
        beside: bytes of memory for the next picture's base, where it is made while this one's cells are computed.
        memory: bytes that may be held in all, where that is more than the operator needs.
    """

    experiment: Experiment
    model: Model
    network: Network
    operator: AnyOperator
    device: str
    precision: str = "float32"
    beside: int = 0
    memory: int = 0

    @property
    def base_precision(self) -> str:
        """What the unoccluded image runs in: where only differences are rounded, float32."""
        return "float32" if self.operator.rounded else self.precision

    @cached_property
    def grid(self) -> Grid:
        """Every position of the patch."""
        return self.experiment.grid

    @cached_property
    def fill(self) -> Fill:
        """What the patch is painted with."""
        return parse_fill(self.experiment.fill)

    @cached_property
    def placed(self) -> Network:
        """The network on the device and in the precision of the base."""
        return placed(self.network, self.device, self.base_precision, self.model)

    @cached_property
    def rounded(self) -> Network | None:
        """The same in the precision of differences, where they are rounded."""
        return placed(self.network, self.device, self.precision, self.model) if self.operator.rounded else None

    @cached_property
    def replays(self) -> Replays | None:
        """Passes of tiles that were recorded for one picture and are replayed for the others."""
        return None if isinstance(self.operator, Full) else self.operator.replays(torch.device(self.device))

    def run(self, picture: Picture) -> OccludedImage:
        """Runs the unoccluded picture; iterating the result computes the cells.

        May be called in another thread while the cells of the picture before are computed, but not while their
        iteration begins: that looks at the memory.

        Raises:
            ImageError: the picture cannot be made into the model's input.
        """
        return OccludedImage(self, picture)


class OccludedImage:
    """One picture's experiment: its base is materialized, and iterating it computes its cells.

    Attributes:
        prediction: probabilities of all classes with nothing occluded, float64 [classes]; a regression's own numbers.
        classes: the k classes that are scored, the most probable first where they were chosen by probability.
        base: their scores with nothing occluded, float64 [k].
        unsteady: why no cell is exact, although the operator is: the model answers one picture in two ways.
    """

    def __init__(self, runner: ModelRunner, picture: Picture) -> None:
        self._runner = runner
        self.unsteady = runner.network.unsteady
        device, dtype = torch.device(runner.device), _DTYPES[runner.base_precision]
        preprocess = runner.model.preprocess
        with exact_inference(device):
            # In a reduced precision only the network rounds: pixels do not.
            pixels = preprocess.pixels(picture).to(device, torch.float32 if self._is_reduced else dtype)
            image = preprocess.normalize(pixels)[None].to(dtype).contiguous(memory_format=torch.channels_last)
            painter = runner.fill.prepare(pixels)
            self._context = ImageContext(
                network=runner.placed,
                rounded=runner.rounded,
                grid=runner.grid,
                mask=mask_of_runs(runner.experiment.runs, runner.grid.rows, runner.grid.cols),
                image=image,
                patches=lambda ys, xs: self._patches(painter, pixels, ys, xs),
                read=self._read,
                replays=runner.replays,
                beside=runner.beside,
                memory=runner.memory,
                score=runner.experiment.score,
            )
            began = time.perf_counter()
            with self._drawing():
                output = runner.operator.prepare(self._context)
            self._context.spent[BASE] = time.perf_counter() - began
            if not runner.network.traced and self.unsteady is None:
                self._context.says_the_same = lambda: self._says_again(output)
                self._context.says_the_same()
        scores = output.double().cpu()
        self.prediction: np.ndarray = probabilities(scores, runner.model.activation)[0].numpy()
        self.classes: list[int] = _chosen(runner.experiment.classes, self.prediction)
        self.base: np.ndarray = self._read(output)[0]

    @property
    def _is_reduced(self) -> bool:
        return self._runner.precision in REDUCED_PRECISIONS

    @property
    def flops(self) -> float:
        """Operations done so far."""
        return self._context.flops

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds so far, by phase."""
        return self._context.spent

    def allot(self, time_left: Callable[[], float]) -> None:
        """Lets an operator that can stop do so when that many seconds are left no more. Call before iterating."""
        self._context.time_left = time_left

    def __iter__(self) -> Iterator[Scores]:
        release_free_memory()  # what made the base, and what earlier pictures left free, is nobody's
        held, base = anonymous_bytes(), self._context.base
        if held is not None:
            self._context.held_before = held - (base.main_memory if base is not None else 0)
        return self._cells()

    def _cells(self) -> Iterator[Scores]:
        device = torch.device(self._runner.device)
        operator = self._runner.operator
        cells = operator.run(self._context)
        while True:
            # Around each step: a generator must not keep it on while others run.
            with exact_inference(device), self._drawing():
                scores = self._context.timed(operator.rest, cells)
            if scores is None:
                self._context.base = self._context.replays = None  # those who keep the answer keep no activations
                return
            yield replace(scores, exact=False) if self._is_reduced or self.unsteady is not None else scores

    def _drawing(self) -> AbstractContextManager[None]:
        """Where a network draws random numbers, the caller's go on as if it did not."""
        return same_random_numbers_after() if self._runner.network.unsteady is not None else nullcontext()

    def _says_again(self, base: torch.Tensor) -> bool:
        """Asks a module about the unoccluded picture again, and notes where it says something else than before."""
        context = self._context
        self.unsteady = self.unsteady or why_differs(base, context.network.run(context.image)[0])
        return self.unsteady is None

    def _patches(self, painter: Painter, pixels: torch.Tensor, ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
        shown = painted(painter, pixels, self._runner.grid, ys, xs)
        normalized = self._runner.model.preprocess.normalize(shown)
        dtype = _DTYPES[self._runner.base_precision]
        return normalized.to(dtype).contiguous(memory_format=torch.channels_last)

    def _read(self, output: torch.Tensor) -> np.ndarray:
        """The network's output [n, classes] -> the scores asked for, float64 [n, k]."""
        scores = output.double().cpu()
        if self._runner.experiment.score == "probability":
            scores = probabilities(scores, self._runner.model.activation)
        elif self._runner.experiment.score == "log_probability":
            scores = log_probabilities(scores, self._runner.model.activation)
        chosen: np.ndarray = scores[:, self.classes].numpy()
        return chosen


def _chosen(choice: ClassChoice, prediction: np.ndarray) -> list[int]:
    if choice.kind == "all":
        return list(range(len(prediction)))
    if choice.kind == "list":
        return list(choice.indices)
    order = np.argsort(-prediction, kind="stable")
    return [int(index) for index in order[: choice.k]]


@contextmanager
def exact_inference(device: torch.device) -> Iterator[None]:
    """Inference mode in torch's own state: float32 is float32, on a GPU too, whatever the caller has set."""
    with own_torch_state(device.type), torch.inference_mode():
        yield
