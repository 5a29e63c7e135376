"""`Resize` and `Upsample`: each side by itself, as the ONNX standard says where an output cell looks.

Nearest picks cells; linear and cubic multiply by a matrix of weights, [output cells, input cells], one for each side.
Places are worked out in float32, as onnxruntime does: at the border between two cells rounding decides. Where the
standard says nothing (opset 10 and before), onnxruntime is followed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kryptondb.catalog.onnx_models.operation import Function, Operation, Refused, checked_table, numbers

Floats = NDArray[np.floating[Any]]

ATTRIBUTES = """antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside keep_aspect_ratio_policy
    mode nearest_mode"""
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
)
MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic"}
_NEAREST: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
    "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}
_POLICIES = {"stretch": None, "not_larger": min, "not_smaller": max}


def resize(op: Operation) -> Function:
    """`Resize` from opset 10 on and `Upsample` before it, of any sides but the batch."""
    mode = MODES.get(op.attribute("mode", "nearest"))
    coordinates = op.attribute("coordinate_transformation_mode", "half_pixel" if op.opset >= 11 else "asymmetric")
    nearest = op.attribute("nearest_mode", "round_prefer_floor" if op.opset >= 11 else "simple")
    policy = op.attribute("keep_aspect_ratio_policy", "stretch")
    if mode is None:
        raise Refused(f"it resizes in mode {op.attribute('mode')}")
    if coordinates not in COORDINATES:
        raise Refused(f"coordinate_transformation_mode {coordinates}")
    if nearest not in _NEAREST and nearest != "simple":
        raise Refused(f"nearest_mode {nearest}")
    if policy not in _POLICIES:
        raise Refused(f"keep_aspect_ratio_policy {policy}")
    exclude, cubic = bool(op.attribute("exclude_outside", 0)), float(op.attribute("cubic_coeff_a", -0.75))
    smooth = bool(op.attribute("antialias", 0))
    if smooth and mode == "nearest":
        raise Refused("it resizes in mode nearest with antialiasing")
    scales = op.list(2 if op.opset >= 11 else 1, "scales") or None
    sized = op.opset >= 11 and op.has(3) and op.shapes[3] != (0,)
    if (scales is None) == (not sized):
        raise Refused("it has neither scales nor sizes, or both")

    def apply(picture: torch.Tensor, *given: Any) -> torch.Tensor:
        axes = [int(axis) % picture.ndim for axis in op.attribute("axes") or range(picture.ndim)]
        wanted = scales if scales is not None else numbers(given[2])
        if len(wanted) != len(axes):
            raise Refused(f"it has {len(wanted)} sizes for {len(axes)} axes")
        places = _without_batch(op, picture, axes, wanted, scales is not None, _POLICIES[policy])
        axes, wanted = [axes[place] for place in places], [wanted[place] for place in places]
        for axis, out, factor in _targets(picture, axes, wanted, scales is not None, _POLICIES[policy]):
            side = int(picture.shape[axis])
            at = _places(out, side, factor, coordinates)
            if mode == "nearest":
                rounding = _NEAREST.get(nearest) or (np.ceil if factor < 1 else np.floor)
                cells = np.clip(rounding(at), 0, side - 1).astype(np.int64)
                picture = picture.index_select(axis, torch.from_numpy(cells).to(picture.device))
            else:
                weights = _weights(at, side, min(float(factor), 1.0) if smooth else 1.0, mode, cubic, exclude)
                matrix = torch.from_numpy(weights).to(picture)
                if axis == picture.ndim - 1:
                    picture = torch.matmul(picture, matrix.T)
                elif axis == picture.ndim - 2:
                    picture = torch.matmul(matrix, picture)
                else:
                    picture = torch.matmul(picture.movedim(axis, -1), matrix.T).movedim(-1, axis)
        return picture

    return apply


def _targets(
    picture: torch.Tensor, axes: list[int], wanted: list[Any], scaled: bool, policy: Any
) -> list[tuple[int, int, np.float32]]:
    """For each of these axes whose size changes: the axis, the new size, the factor."""
    sides = [int(picture.shape[axis]) for axis in axes]
    if scaled:
        factors = [np.float32(scale) for scale in wanted]
        sizes = [int(np.float32(side) * factor) for side, factor in zip(sides, factors, strict=True)]
    else:
        sizes = [int(size) for size in wanted]
        factors = [np.float32(size) / np.float32(side) for side, size in zip(sides, sizes, strict=True)]
        if policy is not None:
            factors = [policy(factors)] * len(axes)
            sizes = [int(np.floor(np.float32(side) * factors[0] + np.float32(0.5))) for side in sides]
    for side, size in zip(sides, sizes, strict=True):
        if size < 1:
            raise Refused(f"it resizes a side of {side} to {size}")
        checked_table(size)
    if sizes == sides:  # whatever the factors are, as onnxruntime
        return []
    found = zip(axes, sizes, factors, sides, strict=True)
    return [(axis, size, factor) for axis, size, factor, side in found if size != side or factor != 1]


def _without_batch(
    op: Operation, picture: torch.Tensor, axes: list[int], wanted: list[Any], scaled: bool, policy: Any
) -> list[int]:
    """Places of the axes other than the batch. Refused where the batch is resized.

    Sizes that were written for a batch of one, or of the size that a file is made for, leave it as it is, as do those
    that are worked out from the batch that runs.
    """
    counted = {axis for axis, side in enumerate(op.shapes[0] or ()) if not isinstance(side, int)}
    for axis, size in zip(axes, wanted, strict=True):
        runs = picture.shape[axis]
        kept = (1, op.batch, runs) if isinstance(runs, int) else (1, op.batch)
        same = size == 1 if scaled else not isinstance(size, int) or size in kept
        if axis in counted and (policy is not None or not same):
            raise Refused("it resizes the batch")
    return [place for place, axis in enumerate(axes) if axis not in counted]


def _places(out: int, side: int, factor: np.float32, coordinates: str) -> Floats:
    """Where each output cell looks in the input, in cells, [out]."""
    half, cells = np.float32(0.5), np.arange(out, dtype=np.float32)
    if coordinates == "align_corners":
        return cells * np.float32(side - 1) / np.float32(out - 1) if out > 1 else np.zeros(out, np.float32)
    if coordinates == "asymmetric":
        return cells / factor
    if coordinates == "tf_half_pixel_for_nn":
        return (cells + half) / factor
    if coordinates == "pytorch_half_pixel" and out == 1:
        return np.zeros(out, np.float32)
    at = (cells + half) / factor
    if coordinates == "half_pixel_symmetric":
        at = np.float32(side) / 2 * (1 - np.float32(out) / (factor * np.float32(side))) + at
    return at - half


def _weights(at: Floats, side: int, scale: float, mode: str, cubic: float, exclude_outside: bool) -> Floats:
    """[out, side]: how much of each input cell goes into each output cell.

    Args:
        scale: below 1 where the picture is smoothed: as many cells more are read.
        exclude_outside: whether cells outside count nothing; they are those at the border otherwise.
    """
    checked_table(len(at) * side)
    reach = (1 if mode == "linear" else 2) / scale
    first = np.floor(at - reach).astype(np.int64) + 1
    taps = int(np.ceil(2 * reach)) + 1
    checked_table(len(at) * taps)
    cells = first[:, None] + np.arange(taps)
    distance = np.abs(at.astype(np.float64)[:, None] - cells) * scale
    found = np.clip(1 - distance, 0, None) if mode == "linear" else _cubic(distance, cubic)
    if exclude_outside:
        found = np.where((cells < 0) | (cells >= side), 0.0, found)
    if exclude_outside or scale != 1:
        found = found / found.sum(1, keepdims=True)
    weights = np.zeros((len(at), side))
    np.add.at(weights, (np.arange(len(at))[:, None], np.clip(cells, 0, side - 1)), found)
    return weights


def _cubic(distance: Floats, a: float) -> Floats:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * a * distance - 4 * a
    result: Floats = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    return result
