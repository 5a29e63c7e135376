"""`Resize` and `Upsample`: each side by itself, as the ONNX standard says where an output cell looks.

Nearest picks cells; linear and cubic multiply by a matrix of weights, [output cells, input cells], one a side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kryptondb.catalog.onnx_models.operation import Function, Operation, Refused

Floats = NDArray[np.float64]

MODES = ("nearest", "linear", "cubic")
_NEAREST: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resize(op: Operation) -> Function:
    """`Resize` from opset 10 on and `Upsample` before it, of the picture's height and width."""
    mode = op.attribute("mode", "nearest")
    coordinates = op.attribute("coordinate_transformation_mode", "half_pixel" if op.opset >= 11 else "asymmetric")
    if mode not in MODES or op.attribute("antialias", 0) or op.attribute("axes") is not None:
        raise Refused(f"it resizes in mode {mode}" + (" with antialiasing" if op.attribute("antialias", 0) else ""))
    if coordinates not in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        raise Refused(f"coordinate_transformation_mode {coordinates}")
    if op.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refused("it keeps the aspect ratio")
    scales_place = 2 if op.opset >= 11 else 1
    scales = op.list(scales_place, "scales")
    rounding = _NEAREST[op.attribute("nearest_mode", "round_prefer_floor" if op.opset >= 11 else "floor")]
    exclude, cubic = bool(op.attribute("exclude_outside", 0)), float(op.attribute("cubic_coeff_a", -0.75))

    def apply(picture: torch.Tensor, *given: Any) -> torch.Tensor:
        if picture.ndim != 4:
            raise Refused(f"it resizes a value of {picture.ndim} dimensions")
        sizes = given[2] if len(given) > 2 else None  # behind roi and scales
        for axis in (2, 3):
            side = int(picture.shape[axis])
            if scales:
                factor = float(scales[axis])
                out = int(np.floor(side * factor))
            elif sizes is not None:
                out = int(sizes[axis])
                factor = out / side
            else:
                raise Refused("it has neither scales nor sizes")
            if (out, factor) == (side, 1.0):
                continue
            at = _places(out, side, factor, coordinates)
            if mode == "nearest":
                cells = np.clip(rounding(at), 0, side - 1).astype(np.int64)
                picture = picture.index_select(axis, torch.from_numpy(cells).to(picture.device))
            else:
                weights = _weights(at, side, mode, cubic, exclude)
                matrix = torch.from_numpy(weights).to(picture)
                picture = torch.matmul(picture, matrix.T) if axis == 3 else torch.matmul(matrix, picture)
        return picture

    return apply


def _places(out: int, side: int, factor: float, coordinates: str) -> Floats:
    """Where each output cell looks in the input, in cells, [out]."""
    cells = np.arange(out, dtype=np.float64)
    if coordinates == "align_corners":
        return cells * ((side - 1) / (out - 1)) if out > 1 else np.zeros(out)
    if coordinates == "asymmetric":
        return cells / factor
    if coordinates == "pytorch_half_pixel" and out == 1:
        return np.zeros(out)
    return (cells + 0.5) / factor - 0.5


def _weights(at: Floats, side: int, mode: str, cubic: float, exclude_outside: bool) -> Floats:
    """[out, side]: how much of each input cell goes into each output cell."""
    taps = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    first = np.floor(at).astype(np.int64)
    weights = np.zeros((len(at), side))
    for tap in taps:
        distance = np.abs(at - (first + tap))
        weight = np.clip(1 - distance, 0, None) if mode == "linear" else _cubic(distance, cubic)
        if exclude_outside:
            weight = np.where((first + tap < 0) | (first + tap >= side), 0.0, weight)
        np.add.at(weights, (np.arange(len(at)), np.clip(first + tap, 0, side - 1)), weight)
    return weights / weights.sum(1, keepdims=True) if exclude_outside else weights


def _cubic(distance: Floats, a: float) -> Floats:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * a * distance - 4 * a
    result: Floats = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    return result
