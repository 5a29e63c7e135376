"""Which numbers of a network's output are explained: Captum's forms of `target`."""

from __future__ import annotations

from typing import Any

import torch

from kryptondb.errors import ArgumentError, ShapeError, UnsupportedError


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
