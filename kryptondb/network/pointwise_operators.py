"""Operators at each location by itself, over channels or between branches, and the mean over all locations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from kryptondb.network.exported_graph import Call, dense, of_batch, of_picture
from kryptondb.network.node import Axes, Node, Ref, Rule


def mean(call: Call) -> Node:
    """`aten.mean(x, dims, keepdim)`: over the whole picture a running sum."""
    source = call.source()
    dims, keepdim = call.named("dim"), call.named("keepdim", False)
    if source is None or source.axes is None or dims is None or dims == []:
        return dense(call, "a mean over everything")
    ndim = len(source.shape)
    over = {d % ndim for d in ([dims] if isinstance(dims, int) else dims)}
    if over == {source.axes.y, source.axes.x} and source.axes.batch == 0:
        return call.node(Rule.AVERAGE, fresh=True)
    if over & {source.axes.batch, source.axes.y, source.axes.x}:
        return dense(call, "a mean over one side of the picture")
    return _reduce(call, source, over, keepdim)


def reduction(call: Call) -> Node:
    """A sum, maximum or the like over dimensions that are all channels."""
    source = call.source()
    dims, keepdim = call.named("dim"), call.named("keepdim", False)
    if source is None or source.axes is None or dims is None or dims == []:
        return dense(call, "reduces the whole picture")
    ndim = len(source.shape)
    over = {d % ndim for d in ([dims] if isinstance(dims, int) else dims)}
    if over & {source.axes.batch, source.axes.y, source.axes.x}:
        return dense(call, "reduces the whole picture")
    return _reduce(call, source, over, keepdim)


def _reduce(call: Call, source: Node, over: set[int], keepdim: bool) -> Node:
    assert source.axes is not None

    def moved(axis: int) -> int:
        return axis if keepdim else axis - sum(d < axis for d in over)

    axes = Axes(moved(source.axes.batch), moved(source.axes.y), moved(source.axes.x))
    return call.node(Rule.POINTWISE, axes=axes, fresh=True)


@of_picture
def same_memory(call: Call, source: Node, axes: Axes) -> Node:
    """`contiguous`, `to` and the like: the same values, perhaps in the same memory."""
    return call.node(Rule.POINTWISE, axes=axes)


def whole_picture(call: Call) -> Node:
    """An operator that the algebra has no regions for."""
    return dense(call, f"{call.operator} is not an operator of the algebra")


def _over_channels(call: Call, dims: Sequence[int], flops: float = 0.0) -> Node:
    """An operator that works along some dimensions at each location: local when all of them are channels."""
    source = call.source()
    if source is None or source.axes is None:
        return call.node(Rule.DENSE, flops=flops, reason="its input is not a picture any more", fresh=True)
    ndim = len(source.shape)
    if {d % ndim for d in dims} & {source.axes.batch, source.axes.y, source.axes.x}:
        return call.node(Rule.DENSE, flops=flops, reason="works along the height or width of the picture", fresh=True)
    return call.node(Rule.POINTWISE, axes=source.axes, flops=flops / (source.height * source.width), fresh=True)


def linear(call: Call) -> Node:
    """`aten.linear(x, weight, bias)` over the last dimension, which is channels in channels-last networks."""
    source, weight = call.source(), call.source(1)
    if source is None or weight is None or weight.constant is None:
        return dense(call, "its weights are computed from the image")
    return _over_channels(call, [-1], flops=2.0 * math.prod(source.shape) * weight.shape[0])


def layer_norm(call: Call) -> Node:
    """`aten.layer_norm(x, shape, ...)` over the last dimensions."""
    return _over_channels(call, [-1 - d for d in range(len(call.arg(1)))])


def along_one_dimension(call: Call, place: int = 1, default: int = -1) -> Node:
    """An operator along one dimension that keeps the shape (softmax) or shrinks it (glu)."""
    return _over_channels(call, [call.arg(place, default, "dim")])


@of_batch
def batch_norm(call: Call, source: Node) -> Node:
    """`aten.batch_norm` in eval mode that no convolution could take in."""
    return call.node(Rule.POINTWISE, axes=source.axes, fresh=True)


def prelu(call: Call) -> Node:
    """`aten.prelu(x, weight)`, one slope per channel."""
    source = call.source()
    if source is None or source.axes is None or 1 in (source.axes.y, source.axes.x):
        return dense(call, "its input is not a picture any more")
    return call.node(Rule.POINTWISE, axes=source.axes, fresh=True)


def matrix_product(call: Call) -> Node:
    """`aten.matmul(x, weight)` with a constant matrix: over the last dimension, as a linear layer."""
    source, weight = call.source(), call.source(1)
    if source is None or weight is None or weight.constant is None or len(weight.shape) != 2 or len(source.shape) < 2:
        return dense(call, "multiplies matrices that are computed from the image")
    elements = math.prod(source.shape)
    return _over_channels(call, [-1], flops=2.0 * elements * weight.shape[1])


def elementwise(call: Call) -> Node:
    """An operator of every number by itself: of a picture, numbers and channel constants local, of branches a merge."""
    operands = [call.nodes[index] for index in call.input_refs if call.nodes[index].shape != ()]
    pictures = [node for node in operands if node.axes is not None]
    if not pictures:
        return _dense_arithmetic(call, "its input is not a picture any more")
    ndim = len(call.shape)
    shifted = {node.index: _broadcast(node, ndim) for node in pictures}
    axes = next(iter(shifted.values()))
    assert axes is not None
    if any(other != axes for other in shifted.values()):
        return dense(call, "joins branches whose dimensions are in different orders")
    for node in operands:
        offset = ndim - len(node.shape)
        extents = [node.shape[a - offset] if a >= offset else 1 for a in (axes.y, axes.x)]
        whole = extents == [call.shape[axes.y], call.shape[axes.x]]
        if node.axes is not None and not whole:
            return dense(call, "stretches one branch over the other")
        if node.axes is None and extents != [1, 1]:
            return dense(call, "joins the picture with values that differ from place to place and have no region")
        if node.axes is None and node.rule is not Rule.CONSTANT:
            reason = f"scales every place by {node.name or node.operator}, which changes with any of them"
            return _dense_arithmetic(call, reason)
    left, in_place = call.source(), call.in_place
    if left is None or left.axes is None or left.shape != call.shape:
        in_place = None
    rule = Rule.MERGE if len(pictures) > 1 else Rule.POINTWISE
    return call.node(rule, axes=axes, in_place=in_place, fresh=True)


def _dense_arithmetic(call: Call, reason: str) -> Node:
    """Arithmetic on whole values, written over the operand that has the result's shape (a gate's is the second)."""
    left, right, in_place = call.source(0), call.source(1), call.in_place
    if in_place is torch.ops.aten.mul_ and right is not None and (left is None or left.shape != call.shape):
        call.args = (call.args[1], call.args[0], *call.args[2:])
        left = right
    if left is None or left.shape != call.shape or not is_floating(left):
        in_place = None
    return call.node(Rule.DENSE, reason=reason, in_place=in_place, fresh=True)


def is_floating(node: Node) -> bool:
    """Whether its value surely holds floating point numbers: a picture, or what comes of weights."""
    return node.axes is not None or node.operator in (
        "conv2d",
        "convolution",
        "linear",
        "batch_norm",
        "layer_norm",
        "silu",
    )


def _broadcast(node: Node, ndim: int) -> Axes | None:
    if node.axes is None:
        return None
    offset = ndim - len(node.shape)
    return Axes(node.axes.batch + offset, node.axes.y + offset, node.axes.x + offset)


def concatenate(call: Call) -> Node:
    """`aten.cat(parts, dim)` along channels."""
    parts = [call.nodes[ref.index] for ref in call.args[0] if isinstance(ref, Ref)]
    dim = call.arg(1, 0, "dim") % max(len(call.shape), 1)
    axes = parts[0].axes if parts else None
    if axes is None or any(part.axes != axes for part in parts):
        return dense(call, "joins values that are not pictures of the same order")
    if dim in (axes.batch, axes.y, axes.x):
        return dense(call, "puts pictures beside each other")
    rule = Rule.MERGE if len({part.index for part in parts}) > 1 else Rule.POINTWISE
    return call.node(rule, axes=axes, fresh=True)


def stack(call: Call) -> Node:
    """`aten.stack(parts, dim)` along a new channel dimension."""
    parts = [call.nodes[ref.index] for ref in call.args[0] if isinstance(ref, Ref)]
    dim = call.arg(1, 0, "dim") % max(len(call.shape), 1)
    axes = parts[0].axes if parts else None
    if axes is None or any(part.axes != axes for part in parts) or dim <= axes.batch:
        return dense(call, "joins values that are not pictures of the same order")
    moved = Axes(axes.batch, axes.y + (dim <= axes.y), axes.x + (dim <= axes.x))
    return call.node(Rule.MERGE, axes=moved, fresh=True)
