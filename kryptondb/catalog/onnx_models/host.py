"""Shape arithmetic on the number of pictures in a batch: the operators that exporters compute shapes with.

`Shape` gives a picture's sizes as plain numbers, the batch among them as whatever torch counts it with. What follows
(Gather, Slice, Concat, a product) is done on those numbers, so that nothing of it is left in the network. Shapes in
which the batch does not occur are constants and never come here (evaluation.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch

from kryptondb.catalog.onnx_models.operation import Host, Operation, Refused, checked_count, numbers

FLOATING = (1, 10, 11, 16)  # TensorProto's numbers of float, float16, double, bfloat16
BOOLEAN = 9
FAR = (1 << 31) - 1  # beyond all sides
WHOLE = (6, 7)  # int32, int64

HostFunction = Callable[..., Any]  # gives NotImplemented where the result is better a tensor


def _objects(values: Any) -> Host:
    """An object array, for results that numpy turned into plain numbers."""
    return np.asarray(values, dtype=object)


def _each(function: Callable[..., Any]) -> Callable[[Operation], HostFunction]:
    """An operator on each number, with broadcasting."""

    def handler(op: Operation) -> HostFunction:
        def apply(*values: Host) -> Host:
            shapes = [value.shape for value in values]
            checked_count(int(np.prod(np.broadcast_shapes(*shapes))))
            return _objects(reduce(np.frompyfunc(function, 2, 1), values))

        return apply

    return handler


def _single(function: Callable[[Any], Any]) -> Callable[[Operation], HostFunction]:
    def handler(op: Operation) -> HostFunction:
        return lambda value: _objects(np.frompyfunc(function, 1, 1)(value))

    return handler


def _divided(left: Any, right: Any) -> Any:
    """ONNX's division: of whole numbers towards zero."""
    if isinstance(left, (float, torch.SymFloat)) or isinstance(right, (float, torch.SymFloat)):
        return left / right
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left // right  # sizes, which are positive


def _axes(op: Operation, value: Host, given: tuple[Any, ...]) -> list[int] | None:
    axes = numbers(given[0]) if given else op.attribute("axes")
    return None if axes is None else [int(axis) for axis in axes]


def _gather(op: Operation) -> HostFunction:
    def gather(value: Host, indices: Host) -> Host:
        checked_count(indices.size * max(1, value.size))  # at least as many as the result has
        return _objects(np.take(value, indices.astype(np.int64), axis=op.attribute("axis", 0)))

    return gather


def _slice(op: Operation) -> HostFunction:
    def cut(value: Host, *given: Host) -> Host:
        starts, ends, axes, steps = slice_arguments(op, value.ndim, given)
        index = [slice(None)] * value.ndim
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            index[axis] = slice(start, end, step)
        return _objects(value[tuple(index)])

    return cut


def slice_arguments(op: Operation, ndim: int, given: tuple[Any, ...]) -> tuple[list[Any], ...]:
    """Starts, ends, axes (0 or above) and steps of a Slice, from inputs or from the attributes of opset 9 and before.

    Ends that mean 'to the end' (the largest whole numbers) come as None.
    """
    if given:
        starts, ends = numbers(given[0]), numbers(given[1])
        axes = numbers(given[2]) if len(given) > 2 and given[2] is not None else range(len(starts))
        steps = numbers(given[3]) if len(given) > 3 and given[3] is not None else [1] * len(starts)
    else:
        starts, ends = op.attribute("starts", []), op.attribute("ends", [])
        axes, steps = op.attribute("axes") or range(len(starts)), [1] * len(starts)
    ends = [_end(end, step) for end, step in zip(ends, steps, strict=True)]
    return list(starts), ends, [int(axis) % ndim for axis in axes], list(steps)


def _end(end: Any, step: Any) -> Any:
    """Where a slice ends: None for a number beyond all sides that lies ahead of it; nothing is left for one behind."""
    if not isinstance(end, int) or abs(end) < FAR:
        return end
    if (end > 0) == (step > 0):
        return None
    return 0 if step > 0 else FAR


def _squeeze(op: Operation) -> HostFunction:
    def squeeze(value: Host, *given: Host) -> Host:
        axes = _axes(op, value, given)
        return _objects(np.squeeze(value, axis=None if axes is None else tuple(axes)))

    return squeeze


def _unsqueeze(op: Operation) -> HostFunction:
    return lambda value, *given: _objects(np.expand_dims(value, tuple(_axes(op, value, given) or ())))


def _floating(number: Any) -> Any:
    """A number, or torch's symbol for one, as a floating point one."""
    return torch.sym_float(number)  # type: ignore[no-untyped-call]


def _cast(op: Operation) -> HostFunction:
    kind = op.attribute("to")

    def converted(number: Any) -> Any:
        if kind in FLOATING:
            return _floating(number)
        if kind == BOOLEAN:
            return bool(number)
        if kind not in WHOLE:
            raise Refused(f"a size as a number of type {kind}")
        if isinstance(number, float):
            return math.trunc(number)
        return torch.sym_int(number)  # type: ignore[no-untyped-call]

    return lambda value: _objects(np.frompyfunc(converted, 1, 1)(value))


def _reduction(function: Callable[[Any, Any], Any]) -> Callable[[Operation], HostFunction]:
    def handler(op: Operation) -> HostFunction:
        def over(value: Host, *given: Host) -> Host:
            if value.ndim > 1:
                raise Refused("arithmetic on the number of pictures in several dimensions")
            whole = _objects(reduce(function, numbers(value)))
            return whole.reshape(1) if op.attribute("keepdims", 1) else whole

        return over

    return handler


def _expand(op: Operation) -> HostFunction:
    def expanded(value: Host, shape: Host) -> Any:
        if not all(isinstance(side, int) for side in numbers(shape)):
            return NotImplemented  # as many as there are pictures: a tensor
        sides = np.broadcast_shapes(value.shape, tuple(int(side) for side in numbers(shape)))
        checked_count(int(np.prod(sides)) if sides else 1)
        return _objects(np.broadcast_to(value, sides))

    return expanded


def _split(op: Operation) -> HostFunction:
    def pieces(value: Host, *given: Host) -> tuple[Host, ...]:
        sizes = numbers(given[0]) if given else op.attribute("split")
        axis = op.attribute("axis", 0)
        if sizes is None:
            count = op.attribute("num_outputs", op.outputs)
            size = -(-value.shape[axis] // count)
            sizes = [min(size, value.shape[axis] - size * place) for place in range(count)]
        return tuple(_objects(piece) for piece in np.split(value, np.cumsum(sizes)[:-1].tolist(), axis=axis))

    return pieces


def _reshape(op: Operation) -> HostFunction:
    def reshape(value: Host, shape: Host) -> Host:
        sides = [int(side) for side in numbers(shape)]
        if not op.attribute("allowzero", 0):
            sides = [value.shape[place] if side == 0 else side for place, side in enumerate(sides)]
        return _objects(value.reshape(sides))

    return reshape


HOST_HANDLERS: dict[str, Callable[[Operation], HostFunction]] = {
    "Add": _each(lambda a, b: a + b),
    "Sub": _each(lambda a, b: a - b),
    "Mul": _each(lambda a, b: a * b),
    "Div": _each(_divided),
    "Mod": _each(lambda a, b: a % b),
    "Min": _each(lambda a, b: a if a <= b else b),
    "Max": _each(lambda a, b: a if a >= b else b),
    "Equal": _each(lambda a, b: bool(a == b)),
    "Less": _each(lambda a, b: bool(a < b)),
    "Greater": _each(lambda a, b: bool(a > b)),
    "And": _each(lambda a, b: bool(a and b)),
    "Or": _each(lambda a, b: bool(a or b)),
    "Not": _single(lambda a: not a),
    "Neg": _single(lambda a: -a),
    "Abs": _single(abs),
    "Floor": _single(lambda a: _floating(math.floor(a))),
    "Ceil": _single(lambda a: _floating(math.ceil(a))),
    "Cast": _cast,
    "Concat": lambda op: lambda *values: _objects(np.concatenate(values, axis=op.attribute("axis", 0))),
    "Expand": _expand,
    "Gather": _gather,
    "Identity": lambda op: lambda value: value,
    "ReduceMax": _reduction(lambda a, b: a if a >= b else b),
    "ReduceMin": _reduction(lambda a, b: a if a <= b else b),
    "ReduceProd": _reduction(lambda a, b: a * b),
    "ReduceSum": _reduction(lambda a, b: a + b),
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": lambda op: lambda value: _objects(np.transpose(value, op.attribute("perm"))),
    "Unsqueeze": _unsqueeze,
    "Where": lambda op: lambda condition, left, right: _objects(np.where(condition.astype(bool), left, right)),
}
