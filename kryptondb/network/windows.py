"""Local operators: convolution, pooling, constant padding and slicing as sliding windows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kryptondb.network.node import AxisWindow, Node, Window

#: Pads that show cells of the picture again.
REPEATING = ("replicate", "reflect", "circular")
#: All that stands beyond or beside the cells of an axis.
BEYOND = ("constant", "nearest", "centered", *REPEATING)


def pair(value: Any) -> tuple[int, int]:
    """An ATen size argument as (vertical, horizontal)."""
    if isinstance(value, int):
        return value, value
    values = list(value)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def sliding_window(
    source: Node,
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: Any,
    padding: Any,
    dilation: Any = 1,
    outside: float = 0.0,
) -> Window:
    """The windows of a convolution or pooling, without its arguments.

    `padding` is a size, a pair, or ATen's 'same' or 'valid'; an empty stride is the kernel (ATen's convention for
    pooling); `outside` is what a cell outside the picture holds.
    """
    strides, dilations = pair(stride or kernel), pair(dilation)
    if padding == "valid":
        before = (0, 0)
    elif padding == "same":  # torch puts the odd cell behind
        before = (dilations[0] * (kernel[0] - 1) // 2, dilations[1] * (kernel[1] - 1) // 2)
    else:
        before = pair(padding)
    y, x = (
        AxisWindow(dilations[a] * (kernel[a] - 1) + 1, strides[a], before[a], size, shape[2 + a])
        for a, size in enumerate((source.height, source.width))
    )
    return Window(y, x, outside, args=())


def average_counts(axis: AxisWindow, padding: int, count_padding: bool) -> torch.Tensor:
    """How many cells each output of an average pooling counts along one axis, float64 [outputs].

    As torch counts: with `count_include_pad` the cells of the padded picture, without it the picture's own; a window
    that `ceil_mode` lets hang over the padding's end never counts what is beyond.
    """
    start = torch.arange(axis.outputs, dtype=torch.float64) * axis.stride - axis.before
    end = torch.clamp(start + axis.size, max=axis.inputs + padding)
    if not count_padding:
        start, end = torch.clamp(start, min=0), torch.clamp(end, max=axis.inputs)
    return torch.clamp(end - start, min=1)


def sum_windows(read: torch.Tensor, kernel: list[int], stride: list[int]) -> torch.Tensor:
    """The sums of all windows of a read window, [n, C, h, w]; average pooling divides them by its counts."""
    return torch.nn.functional.avg_pool2d(read, kernel, stride, divisor_override=1)


def take_every(read: torch.Tensor, y_dim: int, x_dim: int, y_stride: int, x_stride: int) -> torch.Tensor:
    """Every `stride`-th row and column of a read window: what padding and slicing do to one."""
    index = [slice(None)] * read.ndim
    index[y_dim] = slice(None, None, y_stride)
    index[x_dim] = slice(None, None, x_stride)
    return read[tuple(index)]


def shift_window(
    source: Node,
    shape: tuple[int, ...],
    y_dim: int,
    x_dim: int,
    before: tuple[int, int],
    stride: tuple[int, int],
    beyond: str = "constant",
) -> Window:
    """A pad (positive `before`) or a slice (negative `before`, the start) as windows of one cell."""
    y = AxisWindow(1, stride[0], before[0], source.height, shape[y_dim], beyond)
    x = AxisWindow(1, stride[1], before[1], source.width, shape[x_dim], beyond)
    return Window(y, x, 0.0, args=())


def picking_window(cells: Sequence[int], inputs: int) -> AxisWindow | None:
    """An axis that shows cells in their order, each as often as the others, as resizing to the nearest cell does.

    Args:
        cells: for each output the input that it shows.

    Returns:
        None where cells are picked in another way.
    """
    outputs = len(cells)
    reach = max(outputs // max(1, inputs), 1)
    places = np.arange(outputs)
    for shift, kind in itertools.product(sorted(range(-reach, reach + 1), key=abs), ("nearest", "centered")):
        window = AxisWindow(1, 1, shift, inputs, outputs, kind)
        if (window.cells(places - shift) == np.asarray(cells)).all():
            return window
    return None
