"""One call of `attribute`, its arguments checked and given their meaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch

from kryptondb.compat.targets import repeated, selected
from kryptondb.compat.windows import Windows, windows_of
from kryptondb.errors import ArgumentError, ShapeError, UnsupportedError


@dataclass(frozen=True, eq=False)
class Question:
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
        return sum(each.total for each in self.windows)

    def evaluate(self, inputs: Sequence[torch.Tensor], times: int) -> torch.Tensor:
        """What is explained, of inputs that hold all examples `times` times: the function's output at the target."""
        arguments = tuple(_repeated(argument, times) for argument in self.arguments)
        output = self.forward(*inputs, *arguments) if _takes_inputs(self.forward) else self.forward()
        if isinstance(output, (int, float)):
            output = torch.tensor(output, dtype=torch.float64 if isinstance(output, float) else torch.int64)
        if not isinstance(output, torch.Tensor):
            raise ArgumentError(f"the forward function must return a tensor or a number, not a {type(output).__name__}")
        return selected(output, repeated(self.target, times))


def question_of(
    forward: Callable[..., Any],
    inputs: Any,
    shapes: Any,
    strides: Any,
    baselines: Any,
    target: Any,
    arguments: Any,
    per_evaluation: Any,
) -> Question:
    """The question that the arguments of `attribute` ask.

    Raises:
        ArgumentError: an argument that fits no other.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    if not given or not all(isinstance(each, torch.Tensor) and each.ndim for each in given):
        raise UnsupportedError("inputs must be a tensor or a tuple of tensors, with examples along the first dimension")
    if isinstance(per_evaluation, bool) or not isinstance(per_evaluation, int) or per_evaluation < 1:
        raise ArgumentError(f"perturbations_per_eval must be an integer of at least 1, not {per_evaluation!r}")
    fills = (0,) * len(given) if baselines is None else baselines if isinstance(baselines, tuple) else (baselines,)
    if len(fills) != len(given):
        raise ArgumentError(f"{len(fills)} baselines were given for {len(given)} inputs")
    return Question(
        forward=forward,
        inputs=given,
        baselines=tuple(_baseline(each, fill) for each, fill in zip(given, fills, strict=True)),
        windows=tuple(windows_of([each.shape for each in given], shapes, strides)),
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
