"""Each ATen operator as a node of the network algebra.

`HANDLERS` maps an operator's name to a function `call -> Node`. A handler that finds a case that the algebra does not
cover gives a dense node with the reason: the operator then runs on whole pictures, correctly and without speed-up.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from kryptondb.network import channel_moves as moves
from kryptondb.network import local_operators as local
from kryptondb.network import pointwise_operators as pointwise
from kryptondb.network.call import Call, dense
from kryptondb.network.node import Node

aten = torch.ops.aten


def _group(names: str, handler: Callable[[Call], Node]) -> dict[str, Callable[[Call], Node]]:
    return dict.fromkeys(names.split(), handler)


_IN_PLACE_UNARY = """relu hardtanh hardswish hardsigmoid silu sigmoid tanh elu leaky_relu relu6 celu selu mish exp
    log sqrt abs neg clamp clamp_min clamp_max rsqrt square reciprocal floor ceil round erf sin cos"""
_UNARY = """gelu softplus softsign log_sigmoid hardshrink softshrink tanhshrink pow log1p expm1 threshold nan_to_num
    log2 log10 sign atan asinh sinh cosh rrelu_with_noise"""


def _unary_in_place(name: str) -> Callable[[Call], Node]:
    function = getattr(aten, name + "_", None)
    return partial(pointwise.pointwise, in_place=function)


def _view_like(call: Call) -> Node:
    """`clone`, `contiguous`, `to` and the like: the same values, perhaps the same memory."""
    node = pointwise.pointwise(call)
    return replace(node, fresh=call.operator in ("clone", "_to_copy"))


HANDLERS: dict[str, Callable[[Call], Node]] = {
    **_group("conv2d", local.convolution_2d),
    **_group("convolution", local.convolution),
    **_group("max_pool2d", local.max_pool),
    **_group("avg_pool2d", local.average_pool),
    **_group("adaptive_avg_pool2d _adaptive_avg_pool2d", local.adaptive_average_pool),
    **_group("mean", pointwise.mean),
    **_group("sum amax amin", pointwise.reduction),
    **_group("linear", pointwise.linear),
    **_group("layer_norm", pointwise.layer_norm),
    **_group("softmax log_softmax glu _softmax _log_softmax", pointwise.along_one_dimension),
    **_group("batch_norm", pointwise.batch_norm),
    **_group("prelu", pointwise.prelu),
    **{name: partial(pointwise.binary, in_place=getattr(aten, name + "_")) for name in ("add", "sub", "mul", "div")},
    **_group("maximum minimum rsub", pointwise.binary),
    **_group("cat", pointwise.concatenate),
    **_group("stack", pointwise.stack),
    **_group("pad constant_pad_nd", local.pad),
    **_group("slice", local.take_slice),
    **_group("select", moves.select),
    **_group("unsqueeze", moves.unsqueeze),
    **_group("permute transpose", moves.permute),
    **_group("view reshape _unsafe_view flatten unflatten squeeze", moves.reshape),
    **_group(_UNARY, pointwise.pointwise),
    **_group("clone contiguous to _to_copy alias detach", _view_like),
    **{name: _unary_in_place(name) for name in _IN_PLACE_UNARY.split()},
}


def classify(call: Call) -> Node:
    """The node of one call."""
    if call.function is operator.getitem:
        return dense(call, "takes one of several results")
    handler = HANDLERS.get(call.operator)
    if handler is None:
        return dense(call, f"{call.operator} is no operator of the algebra")
    node = handler(call)
    if node.axes is not None and 0 in node.shape:
        return dense(call, "leaves nothing of the picture")
    return node
