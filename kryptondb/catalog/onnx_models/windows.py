"""Convolution, pooling, padding: ONNX's windows translated to PyTorch.

torch pads both sides alike and at most half a pool's window; ONNX pads each side as it likes. Where they differ, the
picture is padded first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from kryptondb.catalog.onnx_models.operation import (
    Function,
    Operation,
    Refused,
    Value,
    checked_table,
    numbers,
)

Pads = tuple[list[int], list[int]]  # before and after, one a dimension

CONVOLUTION = "auto_pad dilations group kernel_shape pads strides"
TRANSPOSED = f"{CONVOLUTION} output_padding output_shape"
MAX_POOL = "auto_pad ceil_mode dilations kernel_shape pads storage_order strides"
AVERAGE_POOL = "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides"
LP_POOL = "auto_pad ceil_mode dilations kernel_shape p pads strides"

_CONVOLUTIONS: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_TRANSPOSED: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAX: dict[int, Callable[..., torch.Tensor]] = {1: torch.max_pool1d, 2: torch.max_pool2d, 3: torch.max_pool3d}
_AVERAGE: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


@dataclass(frozen=True)
class Window:
    """A window's sizes along each side of a picture.

    Attributes:
        counts: how many windows there are.
        before, after: padding as the file asks for it.
        behind: padding that the windows need after the picture; negative where they leave some of it out.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    after: list[int]
    counts: list[int]
    behind: list[int]

    @property
    def is_plain(self) -> bool:
        """Whether torch's own padding does it: both sides alike, at most half of a window, nothing hanging over."""
        return self.before == self.after and self.fits_half and not self.hangs

    @property
    def fits_half(self) -> bool:
        """Whether no window lies in the padding alone, as torch asks."""
        return all(2 * pad <= size for pad, size in zip(self.before, self.kernel, strict=True))

    @property
    def hangs(self) -> bool:
        """Whether the last windows reach beyond the padding (ceil_mode)."""
        return any(need > pad for need, pad in zip(self.behind, self.after, strict=True))

    def padded(self, picture: torch.Tensor, value: float = 0.0) -> Value:
        """The picture with the padding that all windows need."""
        return padded(picture, self.before, self.behind, value)


def convolution(op: Operation) -> Function:
    """`Conv`, with any padding, stride, dilation and groups."""
    groups = op.attribute("group", 1)

    def apply(picture: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Value:
        function = _CONVOLUTIONS.get(picture.ndim - 2)
        if function is None:
            raise Refused(f"a convolution in {picture.ndim - 2} dimensions")
        kernel = list(weight.shape[2:])
        if op.attribute("kernel_shape", kernel) != kernel:
            raise Refused("its kernel_shape is not that of its weight")
        strides, dilations = _per_side(op, "strides", kernel), _per_side(op, "dilations", kernel)
        before, after = _pads(op, picture, kernel, strides, dilations)
        if before != after or min(before) < 0:
            picture = padded(picture, before, after)
            before = [0] * len(kernel)
        return function(picture, weight, bias, strides, before, dilations, groups)

    return apply


def transposed_convolution(op: Operation) -> Function:
    """`ConvTranspose`: with torch's padding where both sides are alike, else the whole result, cut."""
    groups = op.attribute("group", 1)

    def apply(picture: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Value:
        function = _TRANSPOSED.get(picture.ndim - 2)
        if function is None:
            raise Refused(f"a convolution in {picture.ndim - 2} dimensions")
        kernel = list(weight.shape[2:])
        if op.attribute("kernel_shape", kernel) != kernel:
            raise Refused("its kernel_shape is not that of its weight")
        strides, dilations = _per_side(op, "strides", kernel), _per_side(op, "dilations", kernel)
        more = list(op.attribute("output_padding") or [0] * len(kernel))
        before, after = _transposed_pads(op, picture, kernel, strides, dilations, more)
        small = all(m < max(s, d) for m, s, d in zip(more, strides, dilations, strict=True))
        if before == after and min(before) >= 0 and small:
            return function(picture, weight, bias, strides, before, more, groups, dilations)
        whole = function(picture, weight, None, strides, 0, 0, groups, dilations)
        ends = [extra - last for extra, last in zip(more, after, strict=True)]
        whole = padded(whole, [-first for first in before], ends)  # behind what it computes there is the bias alone
        return whole if bias is None else whole + bias.reshape([-1] + [1] * len(kernel))

    return apply


def _transposed_pads(
    op: Operation,
    picture: torch.Tensor,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    more: list[int],
) -> Pads:
    """What is cut from both ends of each side: as given, or as the wanted output says."""
    auto = op.attribute("auto_pad", "NOTSET")
    given = op.attribute("output_shape")
    if given is not None:
        wanted = list(given)[-len(kernel) :]
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [side * stride for side, stride in zip(picture.shape[2:], strides, strict=True)]
    else:
        return _pads(op, picture, kernel, strides, dilations)
    totals = [
        stride * (side - 1) + extra + (size - 1) * dilation + 1 - out
        for side, size, stride, dilation, extra, out in zip(
            picture.shape[2:], kernel, strides, dilations, more, wanted, strict=True
        )
    ]
    if given is None:
        totals = [max(0, total) for total in totals]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def max_pool(op: Operation) -> Function:
    """`MaxPool`; its indices are not taken."""

    def apply(picture: torch.Tensor) -> Value:
        window = _window(op, picture)
        function = _of_dimensions(_MAX, picture)
        if window.is_plain:
            return function(picture, window.kernel, window.strides, window.before, window.dilations)
        if window.before == window.after and window.fits_half and _torch_hangs_alike(window, picture):
            return function(picture, window.kernel, window.strides, window.before, window.dilations, True)
        lowest = -float("inf") if picture.is_floating_point() else torch.iinfo(picture.dtype).min
        padded = window.padded(picture, lowest)
        return function(padded, window.kernel, window.strides, 0, window.dilations)

    return apply


def average_pool(op: Operation) -> Function:
    """`AveragePool`, whether it counts what it pads or not."""
    counted = bool(op.attribute("count_include_pad", 0))

    def apply(picture: torch.Tensor) -> Value:
        window = _window(op, picture)
        function = _of_dimensions(_AVERAGE, picture)
        if any(dilation != 1 for dilation in window.dilations):
            return _sum_dilated(picture, window) / _cells(window, picture, counted)
        if window.is_plain:
            return function(picture, window.kernel, window.strides, window.before, False, counted)
        if window.fits_half and _torch_hangs_alike(window, picture) and (window.before == window.after or not counted):
            # Padding behind, as TensorFlow does it, is what torch calls ceil mode: a last window that hangs over.
            return function(picture, window.kernel, window.strides, window.before, True, counted)
        whole = function(window.padded(picture), window.kernel, window.strides, 0, False, True)
        return whole * (math.prod(window.kernel) / _cells(window, picture, counted))

    return apply


def lp_pool(op: Operation) -> Function:
    """`LpPool`: the p-norm of each window; what is padded is zero."""
    power = op.attribute("p", 2)

    def apply(picture: torch.Tensor) -> Value:
        window = _window(op, picture)
        powers = picture.abs().pow(power)
        if any(dilation != 1 for dilation in window.dilations):
            return _sum_dilated(powers, window).pow(1 / power)
        function = _of_dimensions(_AVERAGE, picture)
        if window.is_plain:
            mean = function(powers, window.kernel, window.strides, window.before, False, True)
        else:
            mean = function(window.padded(powers), window.kernel, window.strides, 0, False, True)
        return (mean * math.prod(window.kernel)).pow(1 / power)

    return apply


def _sum_dilated(picture: torch.Tensor, window: Window) -> Value:
    """The sum over each dilated window: a convolution of each channel with ones."""
    channels = int(picture.shape[1])
    ones = torch.ones((channels, 1, *window.kernel), dtype=picture.dtype, device=picture.device)
    function = _of_dimensions(_CONVOLUTIONS, picture)
    return function(window.padded(picture), ones, None, window.strides, 0, window.dilations, channels)


def _cells(window: Window, picture: torch.Tensor, counted: bool) -> torch.Tensor:
    """How many cells each window counts, [1, 1, *counts]: those of the picture, with its padding where asked."""
    whole: Any = np.ones(1)
    for place, side in enumerate(picture.shape[2:]):
        first = np.arange(checked_table(window.counts[place])) * window.strides[place] - window.before[place]
        cells = first[:, None] + np.arange(window.kernel[place]) * window.dilations[place]
        low, high = (-window.before[place], side + window.after[place]) if counted else (0, side)
        checked_table(whole.size * len(first))
        whole = whole[..., None] * ((cells >= low) & (cells < high)).sum(1)
    return torch.from_numpy(whole.astype(np.float32)).to(picture.device)[None]


def _of_dimensions(functions: dict[int, Callable[..., torch.Tensor]], picture: torch.Tensor) -> Any:
    found = functions.get(picture.ndim - 2)
    if found is None:
        raise Refused(f"a window in {picture.ndim - 2} dimensions")
    return found


def _window(op: Operation, picture: torch.Tensor) -> Window:
    kernel = list(op.attribute("kernel_shape"))
    if len(kernel) != picture.ndim - 2 or min(kernel) < 1:
        raise Refused(f"a window of {len(kernel)} sides on a value of {picture.ndim} dimensions")
    strides, dilations = _per_side(op, "strides", kernel), _per_side(op, "dilations", kernel)
    before, after = _pads(op, picture, kernel, strides, dilations)
    ceil, auto = bool(op.attribute("ceil_mode", 0)), op.attribute("auto_pad", "NOTSET")
    counts, behind = [], []
    for side, size, stride, dilation, b, a in zip(
        picture.shape[2:], kernel, strides, dilations, before, after, strict=True
    ):
        reach = dilation * (size - 1) + 1
        over = side + b + a - reach
        count = (-(-over // stride) if ceil else over // stride) + 1
        if ceil and (count - 1) * stride >= side + b:  # it would lie in the padding behind alone
            count -= 1
        if auto != "NOTSET" and count != over // stride + 1:
            raise Refused(f"ceil_mode with auto_pad {auto}, where runtimes differ")
        if count < 1:
            raise Refused("its window is larger than the picture")
        counts.append(count)
        behind.append((count - 1) * stride + reach - side - b)
    return Window(kernel, strides, dilations, before, after, counts, behind)


def _torch_hangs_alike(window: Window, picture: torch.Tensor) -> bool:
    """Whether torch's ceil mode, with the padding before on both sides, has the same windows."""
    for place, side in enumerate(picture.shape[2:]):
        stride, pad = window.strides[place], window.before[place]
        over = side + 2 * pad - window.dilations[place] * (window.kernel[place] - 1) - 1
        count = -(-over // stride) + 1
        count -= (count - 1) * stride >= side + pad
        if count != window.counts[place]:
            return False
    return True


def pad(op: Operation) -> Function:
    """`Pad`: with a number, or with the picture's own border."""
    mode = op.attribute("mode", "constant")
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in modes:
        raise Refused(f"it pads in mode {mode}")
    fill = op.number(2, "value", 0.0)

    def apply(picture: torch.Tensor, *given: Any) -> Value:
        pads = [int(size) for size in (numbers(given[0]) if given else op.attribute("pads"))]
        axes = list(range(picture.ndim))
        if len(given) > 2 and given[2] is not None:
            axes = [int(axis) % picture.ndim for axis in numbers(given[2])]
        if len(pads) != 2 * len(axes):
            raise Refused(f"it has {len(pads)} pads for {len(axes)} axes")
        before, after = [0] * picture.ndim, [0] * picture.ndim
        for place, axis in enumerate(axes):
            before[axis], after[axis] = pads[place], pads[len(axes) + place]
        if mode == "constant":
            return padded(picture, before, after, fill)
        return _with_border(picture, before, after, modes[mode])

    return apply


def center_crop_pad(op: Operation) -> Function:
    """`CenterCropPad`: the middle of each axis, or zeros around it; an odd cell more is cut or put behind."""

    def apply(picture: torch.Tensor, shape: Any) -> Value:
        wanted = [int(side) for side in numbers(shape)]
        axes = [int(axis) % picture.ndim for axis in op.attribute("axes") or range(picture.ndim)]
        if len(wanted) != len(axes) or 0 in axes:
            raise Refused("it cuts or pads the batch, or has another number of sizes than axes")
        before, after = [0] * picture.ndim, [0] * picture.ndim
        for axis, side in zip(axes, wanted, strict=True):
            checked_table(side)
            cut = int(picture.shape[axis]) - side
            before[axis] = -(cut // 2) if cut > 0 else -cut // 2
            after[axis] = -cut - before[axis]
        return padded(picture, before, after)

    return apply


def _with_border(picture: torch.Tensor, before: list[int], after: list[int], mode: str) -> torch.Tensor:
    """Padding with the picture's own cells, or cut where a pad is negative."""
    picture = _cut(picture, before, after)
    before, after = [max(0, pad) for pad in before], [max(0, pad) for pad in after]
    if not any(before + after):
        return picture
    sides = picture.shape[2:]
    fits = all(
        max(b, a) < side if mode == "reflect" else mode == "replicate" or max(b, a) <= side
        for b, a, side in zip(before[2:], after[2:], sides, strict=True)
    )
    if picture.ndim in (3, 4, 5) and fits and not any(before[:2] + after[:2]):
        return functional.pad(picture, _torch_order(before[2:], after[2:]), mode=mode)
    for axis, side in enumerate(picture.shape):
        if not before[axis] and not after[axis]:
            continue
        checked_table(before[axis] + int(side) + after[axis])
        cells = np.arange(-before[axis], int(side) + after[axis])
        if mode == "replicate":
            cells = np.clip(cells, 0, side - 1)
        elif mode == "circular":
            cells = cells % side
        else:
            turn = max(1, 2 * (side - 1))
            cells = np.abs(cells) % turn
            cells = np.where(cells >= side, turn - cells, cells)
        picture = picture.index_select(axis, torch.from_numpy(cells.astype(np.int64)).to(picture.device))
    return picture


def padded(picture: torch.Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Value:
    """The last sides padded with a number, or cut where a pad is negative."""
    picture = _cut(picture, before, after)
    order = _torch_order([max(0, pad) for pad in before], [max(0, pad) for pad in after])
    while len(order) > 2 and not any(order[-2:]):
        order = order[:-2]
    return functional.pad(picture, order, value=value) if any(order) else picture


def _cut(picture: torch.Tensor, before: Sequence[int], after: Sequence[int]) -> torch.Tensor:
    """The last sides without what negative pads leave out."""
    for axis, (first, last) in enumerate(zip(before, after, strict=True), start=picture.ndim - len(before)):
        if first < 0 or last < 0:
            part = slice(max(0, -first), picture.shape[axis] - max(0, -last))
            picture = picture[tuple([slice(None)] * axis + [part])]
    return picture


def local_response(op: Operation) -> Function:
    """`LRN`: a number divided by a power of the squares in the channels around it.

    The sum over channels is a 1x1 convolution with a band of ones. Even sizes are refused, as onnxruntime does: the
    standard has the longer side behind, torch before, and the standard's evaluator looks at the first channels only.
    """
    size, alpha = op.attribute("size"), op.attribute("alpha", 1e-4)
    if size < 1 or size % 2 == 0:
        raise Refused(f"it reads {size} channels, an even number, where runtimes differ in which they are")
    beta, bias = op.attribute("beta", 0.75), op.attribute("bias", 1.0)
    shape = op.shapes[0]
    if shape is None or not 3 <= len(shape) <= 5:
        raise Refused("it works on a value that is not a picture")
    channels = int(shape[1])
    checked_table(channels * channels)
    distance = (torch.arange(channels)[None, :] - torch.arange(channels)[:, None]).abs()
    band = (distance <= size // 2).float() * (alpha / size)
    op.constants.append(band.reshape(channels, channels, *[1] * (len(shape) - 2)))

    def apply(value: torch.Tensor, weights: torch.Tensor) -> Value:
        around: torch.Tensor = _CONVOLUTIONS[value.ndim - 2](value * value, weights)
        return value / (around + bias).pow(beta)

    return apply


def _per_side(op: Operation, name: str, kernel: Sequence[int]) -> list[int]:
    found = list(op.attribute(name) or [1] * len(kernel))
    if len(found) != len(kernel) or min(found) < 1:
        raise Refused(f"its {name} do not fit its window")
    return found


def _pads(
    op: Operation, picture: torch.Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pads:
    """Padding before and after, a number a side: as given, or as `auto_pad` makes the output ceil(side / stride)."""
    auto = op.attribute("auto_pad", "NOTSET") or "NOTSET"
    if auto == "NOTSET":
        pads = list(op.attribute("pads") or [0] * (2 * len(kernel)))
        if len(pads) != 2 * len(kernel):
            raise Refused(f"it has {len(pads)} pads for {len(kernel)} sides")
        return pads[: len(kernel)], pads[len(kernel) :]
    if auto == "VALID":
        return [0] * len(kernel), [0] * len(kernel)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise Refused(f"auto_pad {auto}")
    if any(dilation != 1 for dilation in dilations):
        raise Refused(f"a dilated window with auto_pad {auto}, where runtimes differ")
    before, after = [], []
    for side, size, stride, dilation in zip(picture.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-side // stride) - 1) * stride + dilation * (size - 1) + 1 - side)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return before, after


def _torch_order(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Padding as torch takes it: the last dimension first, each before and after."""
    return [size for pair in zip(reversed(before), reversed(after), strict=True) for size in pair]
