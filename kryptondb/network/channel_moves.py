"""Operators that move channels or rename dimensions: select, unsqueeze, permute, reshape, expand, flip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from kryptondb.network.exported_graph import Call, dense, of_batch, of_picture
from kryptondb.network.node import Axes, Extent, Node, Rule


def reshaped_axes(before: Sequence[int], after: Sequence[int], axes: Axes) -> Axes | None:
    """Where batch, height and width are after a reshape, or None when one of them is mixed with another dimension.

    Both shapes are cut into the shortest runs of dimensions with equal products; an axis survives when it is alone in
    its run, ones aside, on both sides:

        [1, 48, 28, 28] -> [1, 2, 24, 28, 28]    axes (0, 2, 3) -> (0, 3, 4)
        [1, 48, 28, 28] -> [1, 48, 784]          None

    A height or width of 1 cannot be told from any other 1, and is given up.
    """
    if before[axes.y] == 1 or before[axes.x] == 1:
        return axes if list(before) == list(after) else None
    moved: dict[int, int] = {}
    i = j = 0
    if axes.batch != 0 or not after or after[0] != before[0]:
        return None
    moved[0] = 0  # the batch leads on both sides; its size of 1 would match any other
    i = j = 1
    while i < len(before) or j < len(after):
        left, right = [i] if i < len(before) else [], [j] if j < len(after) else []
        product_left = before[i] if left else 1
        product_right = after[j] if right else 1
        i, j = i + len(left), j + len(right)
        while product_left != product_right:
            if product_left < product_right and i < len(before):
                product_left *= before[i]
                left.append(i)
                i += 1
            elif product_right < product_left and j < len(after):
                product_right *= after[j]
                right.append(j)
                j += 1
            else:
                return None
        left = [d for d in left if before[d] != 1]
        right = [d for d in right if after[d] != 1]
        if len(left) == len(right) == 1:
            moved[left[0]] = right[0]
    if axes.y not in moved or axes.x not in moved:
        return None
    return Axes(0, moved[axes.y], moved[axes.x])


aten = torch.ops.aten


@of_picture
def select(call: Call, source: Node, axes: Axes) -> Node:
    """One of the channels along a dimension (`aten.select(x, dim, index)`)."""
    dim = call.arg(1) % len(source.shape)
    if dim in (axes.batch, axes.y, axes.x):
        return dense(call, "takes one row, column or image")
    moved = Axes(*(a - (dim < a) for a in (axes.batch, axes.y, axes.x)))
    return call.node(Rule.POINTWISE, axes=moved)


@of_picture
def unsqueeze(call: Call, source: Node, axes: Axes) -> Node:
    """A new dimension of one channel (`aten.unsqueeze(x, dim)`)."""
    dim = call.arg(1) % (len(source.shape) + 1)
    if dim <= axes.batch:
        return dense(call, "puts a dimension before the batch")
    return call.node(Rule.POINTWISE, axes=Axes(axes.batch, axes.y + (dim <= axes.y), axes.x + (dim <= axes.x)))


@of_picture
def permute(call: Call, source: Node, axes: Axes) -> Node:
    """Dimensions in another order (`aten.permute`, `aten.transpose`, `aten.movedim`)."""
    order = order_of(call, len(source.shape))
    moved = Axes(*(order.index(a) for a in (axes.batch, axes.y, axes.x)))
    return call.node(Rule.POINTWISE, axes=moved)


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


@of_picture
def reshape(call: Call, source: Node, axes: Axes) -> Node:
    """A view of another shape: local as long as height and width stay dimensions of their own."""
    moved = reshaped_axes(source.shape, call.shape, axes) if call.batch_dim == 0 else None
    if moved is None:
        return dense(call, "mixes the picture's height or width with other dimensions")
    return _of_shape(call, source, moved, aten.reshape.default)


def _of_shape(call: Call, source: Node, axes: Axes, function: Callable[..., Any]) -> Node:
    """A node that gives its picture the call's shape, with the sizes that run in place of those of the export."""
    sizes: list[Any] = list(call.shape)
    sizes[axes.batch], sizes[axes.y], sizes[axes.x] = Extent.BATCH, Extent.HEIGHT, Extent.WIDTH
    args = (call.args[0], sizes)
    return call.node(Rule.POINTWISE, axes=axes, function=function, args=args, kwargs={}, inputs=(source.index,))


@of_picture
def expand(call: Call, source: Node, axes: Axes) -> Node:
    """Channels repeated without a copy (`aten.expand(x, sizes)`, `aten.expand_as(x, other)`)."""
    more = len(call.shape) - len(source.shape)
    moved = Axes(*(a + more for a in (axes.batch, axes.y, axes.x)))
    if call.batch_dim != moved.batch or (call.shape[moved.y], call.shape[moved.x]) != (source.height, source.width):
        return dense(call, "stretches the picture")
    return _of_shape(call, source, moved, aten.expand.default)


@of_picture
def along_channels(call: Call, source: Node, axes: Axes) -> Node:
    """Channels in another order, or some of them (`aten.flip`, `aten.roll`, `aten.index_select`)."""
    over = {d % len(source.shape) for d in _listed(call.named("dims", call.named("dim", [])))}
    if not over or over & {axes.batch, axes.y, axes.x}:
        return dense(call, "moves places of the picture")
    if any(call.nodes[index].constant is None for index in call.input_refs if index != source.index):
        return dense(call, "takes channels that are computed from the image")
    return call.node(Rule.POINTWISE, axes=axes, fresh=True)


@of_batch
def channel_shuffle(call: Call, source: Node) -> Node:
    """`aten.channel_shuffle(x, groups)`."""
    return call.node(Rule.POINTWISE, axes=source.axes)
