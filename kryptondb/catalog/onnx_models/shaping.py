"""Operators that move numbers: reshape, transpose, slice, gather, concatenate, resize."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from kryptondb.catalog.onnx_models import resizing, windows
from kryptondb.catalog.onnx_models.host import slice_arguments
from kryptondb.catalog.onnx_models.operation import (
    PICTURES,
    Function,
    Operation,
    Operator,
    Refused,
    Value,
    checked_table,
    numbers,
    tensor_of,
)


def _shape(op: Operation) -> Function:
    def sizes(value: Any, *_: Any) -> Any:
        found = np.empty(len(value.shape), dtype=object)
        found[:] = list(value.shape)
        return found[op.attribute("start", 0) : op.attribute("end")]

    return sizes


def _size(op: Operation) -> Function:
    return lambda value: np.asarray(math.prod(value.shape), dtype=object)


def _reshape(op: Operation) -> Function:
    """`Reshape`. In a file whose batch is fixed, the side that the batch lies in grows with it."""
    keep_zero, batch, grows = bool(op.attribute("allowzero", 0)), op.batch, _batch_in(op)

    def apply(value: Any, shape: Any) -> Value:
        value = tensor_of(value)
        sides = numbers(shape)
        sides = [value.shape[i] if side == 0 and not keep_zero else side for i, side in enumerate(sides)]
        if grows is not None and batch is not None:
            axis, each, place = grows
            sides[place] = sides[place] // batch * (value.shape[axis] // each)
        elif value.ndim and sides and sides[0] == -1 and math.prod(sides[1:]) == math.prod(value.shape[1:]):
            sides[0] = value.shape[0]
        return value.reshape(sides)

    return apply


def _batch_in(op: Operation) -> tuple[int, int, int] | None:
    """Where the batch is, in a file that is made for one of fixed size and says all sides of the new shape.

    Returns:
        Its axis before; how many places of it each picture has; its axis afterwards. None where the new shape takes any
        batch by itself.
    """
    before, wanted = op.shapes[0], op.constants[1]
    if op.batch is None or before is None or not isinstance(wanted, np.ndarray):
        return None
    axis = next((place for place, side in enumerate(before) if not isinstance(side, int)), None)
    sides = [before[place] if side == 0 else side for place, side in enumerate(numbers(wanted))]
    if axis is None or not all(isinstance(side, int) for side in sides):
        return None
    each = batch_share(before[axis])
    around = math.prod(before[:axis])
    if -1 in sides:  # the others say how much it is for the batch of the file
        whole = math.prod(side for place, side in enumerate(before) if place != axis) * each * op.batch
        sides[sides.index(-1)] = -(whole // math.prod(sides))
        sides = [abs(side) for side in sides]
    done = 1
    for place, side in enumerate(sides):
        if done == around and side % op.batch == 0 and (side > 1 or op.batch == 1):
            following = sides[place + 1 :]
            alone = side == op.batch and math.prod(following) == each * math.prod(before[axis + 1 :])
            if alone or side > 1 or not following:
                return None if numbers(wanted)[place] in (0, -1) else (axis, each, place)
        done *= side
    return None


def batch_share(side: Any) -> int:
    """How many places of a side that counts pictures each picture has. Refused where it is not a multiple of them."""
    hint = int(side.node.hint)
    pictures = next(iter(side.node.expr.free_symbols), None)
    if pictures is None or side.node.expr != hint // PICTURES * pictures or hint % PICTURES:
        raise Refused("its batch is joined with other axes")
    return hint // PICTURES


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
            if step > 0:
                value = value[tuple([slice(None)] * axis + [slice(start, end, step)])]
                continue
            side = value.shape[axis]
            if not isinstance(side, int) or step == 0:
                raise Refused(f"it takes steps of {step} through the batch")
            places = range(side)[start:end:step]
            if step == -1 and len(places) == side:
                value = value.flip(axis)
            elif not places:
                value = value.narrow(axis, 0, 0)
            else:  # forwards, then turned
                forwards = slice(places[-1], places[0] + 1, -step)
                value = value[tuple([slice(None)] * axis + [forwards])].flip(axis)
        return value

    return apply


def _gather(op: Operation) -> Function:
    """`Gather`: one number of an axis takes it away, several make it shorter."""
    axis = op.attribute("axis", 0)

    def apply(value: Any, indices: Any) -> Value:
        value = tensor_of(value)
        at = axis % value.ndim
        if isinstance(indices, torch.Tensor):
            chosen = value.index_select(at, _counted_from_front(indices, value.shape[at]).reshape(-1))
            return chosen.reshape((*value.shape[:at], *indices.shape, *value.shape[at + 1 :]))
        if indices.ndim == 0:
            return value.select(at, int(indices.item()))
        places = [int(index) % value.shape[at] for index in numbers(indices)]
        chosen = value.index_select(at, torch.tensor(places, dtype=torch.int64, device=value.device))
        return chosen.reshape((*value.shape[:at], *indices.shape, *value.shape[at + 1 :]))

    return apply


def _counted_from_front(indices: torch.Tensor, side: Any) -> torch.Tensor:
    """Indices of which negative ones count from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + side, indices)


def _gather_elements(op: Operation) -> Function:
    axis = op.attribute("axis", 0)

    def apply(value: Any, indices: Any) -> Value:
        value = tensor_of(value)
        return value.gather(axis, _counted_from_front(tensor_of(indices, value.device), value.shape[axis]))

    return apply


def _gather_nd(op: Operation) -> Function:
    if op.attribute("batch_dims", 0):
        raise Refused("it gathers in each picture of the batch by itself")

    def apply(value: Any, indices: Any) -> Value:
        value = tensor_of(value)
        places = tensor_of(indices, value.device).long().unbind(-1)
        return value[tuple(places)]

    return apply


def _scatter_elements(op: Operation) -> Function:
    axis, reduction = op.attribute("axis", 0), op.attribute("reduction", "none")
    kinds = {"none": "", "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    if reduction not in kinds:
        raise Refused(f"it reduces by {reduction}")

    def apply(value: Any, indices: Any, updates: Any) -> Value:
        value = tensor_of(value)
        places = _counted_from_front(tensor_of(indices, value.device), value.shape[axis])
        given = tensor_of(updates, value.device).to(value.dtype)
        if not kinds[reduction]:
            return value.scatter(axis, places, given)
        return value.scatter_reduce(axis, places, given, kinds[reduction])

    return apply


def _one_hot(op: Operation) -> Function:
    axis, depth = op.attribute("axis", -1), int(op.number(1, "depth"))
    checked_table(depth)

    def apply(indices: Any, _: Any, values: Any) -> Value:
        indices, values = tensor_of(indices), tensor_of(values)
        at = axis % (indices.ndim + 1)
        places = torch.arange(depth, device=indices.device, dtype=indices.dtype)
        places = places.reshape([-1 if place == at else 1 for place in range(indices.ndim + 1)])
        chosen = torch.where(indices < 0, indices + depth, indices).unsqueeze(at) == places
        return torch.where(chosen, values[1], values[0])

    return apply


def _triangle(op: Operation) -> Function:
    function = torch.triu if op.attribute("upper", 1) else torch.tril
    diagonal = int(op.number(1, "k", 0))
    return lambda value, *_: function(tensor_of(value), diagonal)


def _compress(op: Operation) -> Function:
    """`Compress` by a condition that is constant."""
    chosen = op.constants[1]
    if chosen is None:
        raise Refused("its condition is computed from the picture")
    places = [place for place, taken in enumerate(chosen.reshape(-1).tolist()) if taken]
    axis = op.attribute("axis")

    def apply(value: torch.Tensor, _: Any) -> Value:
        value = value.reshape(-1) if axis is None else value
        return value.index_select(axis or 0, torch.tensor(places, dtype=torch.int64, device=value.device))

    return apply


def _concat(op: Operation) -> Function:
    """`Concat`. A constant of the batch that a file is made for stands for one of any batch."""
    axis = op.attribute("axis")
    ndim = next((len(shape) for shape in op.shapes if shape is not None), 0)
    counted = any(shape and not isinstance(shape[0], int) for shape in op.shapes)
    grows = op.batch == 1 and counted and ndim > 1 and axis % ndim != 0

    def apply(*values: Any) -> Value:
        device = next((value.device for value in values if isinstance(value, torch.Tensor)), None)
        tensors = [tensor_of(value, device) for value in values]
        if grows:
            pictures = next(
                tensor.shape[0]
                for tensor, shape in zip(tensors, op.shapes, strict=True)
                if shape and not isinstance(shape[0], int)
            )
            tensors = [
                tensor.expand(pictures, *tensor.shape[1:]) if shape and isinstance(shape[0], int) else tensor
                for tensor, shape in zip(tensors, op.shapes, strict=True)
            ]
        return torch.cat(tensors, axis)

    return apply


def _split(op: Operation) -> Function:
    axis = op.attribute("axis", 0)

    def apply(value: torch.Tensor, *given: Any) -> tuple[Value, ...]:
        sizes = numbers(given[0]) if given and given[0] is not None else op.attribute("split")
        if sizes is None:
            return tuple(torch.split(value, -(-value.shape[axis] // op.attribute("num_outputs", op.outputs)), axis))
        return tuple(torch.split(value, [int(size) for size in sizes], axis))

    return apply


def _expand(op: Operation) -> Function:
    """`Expand`. In a file whose batch is fixed, a picture's own batch stays."""
    counted = [place for place, side in enumerate(op.shapes[0] or ()) if not isinstance(side, int)]

    def apply(value: Any, shape: Any) -> Value:
        value = tensor_of(value)
        sides = numbers(shape)
        more = len(sides) - value.ndim
        own = [1] * more + list(value.shape)
        sides = [1] * -more + sides
        kept = {place + max(0, more) for place in counted} if op.batch is not None else set()
        return value.expand(
            [
                old if place in kept or (isinstance(new, int) and new == 1) else new
                for place, (old, new) in enumerate(zip(own, sides, strict=True))
            ]
        )

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
    """`ConstantOfShape` of a shape in which the number of pictures occurs."""
    fill = op.attribute("value")
    value = torch.zeros(1) if fill is None else torch.from_numpy(np.array(fill.reshape(-1)))
    op.constants.append(value.float() if value.is_floating_point() else value)

    def apply(shape: Any, number: Any) -> Value:
        return tensor_of(number).expand(numbers(shape))

    return apply


def _pixels_per_block(value: torch.Tensor, size: int, channels: int) -> torch.Tensor:
    """The channels of each cell of a block together, put as torch has them: the cells of each channel together."""
    return torch.unflatten(value, 1, (size * size, channels)).transpose(1, 2).flatten(1, 2)


def _depth_to_space(op: Operation) -> Function:
    size, mode = op.attribute("blocksize"), op.attribute("mode", "DCR")
    if mode not in ("DCR", "CRD") or size < 1:
        raise Refused(f"it is in mode {mode} with blocks of {size}")

    def apply(value: torch.Tensor) -> Value:
        if mode == "DCR":
            value = _pixels_per_block(value, size, int(value.shape[1]) // size**2)
        return torch.pixel_shuffle(value, size)

    return apply


def _space_to_depth(op: Operation) -> Function:
    size, mode = op.attribute("blocksize"), op.attribute("mode", "DCR")
    if mode not in ("DCR", "CRD") or size < 1:
        raise Refused(f"it is in mode {mode} with blocks of {size}")

    def apply(value: torch.Tensor) -> Value:
        blocks = torch.pixel_unshuffle(value, size)
        if mode == "CRD":
            return blocks
        return torch.unflatten(blocks, 1, (int(value.shape[1]), size * size)).transpose(1, 2).flatten(1, 2)

    return apply


def _top(op: Operation) -> Function:
    count = int(op.number(1, "k"))
    axis, largest = op.attribute("axis", -1), bool(op.attribute("largest", 1))
    return lambda value, *_: tuple(torch.topk(value, count, axis, largest, True))


SHAPING: dict[str, Operator] = {
    "CenterCropPad": Operator(windows.center_crop_pad, "axes", 18),
    "Compress": Operator(_compress, "axis", 28),
    "Concat": Operator(_concat, "axis", 13),
    "ConstantOfShape": Operator(_constant_of_shape, "value", 25),
    "DepthToSpace": Operator(_depth_to_space, "blocksize mode", 28),
    "Expand": Operator(_expand, newest=13),
    "Flatten": Operator(_flatten, "axis", 25),
    "Gather": Operator(_gather, "axis", 13),
    "GatherElements": Operator(_gather_elements, "axis", 13),
    "GatherND": Operator(_gather_nd, "batch_dims", 13),
    "OneHot": Operator(_one_hot, "axis", 28),
    "Pad": Operator(windows.pad, "mode pads value", 25),
    "Reshape": Operator(_reshape, "allowzero", 25),
    "Resize": Operator(resizing.resize, resizing.ATTRIBUTES, 19, by_torch=True),
    "ScatterElements": Operator(_scatter_elements, "axis reduction", 18),
    "ScatterND": Operator(_scatter_nd, "reduction", 18),
    "Shape": Operator(_shape, "start end", 25),
    "Size": Operator(_size, newest=25),
    "Slice": Operator(_slice, "axes ends starts", 13),
    "SpaceToDepth": Operator(_space_to_depth, "blocksize mode", 28),
    "Split": Operator(_split, "axis num_outputs split", 18, outputs=None),
    "Squeeze": Operator(_squeeze, "axes", 25),
    "Tile": Operator(_tile, newest=13),
    "TopK": Operator(_top, "axis k largest sorted", 24, outputs=2),
    "Transpose": Operator(_transpose, "perm", 25),
    "Trilu": Operator(_triangle, "upper", 14),
    "Unsqueeze": Operator(_unsqueeze, "axes", 25),
    "Upsample": Operator(resizing.resize, "mode scales", 9, by_torch=True),
}
