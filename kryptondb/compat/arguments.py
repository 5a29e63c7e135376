"""The arguments of Captum's `attribute`, checked: inputs, baselines, the windows that slide over them, and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from numbers import Integral
from typing import Any

import numpy as np
import torch

from kryptondb.errors import ArgumentError, ShapeError, UnsupportedError
from kryptondb.executor.heatmaps import coverage


@dataclass(frozen=True, eq=False)
class OcclusionCall:
    """One call of `attribute`, checked.

    Attributes:
        forward: the function that is explained.
        inputs: tensors, the first dimension of each the examples.
        baselines: for each input what its windows are filled with, of its shape and of the type that occluded inputs
            have.
        windows: for each input.
        target: as it was given; arguments: what `forward` takes behind the inputs.
        per_evaluation: how many windows one evaluation holds.
    """

    forward: Callable[..., Any]
    inputs: tuple[torch.Tensor, ...]
    baselines: tuple[torch.Tensor, ...]
    windows: tuple[Windows, ...]
    target: Any
    arguments: tuple[Any, ...]
    per_evaluation: int

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return int(self.inputs[0].shape[0])

    @property
    def total(self) -> int:
        """How many windows there are on all inputs together."""
        return sum(windows.total for windows in self.windows)

    def evaluate(self, inputs: Sequence[torch.Tensor], times: int) -> torch.Tensor:
        """What is explained, of inputs that hold all examples `times` times: the function's output at the target."""
        arguments = tuple(_repeated(argument, times) for argument in self.arguments)
        output = self.forward(*inputs, *arguments) if _takes_inputs(self.forward) else self.forward()
        if isinstance(output, (int, float)):
            output = torch.tensor(output, dtype=torch.float64 if isinstance(output, float) else torch.int64)
        if not isinstance(output, torch.Tensor):
            raise ArgumentError(f"the forward function must return a tensor or a number, not a {type(output).__name__}")
        return selected(output, repeated(self.target, times))


def checked_call(
    forward: Callable[..., Any],
    inputs: Any,
    shapes: Any,
    strides: Any,
    baselines: Any,
    target: Any,
    arguments: Any,
    per_evaluation: Any,
) -> OcclusionCall:
    """The arguments of `attribute`, checked and given their meaning.

    Raises:
        ArgumentError: an argument that fits no other.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    if not given or not all(isinstance(value, torch.Tensor) and value.ndim for value in given):
        raise UnsupportedError("inputs must be a tensor or a tuple of tensors, with examples along the first dimension")
    if isinstance(per_evaluation, bool) or not isinstance(per_evaluation, int) or per_evaluation < 1:
        raise ArgumentError(f"perturbations_per_eval must be an integer of at least 1, not {per_evaluation!r}")
    fills = (0,) * len(given) if baselines is None else baselines if isinstance(baselines, tuple) else (baselines,)
    if len(fills) != len(given):
        raise ArgumentError(f"{len(fills)} baselines were given for {len(given)} inputs")
    return OcclusionCall(
        forward=forward,
        inputs=given,
        baselines=tuple(_baseline(images, fill) for images, fill in zip(given, fills, strict=True)),
        windows=tuple(windows_of([images.shape for images in given], shapes, strides)),
        target=target,
        arguments=() if arguments is None else arguments if isinstance(arguments, tuple) else (arguments,),
        per_evaluation=per_evaluation,
    )


def _baseline(images: torch.Tensor, fill: Any) -> torch.Tensor:
    """A baseline as a view of an input's shape, of the type that an occluded input has."""
    if not isinstance(fill, (int, float, torch.Tensor)):
        raise ArgumentError(f"a baseline is a number or a tensor, not {fill!r}")
    kind = images.dtype if images.dtype == torch.bool else torch.result_type(images, fill)
    level = torch.as_tensor(fill, device=images.device).to(kind)
    try:
        return torch.broadcast_to(level, images.shape)
    except RuntimeError:
        raise ShapeError(
            f"a baseline of shape {tuple(level.shape)} does not fit an input of shape {tuple(images.shape)}"
        ) from None


def _takes_inputs(function: Callable[..., Any]) -> bool:
    try:
        return bool(signature(function).parameters)
    except (TypeError, ValueError):  # built-in functions do not say
        return True


def _repeated(argument: Any, times: int) -> Any:
    if isinstance(argument, torch.Tensor) and argument.ndim and times > 1:
        return torch.cat([argument] * times)
    return argument


@dataclass(frozen=True)
class Windows:
    """Where a window stands on an input, its batch dimension left out: from corner 0 on, until everything is covered.

    Attributes:
        sizes: of the input; shape: of the window; strides: steps between windows. One number a dimension each.
    """

    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many windows there are along each dimension."""
        return tuple(
            -(-(size - extent) // step) + 1
            for size, extent, step in zip(self.sizes, self.shape, self.strides, strict=True)
        )

    @property
    def total(self) -> int:
        """How many windows there are."""
        return int(np.prod(self.counts, dtype=np.int64))

    def place(self, number: int) -> tuple[slice, ...]:
        """The part of the input that a window covers; the first dimension counts fastest."""
        slices = []
        for count, extent, step in zip(self.counts, self.shape, self.strides, strict=True):
            number, at = divmod(number, count)
            slices.append(slice(at * step, at * step + extent))
        return tuple(slices)

    def coverages(self) -> list[np.ndarray]:
        """For each dimension, which cells each window covers: float64 [size, count]."""
        parts = zip(self.sizes, self.counts, self.shape, self.strides, strict=True)
        return [coverage(size, np.arange(count) * step, extent) for size, count, extent, step in parts]


def windows_of(shapes: Sequence[Sequence[int]], sliding_window_shapes: Any, strides: Any) -> list[Windows]:
    """The windows of each input, in Captum's ways to give them.

    Args:
        shapes: of the inputs, batch dimension included.
        sliding_window_shapes: a tuple of integers for one input, or a tuple of such tuples.
        strides: None (1 everywhere), an integer, a tuple of integers for one input, or a tuple with one of these for
            each input.

    Raises:
        ArgumentError: the numbers do not fit the inputs, or a stride leaves gaps between windows.
    """
    extents = sliding_window_shapes
    if not isinstance(extents, tuple):
        raise UnsupportedError(f"sliding_window_shapes must be a tuple, not {extents!r}")
    if any(isinstance(extent, float) for extent in extents):
        raise UnsupportedError(f"sliding_window_shapes must hold whole numbers, not {extents!r}")
    if len(shapes) == 1 and all(isinstance(extent, Integral) for extent in extents):
        extents = (extents,)
    steps: Any = 1 if strides is None else strides
    if len(shapes) == 1 and not (isinstance(steps, tuple) and len(steps) == 1):
        steps = (steps,)
    elif strides is None:
        steps = (1,) * len(shapes)
    for name, given in (("sliding_window_shapes", extents), ("strides", steps)):
        if not isinstance(given, tuple) or len(given) != len(shapes):
            raise ArgumentError(f"{name} must have one entry for each of {len(shapes)} inputs, not {given!r}")
    return [_windows(number, tuple(shape[1:]), extents[number], steps[number]) for number, shape in enumerate(shapes)]


def _windows(number: int, sizes: tuple[int, ...], shape: Any, strides: Any) -> Windows:
    given_steps = (strides,) * len(sizes) if isinstance(strides, Integral) else strides
    for name, given in (("sliding window", shape), ("stride", given_steps)):
        if not isinstance(given, tuple) or len(given) != len(sizes) or not all(isinstance(n, Integral) for n in given):
            raise ArgumentError(
                f"the {name} of input {number} is {given!r}: it must have {len(sizes)} integers, one for each "
                f"dimension of {sizes} behind the batch"
            )
        if any(n < 1 for n in given) and 0 not in sizes:
            raise ArgumentError(f"the {name} of input {number} is {given!r}: all its numbers must be at least 1")
    extents, steps = tuple(int(n) for n in shape), tuple(int(n) for n in given_steps)
    for size, extent, step in zip(sizes, extents, steps, strict=True):
        if extent > size:
            raise ArgumentError(f"the sliding window {shape} of input {number} is larger than the input, {sizes}")
        if extent < size and step > extent:
            raise ArgumentError(
                f"the stride {steps} of input {number} leaves gaps between windows of {shape}",
                hint="A stride may be at most as large as the window, where that is smaller than the input.",
            )
    return Windows(sizes, extents, steps)


def selected(output: torch.Tensor, target: Any) -> torch.Tensor:
    """The part of an output that a target names.

    Args:
        output: [N, ...], one entry an example.
        target: None for everything; an integer, a tensor of one integer or a tuple of integers for the same place of
            every example; a list or a one-dimensional tensor of N integers, or a list of N tuples, for a place each.

    Raises:
        ArgumentError: the target names no place of this output.
        ShapeError: it is outside; also an IndexError, as Captum raises.
    """
    if target is None:
        return output
    if isinstance(target, torch.Tensor) and target.numel() == 1 and isinstance(target.item(), int):
        target = target.item()
    if isinstance(target, (int, tuple)):
        places = (target,) if isinstance(target, int) else target
        if len(places) > output.ndim - 1:
            raise ArgumentError(f"the target {target!r} has more numbers than an output of {_shape(output)} has places")
        return _at(output, (slice(None), *places), target)
    if isinstance(target, torch.Tensor):
        if target.ndim != 1 or len(target) != len(output):
            raise ArgumentError(f"a target of shape {tuple(target.shape)} does not fit {len(output)} examples")
        target = target.tolist()
    if not isinstance(target, list):
        raise ArgumentError(f"a target is an integer, a tuple, a tensor or a list of these, not {target!r}")
    if len(target) != len(output):
        raise ArgumentError(f"{len(target)} targets were given for {len(output)} examples")
    if all(isinstance(place, int) for place in target):
        if output.ndim != 2:
            raise ArgumentError(f"an integer for each example needs an output of [N, classes], not {_shape(output)}")
        return torch.stack([_at(output, (number, place), target) for number, place in enumerate(target)])
    if not all(isinstance(place, tuple) for place in target):
        raise UnsupportedError(f"a list of targets holds integers or tuples, one kind of them, not {target!r}")
    return torch.stack([_at(output, (number, *place), target) for number, place in enumerate(target)])


def repeated(target: Any, times: int) -> Any:
    """The target of a batch in which all examples come `times` times, one round after the other."""
    if isinstance(target, list):
        return target * times
    if isinstance(target, torch.Tensor) and target.numel() > 1:
        return torch.cat([target] * times)
    return target


def of_example(target: Any, number: int, examples: int) -> Any:
    """The target of one example, for an output that holds it alone."""
    if isinstance(target, list) and len(target) == examples:
        return target[number] if isinstance(target[number], tuple) else int(target[number])
    if isinstance(target, torch.Tensor) and target.numel() > 1:
        return int(target[number])
    return target


def _at(output: torch.Tensor, index: tuple[Any, ...], target: Any) -> torch.Tensor:
    try:
        return output[index]
    except IndexError:
        raise ShapeError(f"the target {target!r} is outside an output of {_shape(output)}") from None


def _shape(output: torch.Tensor) -> str:
    return " x ".join(map(str, output.shape)) or "one number"
