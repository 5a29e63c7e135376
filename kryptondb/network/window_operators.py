"""Operators that read a window around each location: convolutions, pooling, constant pads, slices of the picture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from kryptondb.network.channel_moves import along_channels
from kryptondb.network.exported_graph import Call, dense, of_batch, of_picture, picture
from kryptondb.network.node import Axes, AxisWindow, Node, Rule, Window

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


aten = torch.ops.aten


def convolution_2d(call: Call) -> Node:
    """`aten.conv2d(x, weight, bias, stride, padding, dilation, groups)`."""
    weight = call.source(1)
    if weight is None or weight.constant is None:
        return dense(call, "its weights are computed from the image")
    out, per_group, kh, kw = (tuple(weight.shape) + (0, 0, 0, 0))[:4]
    source = picture(call)
    flops = 2.0 * per_group * kh * kw * out
    if source is None or len(weight.shape) != 4:
        flops *= math.prod(call.shape[2:])
        return call.node(Rule.DENSE, flops=flops, reason="its input is not a picture any more", fresh=True)
    bias, stride, padding = call.arg(2), call.arg(3, [1, 1], "stride"), call.arg(4, [0, 0], "padding")
    dilation, groups = call.arg(5, [1, 1], "dilation"), call.arg(6, 1, "groups")
    window = sliding_window(source, call.shape, (kh, kw), stride, padding, dilation)
    args = (call.args[0], call.args[1], bias, list(pair(stride)), [0, 0], list(pair(dilation)), groups)
    return call.node(
        Rule.WINDOW,
        axes=source.axes,
        window=Window(window.y, window.x, 0.0, args, function=torch.conv2d),
        flops=flops,
        fresh=True,
    )


def convolution(call: Call) -> Node:
    """`aten.convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)`."""
    transposed, groups = call.arg(6), call.arg(8)
    weight = call.source(1)
    if transposed or weight is None or len(weight.shape) != 4:
        return dense(call, "a transposed convolution" if transposed else "not a two-dimensional convolution")
    call.args = (*call.args[:6], groups)
    call.function = aten.conv2d.default
    return convolution_2d(call)


@of_batch
def max_pool(call: Call, source: Node) -> Node:
    """`aten.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)`."""
    kernel, stride = call.arg(1), call.arg(2, [], "stride")
    dilation = call.arg(4, [1, 1], "dilation")
    window = sliding_window(
        source, call.shape, pair(kernel), stride, call.arg(3, [0, 0], "padding"), dilation, outside=-float("inf")
    )
    args = (call.args[0], list(pair(kernel)), [window.y.stride, window.x.stride], [0, 0], list(pair(dilation)), False)
    return call.node(
        Rule.WINDOW,
        axes=source.axes,
        window=Window(window.y, window.x, window.outside, args, function=torch.max_pool2d),
        fresh=True,
    )


@of_batch
def average_pool(call: Call, source: Node) -> Node:
    """`aten.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)`."""
    kernel, stride, padding = call.arg(1), call.arg(2, [], "stride"), pair(call.arg(3, [0, 0], "padding"))
    count_padding, divisor = call.arg(5, True, "count_include_pad"), call.arg(6, None, "divisor_override")
    window = sliding_window(source, call.shape, pair(kernel), stride, padding)
    window = _averaging(call, window, padding, count_padding, divisor)
    return call.node(Rule.WINDOW, axes=source.axes, window=window, fresh=True)


def _averaging(
    call: Call, window: Window, padding: tuple[int, int], count_padding: bool, divisor: int | None
) -> Window:
    """An average over windows: a constant divisor where every window is whole, else counts by row and column."""
    kernel, stride = [window.y.size, window.x.size], [window.y.stride, window.x.stride]
    if divisor:
        counts_y = torch.full((window.y.outputs,), float(divisor), dtype=torch.float64)
        counts_x = torch.ones(window.x.outputs, dtype=torch.float64)
    else:
        counts_y = average_counts(window.y, padding[0], count_padding)
        counts_x = average_counts(window.x, padding[1], count_padding)
    args = (call.args[0], kernel, stride)
    if not divisor and bool((counts_y == kernel[0]).all()) and bool((counts_x == kernel[1]).all()):
        return Window(window.y, window.x, 0.0, args, function=torch.nn.functional.avg_pool2d)
    return Window(window.y, window.x, 0.0, args, counts=(counts_y, counts_x), function=sum_windows)


@of_batch
def adaptive_average_pool(call: Call, source: Node) -> Node:
    """`aten.adaptive_avg_pool2d(x, size)`: a mean, a plain pooling, or dense where windows differ in size."""
    rows, cols = pair(call.arg(1))
    if (rows, cols) == (1, 1):
        return call.node(Rule.AVERAGE, args=(call.args[0], [1, 1]), fresh=True)
    if source.height % rows or source.width % cols:
        return dense(call, f"its windows differ in size ({source.height} x {source.width} to {rows} x {cols})")
    kernel = (source.height // rows, source.width // cols)
    window = sliding_window(source, call.shape, kernel, kernel, 0)
    return call.node(Rule.WINDOW, axes=source.axes, window=_averaging(call, window, (0, 0), True, None), fresh=True)


_MODES = {"reflection_pad2d": "reflect", "replication_pad2d": "replicate", "_pad_circular": "circular"}


@of_picture
def pad(call: Call, source: Node, axes: Axes) -> Node:
    """`aten.pad(x, [left, right, top, bottom, ...], mode, value)` and the operators of its modes."""
    pads = list(call.arg(1))
    mode, value = _MODES.get(call.operator, "constant"), 0.0
    if call.operator == "pad":
        mode, value = call.arg(2, "constant", "mode"), call.arg(3, 0.0, "value")
    elif call.operator == "constant_pad_nd":
        value = call.arg(2, 0.0, "value")
    if mode != "constant" and mode not in REPEATING:
        return dense(call, f"pads in mode {mode}")
    if mode == "circular" and min(pads) < 0:  # torch then repeats what is left of the picture
        return dense(call, "cuts the picture before it repeats it")
    ndim = len(source.shape)
    before = {ndim - 1 - i // 2: pads[i] for i in range(0, len(pads), 2)}
    after = {ndim - 1 - i // 2: pads[i + 1] for i in range(0, len(pads), 2)}
    padded = {d for d in before if before[d] or after[d]}
    sides = {axes.y, axes.x}
    if not padded & sides and axes.batch not in padded and mode == "constant":
        return call.node(Rule.POINTWISE, axes=axes, fresh=True)
    if padded - sides:
        return dense(call, "pads channels and sides at once")
    window = shift_window(
        source, call.shape, axes.y, axes.x, (before.get(axes.y, 0), before.get(axes.x, 0)), (1, 1), mode
    )
    function = partial(take_every, y_dim=axes.y, x_dim=axes.x, y_stride=1, x_stride=1)
    return call.node(
        Rule.WINDOW,
        axes=axes,
        window=Window(window.y, window.x, float(value or 0.0), (call.args[0],), function=function),
    )


@of_batch
def nearest(call: Call, source: Node) -> Node:
    """`aten.upsample_nearest2d(x, size, ...)` and `_upsample_nearest_exact2d`."""
    ramps = (torch.arange(float(side)) for side in (source.height, source.width))
    rows, columns = next(ramps)[:, None].expand(-1, source.width), next(ramps)[None].expand(source.height, -1)
    shown = call.function(torch.stack([rows, columns])[None], *call.args[1:], **call.kwargs)[0].long()
    return _picking(call, source, shown[0, :, 0].tolist(), shown[1, 0].tolist())


def pick(call: Call) -> Node:
    """`aten.index_select(x, dim, index)`: of channels local, of rows or columns a window where they stay in order."""
    source, index = call.source(), call.source(2)
    axes = source.axes if source is not None else None
    if source is None or axes is None or index is None or index.constant is None:
        return along_channels(call)
    dim = call.arg(1, 0, "dim") % len(source.shape)
    if dim not in (axes.y, axes.x):
        return along_channels(call)
    cells = index.constant.reshape(-1).tolist()
    rows = cells if dim == axes.y else list(range(source.height))
    columns = cells if dim == axes.x else list(range(source.width))
    return _picking(call, source, rows, columns)


def _picking(call: Call, source: Node, rows: list[int], columns: list[int]) -> Node:
    """Rows and columns of a picture, each of them shown several times or left out."""
    axes = source.axes
    assert axes is not None  # or it would be no picture
    y, x = picking_window(rows, source.height), picking_window(columns, source.width)
    if y is None or x is None:
        return dense(call, "moves places of the picture")
    function = partial(take_every, y_dim=axes.y, x_dim=axes.x, y_stride=1, x_stride=1)
    window = Window(y, x, 0.0, (call.args[0],), function=function)
    return call.node(Rule.WINDOW, axes=axes, window=window, fresh=True)


@of_picture
def take_slice(call: Call, source: Node, axes: Axes) -> Node:
    """`aten.slice(x, dim, start, end, step)`: of channels local, of the picture a window."""
    dim = call.arg(1, 0, "dim") % len(source.shape)
    start, end, step = call.arg(2, None, "start") or 0, call.arg(3, None, "end"), call.arg(4, 1, "step")
    if dim not in (axes.batch, axes.y, axes.x):
        return call.node(Rule.POINTWISE, axes=axes)
    if source.shape == call.shape and start == 0 and step == 1:
        return call.node(Rule.POINTWISE, axes=axes, function=same, args=(call.args[0],), kwargs={})
    if dim == axes.batch or not all(isinstance(v, (int, type(None))) for v in (start, end, step)):
        return dense(call, "takes part of the batch")
    start = max(0, start + source.shape[dim] if start < 0 else start)
    before = (-start, 0) if dim == axes.y else (0, -start)
    stride = (step, 1) if dim == axes.y else (1, step)
    window = shift_window(source, call.shape, axes.y, axes.x, before, stride)
    function = partial(take_every, y_dim=axes.y, x_dim=axes.x, y_stride=stride[0], x_stride=stride[1])
    return call.node(Rule.WINDOW, axes=axes, window=Window(window.y, window.x, 0.0, (call.args[0],), function=function))


def same(value: Any) -> Any:
    """The value itself: what a slice of everything takes."""
    return value
