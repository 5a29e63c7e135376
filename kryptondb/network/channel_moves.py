"""Operators that move channels or name dimensions anew: select, unsqueeze, permute, reshape."""

from __future__ import annotations

from typing import Any

import torch

from kryptondb.network.axes import reshaped_axes
from kryptondb.network.call import Call, dense
from kryptondb.network.node import Axes, Extent, Node, Rule

aten = torch.ops.aten


def select(call: Call) -> Node:
    """One of the channels along a dimension (`aten.select(x, dim, index)`)."""
    source = call.source()
    if source is None or source.axes is None:
        return dense(call, "its input is not a picture any more")
    dim, axes = call.arg(1) % len(source.shape), source.axes
    if dim in (axes.batch, axes.y, axes.x):
        return dense(call, "takes one row, column or image")
    moved = Axes(*(a - (dim < a) for a in (axes.batch, axes.y, axes.x)))
    return call.node(Rule.LOCAL, axes=moved)


def unsqueeze(call: Call) -> Node:
    """A new dimension of one channel (`aten.unsqueeze(x, dim)`)."""
    source = call.source()
    if source is None or source.axes is None:
        return dense(call, "its input is not a picture any more")
    dim, axes = call.arg(1) % (len(source.shape) + 1), source.axes
    if dim <= axes.batch:
        return dense(call, "puts a dimension before the batch")
    return call.node(Rule.LOCAL, axes=Axes(axes.batch, axes.y + (dim <= axes.y), axes.x + (dim <= axes.x)))


def permute(call: Call) -> Node:
    """Dimensions in another order (`aten.permute`, `aten.transpose`)."""
    source = call.source()
    if source is None or source.axes is None:
        return dense(call, "its input is not a picture any more")
    ndim = len(source.shape)
    if call.operator == "permute":
        order = [d % ndim for d in call.arg(1)]
    else:
        first, second = call.arg(1) % ndim, call.arg(2) % ndim
        order = list(range(ndim))
        order[first], order[second] = order[second], order[first]
    axes = Axes(*(order.index(a) for a in (source.axes.batch, source.axes.y, source.axes.x)))
    return call.node(Rule.LOCAL, axes=axes)


def reshape(call: Call) -> Node:
    """A view of another shape: local as long as height and width stay dimensions of their own."""
    source = call.source()
    if source is None or source.axes is None:
        return dense(call, "its input is not a picture any more")
    axes = reshaped_axes(source.shape, call.shape, source.axes) if call.batch_dim == 0 else None
    if axes is None:
        return dense(call, "mixes the picture's height or width with other dimensions")
    sizes: list[Any] = list(call.shape)
    sizes[axes.batch], sizes[axes.y], sizes[axes.x] = Extent.BATCH, Extent.HEIGHT, Extent.WIDTH
    return call.node(
        Rule.LOCAL,
        axes=axes,
        function=aten.reshape.default,
        args=(call.args[0], sizes),
        kwargs={},
        inputs=(source.index,),
    )
