"""Convolution, pooling, padding: ONNX's windows said in torch's words.

torch pads both sides alike and at most half a pool's window; ONNX pads each side as it likes. Where they differ, the
picture is padded first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from kryptondb.catalog.onnx_models.operation import Function, Operation, Refused, numbers

Pads = tuple[list[int], list[int]]  # before and after, one a dimension

_CONVOLUTIONS: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_TRANSPOSED: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
}


def convolution(op: Operation) -> Function:
    """`Conv`, with any padding, stride, dilation and groups."""
    groups = op.attribute("group", 1)

    def apply(picture: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        kernel = list(weight.shape[2:])
        strides, dilations = _per_side(op, "strides", kernel), _per_side(op, "dilations", kernel)
        before, after = _pads(op, picture, kernel, strides, dilations)
        if before != after:
            picture = functional.pad(picture, _torch_order(before, after))
            before = [0] * len(kernel)
        function = _CONVOLUTIONS.get(len(kernel))
        if function is None:
            raise Refused(f"a convolution in {len(kernel)} dimensions")
        return function(picture, weight, bias, strides, before, dilations, groups)

    return apply


def transposed_convolution(op: Operation) -> Function:
    """`ConvTranspose` with the same padding on both sides."""
    if op.attribute("output_shape") or op.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Refused("its padding follows from the shape of its output")

    def apply(picture: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        kernel = list(weight.shape[2:])
        strides, dilations = _per_side(op, "strides", kernel), _per_side(op, "dilations", kernel)
        before, after = _pads(op, picture, kernel, strides, dilations)
        more = list(op.attribute("output_padding") or [0] * len(kernel))
        function = _TRANSPOSED.get(len(kernel))
        if before != after or function is None:
            raise Refused("it pads one side more than the other")
        return function(picture, weight, bias, strides, before, more, op.attribute("group", 1), dilations)

    return apply


def max_pool(op: Operation) -> Function:
    """`MaxPool`; its indices are not taken."""
    if op.outputs > 1:
        raise Refused("its indices are used")
    kernel = _kernel(op)

    def apply(picture: torch.Tensor) -> torch.Tensor:
        strides, dilations = _per_side(op, "strides", kernel), _per_side(op, "dilations", kernel)
        before, after = _pads(op, picture, kernel, strides, dilations)
        ceil = bool(op.attribute("ceil_mode", 0))
        if before != after or any(2 * pad > size for pad, size in zip(before, kernel, strict=True)):
            picture = functional.pad(picture, _torch_order(before, after), value=-float("inf"))
            before = [0, 0]
        return torch.max_pool2d(picture, kernel, strides, before, dilations, ceil)

    return apply


def average_pool(op: Operation) -> Function:
    """`AveragePool`, whether it counts what it pads or not."""
    kernel = _kernel(op)
    counted = bool(op.attribute("count_include_pad", 0))

    def apply(picture: torch.Tensor) -> torch.Tensor:
        strides, dilations = _per_side(op, "strides", kernel), _per_side(op, "dilations", kernel)
        if dilations != [1, 1]:
            raise Refused("an average over a dilated window")
        before, after = _pads(op, picture, kernel, strides, dilations)
        ceil = bool(op.attribute("ceil_mode", 0))
        if before == after and all(2 * pad <= size for pad, size in zip(before, kernel, strict=True)):
            return functional.avg_pool2d(picture, kernel, strides, before, ceil, counted)
        if counted:
            padded = functional.pad(picture, _torch_order(before, after))
            return functional.avg_pool2d(padded, kernel, strides, 0, ceil, True)
        return _uncounted(picture, kernel, strides, (before, after), ceil)

    return apply


def _uncounted(picture: torch.Tensor, kernel: list[int], strides: list[int], pads: Pads, ceil: bool) -> torch.Tensor:
    """An average that leaves out what was padded, of sides padded unlike.

    Padding behind, as TensorFlow does it, is what torch calls ceil mode: a last window that hangs over. Any other is
    a sum divided by how many cells of the picture each window has.
    """
    before, after = pads
    sides = picture.shape[2:]
    over = [side + b + a - k for side, b, a, k in zip(sides, before, after, kernel, strict=True)]
    counts = [(-(-o // s) if ceil else o // s) + 1 for o, s in zip(over, strides, strict=True)]
    hangs = [-(-(n + 2 * b - k) // s) + 1 for n, b, k, s in zip(sides, before, kernel, strides, strict=True)]
    if hangs == counts and all(2 * b <= k for b, k in zip(before, kernel, strict=True)):
        return functional.avg_pool2d(picture, kernel, strides, before, True, False)
    order = _torch_order(before, after)
    whole = functional.avg_pool2d(functional.pad(picture, order), kernel, strides, 0, ceil, True)
    inside = functional.pad(torch.ones_like(picture[:1, :1]), order)
    return whole / functional.avg_pool2d(inside, kernel, strides, 0, ceil, True)


def pad(op: Operation) -> Function:
    """`Pad`: with a number, or with the picture's own border."""
    mode = op.attribute("mode", "constant")
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in modes:
        raise Refused(f"it pads in mode {mode}")
    value = op.number(2, "value", 0.0) if op.has(2) or op.opset < 11 else 0.0

    def apply(picture: torch.Tensor, *given: Any) -> torch.Tensor:
        pads = [int(size) for size in (numbers(given[0]) if given else op.attribute("pads"))]
        axes = range(picture.ndim)
        if len(given) > 2 and given[2] is not None:
            axes = [int(axis) % picture.ndim for axis in numbers(given[2])]  # type: ignore[assignment]
        before, after = [0] * picture.ndim, [0] * picture.ndim
        for place, axis in enumerate(axes):
            before[axis], after[axis] = pads[place], pads[len(pads) // 2 + place]
        order = _torch_order(before, after)
        while len(order) > 2 and not any(order[-2:]):  # torch wants borders for the last sides only
            order = order[:-2]
        if not any(order):
            return picture
        if mode == "constant":
            return functional.pad(picture, order, value=float(value))
        return functional.pad(picture, order, mode=modes[mode])

    return apply


def _kernel(op: Operation) -> list[int]:
    kernel = list(op.attribute("kernel_shape") or [])
    if len(kernel) != 2:
        raise Refused(f"a pool in {len(kernel)} dimensions")
    return kernel


def _per_side(op: Operation, name: str, kernel: Sequence[int]) -> list[int]:
    return list(op.attribute(name) or [1] * len(kernel))


def _pads(
    op: Operation, picture: torch.Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pads:
    """Padding before and after, a number a side: as given, or as `auto_pad` makes the output ceil(side / stride)."""
    auto = op.attribute("auto_pad", "NOTSET") or "NOTSET"
    if auto == "NOTSET":
        pads = list(op.attribute("pads") or [0] * (2 * len(kernel)))
        return pads[: len(kernel)], pads[len(kernel) :]
    if auto == "VALID":
        return [0] * len(kernel), [0] * len(kernel)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise Refused(f"auto_pad {auto}")
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
