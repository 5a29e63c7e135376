"""What operators make of differences: how a node's value changes, told from how its input does.

An occlusion changes values by differences. Linear operators carry these on as they are: `f(base + d) - f(base)` is
`f(d)` without the bias. A clamp (ReLU is one) needs to know where its base lies and no more. All others must see whole
values.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from kryptondb.network.graph import Network
from kryptondb.network.node import Node, Ref, Rule

_WINDOWS = {"conv2d", "convolution", "avg_pool2d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "pad", "slice"}
_WINDOWS |= {"constant_pad_nd"}
_LOCAL = {"slice", "select", "unsqueeze", "squeeze", "permute", "transpose", "view", "reshape", "_unsafe_view"}
_LOCAL |= {"flatten", "unflatten", "clone", "contiguous", "alias", "detach", "neg", "linear"}
_MERGES = {"add", "sub", "cat", "stack"}
#: Operators with weights and a bias behind them.
_WEIGHTED = {"conv2d", "convolution", "linear"}

Bounds = tuple[float, float]


def bias_of(node: Node) -> int | None:
    """The node that holds the bias of a convolution or a linear layer, None where there is none."""
    bias = node.args[2] if node.operator in _WEIGHTED and len(node.args) > 2 else None
    return bias.index if isinstance(bias, Ref) else None


def is_linear(network: Network, node: Node) -> bool:
    """Whether a regional node, without its bias, makes differences of differences."""
    if node.rule is Rule.MERGE:
        return node.operator in _MERGES and all(network.varying[index] for index in node.inputs)
    if node.rule is Rule.WINDOW:
        # What lies outside a picture never changes; but a pad of a whole picture would write its number there.
        linear = node.operator in _WINDOWS and node.window is not None and node.window.outside == 0
    else:
        linear = node.rule is Rule.LOCAL and node.operator in _LOCAL
    return linear and _reads_one_picture(network, node)


def clamp_of(node: Node) -> Bounds | None:
    """The bounds of a node that clamps every number of its first input by itself, None for all other nodes."""
    if node.rule is not Rule.LOCAL or node.kwargs or not node.args or not isinstance(node.args[0], Ref):
        return None
    numbers = node.args[1:]
    if not all(number is None or isinstance(number, (int, float)) for number in numbers):
        return None
    first, second = ([None if n is None else float(n) for n in numbers] + [None, None])[:2]
    low, high = -math.inf, math.inf
    if node.operator == "relu":
        return 0.0, high
    if node.operator == "relu6":
        return 0.0, 6.0
    if node.operator == "hardtanh":
        return -1.0 if first is None else first, 1.0 if second is None else second
    if node.operator == "clamp_min" and first is not None:
        return first, high
    if node.operator == "clamp_max" and first is not None:
        return low, first
    if node.operator == "clamp":
        bounds = low if first is None else first, high if second is None else second
        return bounds if bounds[0] <= bounds[1] else None
    return None


def sees_whole_values(network: Network, node: Node) -> bool:
    """Whether a node of the picture can be told neither from differences alone nor from where its base lies."""
    regional = network.regional[node.index] and node.rule is not Rule.INPUT
    return regional and not is_linear(network, node) and clamp_of(node) is None


def read_whole(network: Network) -> Collection[int]:
    """The regional nodes whose whole values some node reads: one of those above, or one of the dense tail."""
    found: set[int] = set()
    for node in network.nodes:
        if sees_whole_values(network, node) or not (network.regional[node.index] or node.rule is Rule.AVERAGE):
            found.update(index for index in node.inputs if network.regional[index])
    return found


def _reads_one_picture(network: Network, node: Node) -> bool:
    """Whether nothing but its first input varies, and no other node of the picture takes its bias for anything else."""
    first = node.args[0] if node.args else None
    if not isinstance(first, Ref) or not network.varying[first.index]:
        return False
    if node.operator in _WEIGHTED and node.kwargs:  # nobody looked for a bias there
        return False
    if any(network.varying[index] for index in node.inputs if index != first.index):
        return False
    bias = bias_of(node)
    return bias is None or all(bias_of(network.nodes[reader]) == bias for reader in network.readers[bias])
