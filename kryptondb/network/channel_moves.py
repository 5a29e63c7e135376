"""Operators that move channels or name dimensions anew: select, unsqueeze, permute, reshape, expand, flip."""

from __future__ import annotations

from typing import Any

import torch

from kryptondb.network.axes import reshaped_axes
from kryptondb.network.call import Call, dense, picture
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
    """Dimensions in another order (`aten.permute`, `aten.transpose`, `aten.movedim`)."""
    source = call.source()
    if source is None or source.axes is None:
        return dense(call, "its input is not a picture any more")
    order = order_of(call, len(source.shape))
    axes = Axes(*(order.index(a) for a in (source.axes.batch, source.axes.y, source.axes.x)))
    return call.node(Rule.LOCAL, axes=axes)


def order_of(call: Call, ndim: int) -> list[int]:
    """Which of its input's dimensions each dimension of the result is."""
    if call.operator == "permute":
        return [d % ndim for d in call.arg(1)]
    if call.operator in ("transpose", "mT"):
        first, second = (-2 % ndim, -1 % ndim) if call.operator == "mT" else (call.arg(1) % ndim, call.arg(2) % ndim)
        order = list(range(ndim))
        order[first], order[second] = order[second], order[first]
        return order
    sources, targets = ([d % ndim for d in _listed(call.arg(place))] for place in (1, 2))
    moved = dict(zip(targets, sources, strict=True))
    rest = iter(d for d in range(ndim) if d not in sources)
    return [moved[d] if d in moved else next(rest) for d in range(ndim)]


def _listed(value: Any) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


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


def expand(call: Call) -> Node:
    """Channels repeated without a copy (`aten.expand(x, sizes)`, `aten.expand_as(x, other)`)."""
    source = call.source()
    if source is None or source.axes is None:
        return dense(call, "its input is not a picture any more")
    more = len(call.shape) - len(source.shape)
    axes = Axes(*(a + more for a in (source.axes.batch, source.axes.y, source.axes.x)))
    if call.batch_dim != axes.batch or (call.shape[axes.y], call.shape[axes.x]) != (source.height, source.width):
        return dense(call, "stretches the picture")
    sizes: list[Any] = list(call.shape)
    sizes[axes.batch], sizes[axes.y], sizes[axes.x] = Extent.BATCH, Extent.HEIGHT, Extent.WIDTH
    function, args = aten.expand.default, (call.args[0], sizes)
    return call.node(Rule.LOCAL, axes=axes, function=function, args=args, kwargs={}, inputs=(source.index,))


def along_channels(call: Call) -> Node:
    """Channels in another order, or some of them (`aten.flip`, `aten.roll`, `aten.index_select`)."""
    source = call.source()
    if source is None or source.axes is None:
        return dense(call, "its input is not a picture any more")
    over = {d % len(source.shape) for d in _listed(call.named("dims", call.named("dim", [])))}
    if not over or over & {source.axes.batch, source.axes.y, source.axes.x}:
        return dense(call, "moves places of the picture")
    if any(call.nodes[index].constant is None for index in call.input_refs if index != source.index):
        return dense(call, "takes channels that are computed from the image")
    return call.node(Rule.LOCAL, axes=source.axes, fresh=True)


def channel_shuffle(call: Call) -> Node:
    """`aten.channel_shuffle(x, groups)`."""
    source = picture(call)
    if source is None:
        return dense(call, "its input is not a picture any more")
    return call.node(Rule.LOCAL, axes=source.axes)
