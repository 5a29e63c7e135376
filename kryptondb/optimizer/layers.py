"""The shapes of a network's convolutions: what CALIBRATE measures, and what a plan looks up."""

from __future__ import annotations

import math
from typing import Any

from kryptondb.network import Network, Node, Rule
from kryptondb.network.node import Ref
from kryptondb.optimizer.cost import LayerShape

#: The arguments of `aten.conv2d`, those that may be left out with what they then are.
_DEFAULTS: tuple[Any, ...] = (None, None, None, (1, 1), (0, 0), (1, 1), 1)


def shape_of(node: Node, network: Network) -> LayerShape | None:
    """The shape of a convolution, or None for every other node.

    A dilated convolution has none either: its taps lie apart, so what holds for its kernel's size does not hold for it.
    """
    if node.operator not in ("conv2d", "convolution"):
        return None
    if node.window is not None:
        _, weight, _, stride, _, dilation, groups = node.window.args
    elif node.rule is Rule.DENSE and len(node.args) > 1 and math.prod(node.shape[2:]) > 1:  # no gate's, on one place
        _, weight, _, stride, _, dilation, groups = (*node.args, *_DEFAULTS[len(node.args) :])
    else:
        return None
    constant = network.nodes[weight.index].constant if isinstance(weight, Ref) else None
    if constant is None or constant.ndim != 4 or any(step != 1 for step in dilation):
        return None
    out_channels, per_group, height, width = constant.shape
    return LayerShape(per_group * groups, out_channels, (height, width), (stride[0], stride[1]), groups)


def layer_shapes(network: Network) -> tuple[LayerShape, ...]:
    """The distinct shapes of a network's convolutions, in the order in which they run; none if it is not traced."""
    shapes = (shape_of(node, network) for node in network.nodes)
    return tuple(dict.fromkeys(shape for shape in shapes if shape is not None))
