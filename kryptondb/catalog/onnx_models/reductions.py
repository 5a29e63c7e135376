"""Operators along axes: sums, norms, largest numbers, running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kryptondb.catalog.onnx_models.operation import Function, Handler, Operation, Operator, Value, numbers, tensor_of

Reduction = Callable[[torch.Tensor, list[int], bool], torch.Tensor]


def _reduction(
    function: Reduction, newest: int, alone: Callable[[torch.Tensor], torch.Tensor] = lambda value: value
) -> Operator:
    """
    Args:
        function: the reduction over axes.
        alone: what it does with each number where there are no axes and that is asked for.
    """

    def handler(op: Operation) -> Function:
        keep = bool(op.attribute("keepdims", 1))

        def apply(value: Any, *given: Any) -> Value:
            value = tensor_of(value)
            axes = numbers(given[0]) if given else op.attribute("axes")
            if not axes:
                if op.attribute("noop_with_empty_axes", 0):
                    return alone(value)
                axes = range(value.ndim)
            axes = [int(axis) % value.ndim for axis in axes]
            return function(value, axes, keep) if axes else alone(value)

        return apply

    return Operator(handler, "axes keepdims noop_with_empty_axes", newest)


def _largest(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return value.amax(axes, keepdim=keep)


def _smallest(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return value.amin(axes, keepdim=keep)


def _mean(value: torch.Tensor, axes: list[int], keep: bool) -> Value:
    if not value.is_floating_point():
        return (value.sum(axes, keepdim=keep) / _count(value, axes)).trunc().to(value.dtype)
    return value.mean(axes, keepdim=keep)


def _count(value: torch.Tensor, axes: list[int]) -> Any:
    count = 1
    for axis in axes:
        count = count * value.shape[axis]
    return count


def _sum(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return value.sum(axes, keepdim=keep)


def _product(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted(axes, reverse=True):
        value = value.prod(axis, keepdim=keep)
    return value


def _euclidean(value: torch.Tensor, axes: list[int], keep: bool) -> Value:
    return torch.linalg.vector_norm(value, 2, axes, keep)


def _global(function: Reduction, newest: int) -> Operator:
    return Operator(lambda op: lambda value: function(value, list(range(2, value.ndim)), True), newest=newest)


def _global_norm(op: Operation) -> Function:
    power = op.attribute("p", 2)
    return lambda value: torch.linalg.vector_norm(value, power, list(range(2, value.ndim)), True)


def _place(function: Callable[..., torch.Tensor]) -> Handler:
    """`ArgMax` and `ArgMin`: the first of equal numbers, or the last where that is asked for."""

    def handler(op: Operation) -> Function:
        axis, keep = op.attribute("axis", 0), bool(op.attribute("keepdims", 1))
        if not op.attribute("select_last_index", 0):
            return lambda value: function(value, axis, keepdim=keep)
        return lambda value: value.shape[axis] - 1 - function(value.flip(axis), axis, keepdim=keep)

    return handler


def _running(function: Callable[[torch.Tensor, int], torch.Tensor], start: float) -> Handler:
    """`CumSum` and `CumProd`, forwards or backwards, with or without the number itself."""

    def handler(op: Operation) -> Function:
        exclusive, backwards = op.attribute("exclusive", 0), op.attribute("reverse", 0)
        axis = int(op.number(1, "axis"))

        def apply(value: Any, *_: Any) -> Value:
            value = tensor_of(value)
            kind = value.dtype
            value = value.flip(axis) if backwards else value
            if exclusive:
                first = torch.full_like(value.narrow(axis, 0, 1), start)
                value = torch.cat([first, value.narrow(axis, 0, value.shape[axis] - 1)], axis)
            found = function(value, axis).to(kind)
            return found.flip(axis) if backwards else found

        return apply

    return handler


REDUCTIONS: dict[str, Operator] = {
    "ArgMax": Operator(_place(torch.argmax), "axis keepdims select_last_index", 13),
    "ArgMin": Operator(_place(torch.argmin), "axis keepdims select_last_index", 13),
    "CumProd": Operator(_running(torch.cumprod, 1.0), "exclusive reverse", 26),
    "CumSum": Operator(_running(torch.cumsum, 0.0), "exclusive reverse", 14),
    "GlobalAveragePool": _global(_mean, 22),
    "GlobalLpPool": Operator(_global_norm, "p", 22),
    "GlobalMaxPool": _global(_largest, 22),
    "ReduceL1": _reduction(lambda value, axes, keep: value.abs().sum(axes, keepdim=keep), 18, torch.abs),
    "ReduceL2": _reduction(_euclidean, 18, torch.abs),
    "ReduceLogSum": _reduction(lambda value, axes, keep: _sum(value, axes, keep).log(), 28, torch.log),
    "ReduceLogSumExp": _reduction(lambda value, axes, keep: torch.logsumexp(value, axes, keep), 28),
    "ReduceMax": _reduction(_largest, 20),
    "ReduceMean": _reduction(_mean, 18),
    "ReduceMin": _reduction(_smallest, 20),
    "ReduceProd": _reduction(_product, 18),
    "ReduceSum": _reduction(_sum, 13),
    "ReduceSumSquare": _reduction(lambda value, axes, keep: value.square().sum(axes, keepdim=keep), 18, torch.square),
}
