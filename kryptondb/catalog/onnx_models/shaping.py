"""Operators that move numbers: reshape, transpose, slice, gather, concatenate, resize."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from kryptondb.catalog.onnx_models import resizing, windows
from kryptondb.catalog.onnx_models.host import slice_arguments
from kryptondb.catalog.onnx_models.operation import Function, Operation, Refused, Value, numbers, tensor_of

Handler = Callable[[Operation], Function]


def _shape(op: Operation) -> Function:
    def sizes(value: Any, *_: Any) -> Any:
        found = np.empty(len(value.shape), dtype=object)
        found[:] = list(value.shape)
        return found[op.attribute("start", 0) : op.attribute("end")]

    return sizes


def _size(op: Operation) -> Function:
    return lambda value: np.asarray(math.prod(value.shape), dtype=object)


def _reshape(op: Operation) -> Function:
    """`Reshape`. In a file whose batch is fixed, that size in front stands for the batch."""
    keep_zero, batch = bool(op.attribute("allowzero", 0)), op.extra.get("batch")

    def apply(value: Any, shape: Any) -> Value:
        value = tensor_of(value)
        sides = numbers(shape)
        sides = [value.shape[i] if side == 0 and not keep_zero else side for i, side in enumerate(sides)]
        rest = sides[1:]
        if sides and -1 not in rest and value.ndim and math.prod(rest) == math.prod(value.shape[1:]):
            if sides[0] == -1 or sides[0] == batch:
                sides[0] = value.shape[0]
        elif batch is not None and sides and sides[0] == batch and -1 in rest:
            sides[0] = value.shape[0]
        return value.reshape(sides)

    return apply


def _flatten(op: Operation) -> Function:
    axis = op.attribute("axis", 1)

    def apply(value: torch.Tensor) -> Value:
        at = axis % value.ndim if axis < 0 else axis
        if at == 1:
            return value.flatten(1)
        return value.reshape(math.prod(value.shape[:at]), -1)

    return apply


def _transpose(op: Operation) -> Function:
    def apply(value: Any) -> Value:
        value = tensor_of(value)
        return value.permute(op.attribute("perm") or list(reversed(range(value.ndim))))

    return apply


def _squeeze(op: Operation) -> Function:
    def apply(value: torch.Tensor, *given: Any) -> Value:
        axes = numbers(given[0]) if given else op.attribute("axes")
        if axes is None:
            axes = [axis for axis, side in enumerate(value.shape) if axis and side == 1]
        for axis in sorted((int(axis) % value.ndim for axis in axes), reverse=True):
            value = value.squeeze(axis)
        return value

    return apply


def _unsqueeze(op: Operation) -> Function:
    def apply(value: Any, *given: Any) -> Value:
        value = tensor_of(value)
        axes = [int(axis) for axis in (numbers(given[0]) if given else op.attribute("axes"))]
        ndim = value.ndim + len(axes)
        for axis in sorted(axis % ndim for axis in axes):
            value = value.unsqueeze(axis)
        return value

    return apply


def _slice(op: Operation) -> Function:
    def apply(value: torch.Tensor, *given: Any) -> Value:
        for start, end, axis, step in zip(*slice_arguments(op, value.ndim, given), strict=True):
            if step == -1 and start in (-1, value.shape[axis] - 1) and (end is None or end < -value.shape[axis]):
                value = value.flip(axis)
            elif step < 1:
                raise Refused(f"it takes steps of {step}")
            else:
                index = [slice(None)] * axis + [slice(start, end, step)]
                value = value[tuple(index)]
        return value

    return apply


def _gather(op: Operation) -> Function:
    """`Gather`: one number of an axis takes it away, several make it shorter."""
    axis = op.attribute("axis", 0)

    def apply(value: Any, indices: Any) -> Value:
        value = tensor_of(value)
        at = axis % value.ndim
        if isinstance(indices, torch.Tensor):
            chosen = value.index_select(at, indices.reshape(-1))
            return chosen.reshape((*value.shape[:at], *indices.shape, *value.shape[at + 1 :]))
        if indices.ndim == 0:
            return value.select(at, int(indices.item()))
        places = [int(index) % value.shape[at] for index in numbers(indices)]
        chosen = value.index_select(at, torch.tensor(places, device=value.device))
        return chosen.reshape((*value.shape[:at], *indices.shape, *value.shape[at + 1 :]))

    return apply


def _concat(op: Operation) -> Function:
    def apply(*values: Any) -> Value:
        device = next((value.device for value in values if isinstance(value, torch.Tensor)), None)
        return torch.cat([tensor_of(value, device) for value in values], op.attribute("axis", 0))

    return apply


def _split(op: Operation) -> Function:
    axis = op.attribute("axis", 0)

    def apply(value: torch.Tensor, *given: Any) -> tuple[Value, ...]:
        sizes = numbers(given[0]) if given and given[0] is not None else op.attribute("split")
        if sizes is None:
            count = op.attribute("num_outputs", op.outputs)
            return tuple(torch.split(value, -(-value.shape[axis] // count), axis))
        return tuple(torch.split(value, [int(size) for size in sizes], axis))

    return apply


def _expand(op: Operation) -> Function:
    def apply(value: Any, shape: Any) -> Value:
        value = tensor_of(value)
        sides = numbers(shape)
        more = len(sides) - value.ndim
        own = [1] * more + list(value.shape)
        sides = [1] * -more + sides
        return value.expand([old if new == 1 else new for old, new in zip(own, sides, strict=True)])

    return apply


def _tile(op: Operation) -> Function:
    return lambda value, repeats: tensor_of(value).repeat([int(count) for count in numbers(repeats)])


def _scatter_nd(op: Operation) -> Function:
    if op.attribute("reduction", "none") != "none":
        raise Refused("it reduces what it scatters")

    def apply(value: Any, indices: Any, updates: Any) -> Value:
        value = tensor_of(value)
        places = tensor_of(indices, value.device).unbind(-1)
        return torch.index_put(value, places, tensor_of(updates, value.device).to(value.dtype))

    return apply


def _constant_of_shape(op: Operation) -> Function:
    raise Refused("its shape is computed from the picture's pixels")


def _depth_to_space(op: Operation) -> Function:
    if op.attribute("mode", "DCR") != "CRD":
        raise Refused("it is in mode DCR")
    return lambda value: torch.pixel_shuffle(value, op.attribute("blocksize"))


SHAPING: dict[str, Handler] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Pad": windows.pad,
    "Range": _constant_of_shape,
    "Reshape": _reshape,
    "Resize": resizing.resize,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": resizing.resize,
}
