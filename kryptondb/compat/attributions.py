"""What the output loses under each window: by the traced network, or in batches of the function as Captum runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from kryptondb.compat.arguments import OcclusionCall, of_example, selected
from kryptondb.compat.engine import Engine, Refusal, incrementally
from kryptondb.compat.tracing import Traced, Tracer, agree, is_image
from kryptondb.errors import ArgumentError, PlanError
from kryptondb.executor.edges import Paint, windows
from kryptondb.network import Grid

Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the output loses under each window, and how that was found out.

    Attributes:
        differences: for each input float64 [outputs, windows along its first dimension, ...].
        explanation: what ran, and why.
        model: a tensor of the class that attributions have.
    """

    differences: list[np.ndarray]
    explanation: str
    model: torch.Tensor


def answer(call: OcclusionCall, tracer: Tracer, progress: Progress) -> Answer:
    """The answer to a call of `attribute`; gradients are off.

    Args:
        tracer: knows the functions of earlier calls.
        progress: told how many windows are done, now and then.
    """
    began = time.perf_counter()
    initial = call.evaluate(call.inputs, 1)
    once = time.perf_counter() - began
    differences = Differences(call, initial)

    def batches() -> Iterator[int]:
        for done in differences:
            progress(done)
            yield done

    found = incrementally(
        call.forward,
        call.inputs[0],
        tracer,
        unfit=_unfit(call, initial),
        total=call.total,
        once=lambda: once,
        evaluate=lambda: call.evaluate(call.inputs, 1),
        batches=batches(),
        occluded=lambda: _first_occluded(call),
        compute=lambda traced: _incremental(call, initial, traced, tracer, progress),
    )
    if isinstance(found, Refusal):
        return Answer(differences.by_input(), f"batches of the forward function: {found.why}", _model(call, initial))
    return found


def _model(call: OcclusionCall, initial: torch.Tensor) -> torch.Tensor:
    """What attributions are made like: the output, or the baseline where that is of another class than the inputs."""
    if is_subclass(initial) or any(is_subclass(given) for given in call.inputs):
        return initial
    return next((baseline for baseline in call.baselines if is_subclass(baseline)), initial)


def _unfit(call: OcclusionCall, initial: torch.Tensor) -> str | None:
    """Why a call cannot run incrementally, as far as can be told without tracing."""
    images = call.inputs[0]
    if len(call.inputs) > 1:
        return f"there are {len(call.inputs)} inputs"
    if call.arguments:
        return "there are additional arguments"
    if not is_image(images) or call.baselines[0].dtype != images.dtype:
        return f"the input is not a batch of images, N x C x H x W in float32 or float64, but {tuple(images.shape)}"
    if initial.ndim == 0 or len(initial) != len(images):
        return "the function does not answer image by image"
    return None


def _incremental(
    call: OcclusionCall, initial: torch.Tensor, traced: Traced, tracer: Tracer, progress: Progress
) -> Answer | Refusal:
    """The answer of a traced network, or why it has none."""
    images, baseline, (windows_on,) = call.inputs[0].detach(), call.baselines[0].detach(), call.windows
    (_, height, width), (_, *patch), (_, *stride) = windows_on.sizes, windows_on.shape, windows_on.strides
    grid = Grid(height, width, (patch[0], patch[1]), (stride[0], stride[1]), edges="cover")
    try:
        engine = Engine.planned(traced, grid, images[0])
    except PlanError as error:
        return Refusal(error.message)
    channels, done = windows_on.counts[0], 0

    def more(of_step: int) -> None:
        progress((done + of_step) // len(images))

    maps = []
    for number, image in enumerate(images):
        target = of_example(call.target, number, len(images))
        run = engine.on(image, lambda output, target=target: _flat(selected(output, target)))  # type: ignore[misc]
        if not agree(torch.from_numpy(run.base), initial[number].reshape(-1).cpu()):
            why = "it has changed since it was traced, or depends on the other examples"
            tracer.forget(call.forward, images, why)
            return Refusal(why)
        found = np.empty((len(run.base), *windows_on.counts))
        for step in range(channels):
            hidden = slice(step * windows_on.strides[0], step * windows_on.strides[0] + windows_on.shape[0])
            found[:, step] = run.base[:, None, None] - run.cells(_painter(image, baseline[number], hidden), more)
            done += grid.size
        maps.append(found)
    return Answer([np.concatenate(maps)], engine.explanation, _model(call, initial))


def _flat(output: torch.Tensor) -> torch.Tensor:
    return output.reshape(len(output), -1)


def _painter(image: torch.Tensor, baseline: torch.Tensor, hidden: slice) -> Paint:
    """Paints the hidden channels [C, H, W] with the baseline; the others show the image."""

    def paint(ys: np.ndarray, xs: np.ndarray, height: int, width: int) -> torch.Tensor:
        fill = windows(baseline, ys, xs, height, width)
        if hidden.start == 0 and hidden.stop >= len(image):
            return fill
        shown = windows(image, ys, xs, height, width)
        shown[:, hidden] = fill[:, hidden]
        return shown

    return paint


def _first_occluded(call: OcclusionCall) -> torch.Tensor:
    """The first example with its first window filled, [1, C, H, W]."""
    occluded = call.inputs[0][:1].clone()
    place = (slice(None), *call.windows[0].place(0))
    occluded[place] = call.baselines[0][:1][place]
    return occluded


class Differences:
    """What the output loses under each window.

    Attributes:
        initial: the output with nothing occluded, [N, ...], or of any shape where the function answers a whole batch.
        done: how many windows have been computed.
    """

    def __init__(self, call: OcclusionCall, initial: torch.Tensor) -> None:
        self._call = call
        self.initial = initial
        self.done = 0
        self._found: list[torch.Tensor] = []

    def __iter__(self) -> Iterator[int]:
        """Evaluates one batch of windows after the other; yields how many windows are done."""
        call, initial = self._call, self.initial.reshape(1, -1)
        places = [(number, at) for number, windows_on in enumerate(call.windows) for at in range(windows_on.total)]
        for start in range(0, len(places), call.per_evaluation):
            batch = places[start : start + call.per_evaluation]
            output = call.evaluate(self._occluded(batch), len(batch))
            if start == 0 and call.per_evaluation > 1:
                self._check_growth(output, len(batch))
            self._found.append(initial - output.reshape(len(batch), initial.shape[1]))
            self.done += len(batch)
            yield self.done

    def by_input(self) -> list[np.ndarray]:
        """For each input, once all is done, float64 [outputs, windows along the first dimension, ...]."""
        call, outputs = self._call, self.initial.numel()
        found = torch.cat(self._found).double().cpu().numpy() if self._found else np.zeros((0, outputs))
        parts, start = [], 0
        for windows_on in call.windows:
            part = found[start : start + windows_on.total].T
            parts.append(
                part.reshape((outputs, *windows_on.counts[::-1])).transpose(0, *range(len(windows_on.counts), 0, -1))
            )
            start += windows_on.total
        return parts

    def _occluded(self, batch: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """The inputs, all examples once for each window, the window filled."""
        call = self._call
        touched = {number for number, _ in batch}
        occluded = []
        for number, (images, baseline) in enumerate(zip(call.inputs, call.baselines, strict=True)):
            copies = torch.cat([images] * len(batch)) if len(batch) > 1 or number in touched else images
            if number in touched:
                copies = copies.to(baseline.dtype, copy=len(batch) == 1)
            occluded.append(copies)
        examples = call.examples
        for position, (number, at) in enumerate(batch):
            place = (slice(None), *call.windows[number].place(at))
            occluded[number][position * examples : (position + 1) * examples][place] = call.baselines[number][place]
        return occluded

    def _check_growth(self, output: torch.Tensor, times: int) -> None:
        grows = self.initial.ndim and output.ndim and output.shape[0] == times * self.initial.shape[0]
        if not grows:
            raise ArgumentError(
                f"with perturbations_per_eval > 1 the output must grow with the batch: it is {tuple(output.shape)} for "
                f"{times * self._call.examples} examples and {tuple(self.initial.shape)} for "
                f"{self._call.examples}",
                hint="Where the function answers a whole batch with one value, perturbations_per_eval must be 1.",
            )


def like(values: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """The values as the kind of tensor that a model is, with what its class carries along, such as an affine."""
    if not is_subclass(model):
        return values
    return values + model.new_zeros((), dtype=values.dtype, device=values.device)


def is_subclass(tensor: torch.Tensor) -> bool:
    """Whether a tensor is more than torch's own."""
    return type(tensor) not in (torch.Tensor, nn.Parameter)
