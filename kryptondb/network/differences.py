"""What operators make of differences: how a node's value changes, told from how its input does.

An occlusion changes values by differences. Linear operators carry these on: `f(base + d) - f(base)` is `f(d)` without
what only shifts values, a bias or the mean of a batch norm. A clamp (ReLU is one) needs to know where its base lies and
no more. All others must see whole values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from kryptondb.network.graph import Network
from kryptondb.network.node import Node, Ref, Rule

_POOLS = {"avg_pool2d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"}
_WINDOWS = _POOLS | {"conv2d", "convolution", "pad", "constant_pad_nd", "slice"}
_MOVES = {"slice", "select", "unsqueeze", "squeeze", "permute", "transpose", "view", "reshape", "_unsafe_view"}
_MOVES |= {"flatten", "unflatten", "clone", "contiguous", "alias", "detach"}
_LOCAL = _MOVES | {"neg", "mul", "div", "linear", "batch_norm"}
_MERGES = {"add", "sub", "cat", "stack"}
#: Operators with constants that only move their output or input, and where these stand among the arguments.
_SHIFTS = {"conv2d": (2,), "convolution": (2,), "linear": (2,), "batch_norm": (2, 3)}
_STRICT = {*_SHIFTS, "mul", "div"}

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Effects:
    """What each node of the picture makes of differences, by the nodes' indices.

    Attributes:
        linear: without what only shifts values, they make differences of differences.
        clamps: they clamp every number by itself; with their bounds.
        whole: all others, which must see whole values; the input is none of them.
        shifts: the constants that linear nodes do without: biases, and the means of batch norms.
        read_whole: nodes of the picture whose whole values those others read, or the dense tail does.
    """

    linear: frozenset[int]
    clamps: Mapping[int, Bounds]
    whole: frozenset[int]
    shifts: frozenset[int]
    read_whole: frozenset[int]


_known: WeakKeyDictionary[Network, Effects] = WeakKeyDictionary()


def effects_of(network: Network) -> Effects:
    """Of all nodes of a network, found out once."""
    effects = _known.get(network)
    if effects is None:
        effects = _known[network] = _found(network)
    return effects


def _found(network: Network) -> Effects:
    nodes = [node for node in network.nodes if network.regional[node.index] and node.rule is not Rule.INPUT]
    linear = [node for node in nodes if is_linear(network, node)]
    clamps = {node.index: bounds for node in nodes if (bounds := clamp_of(node)) is not None}
    whole = {node.index for node in nodes}.difference(clamps, (node.index for node in linear))
    tail = (node for node in network.nodes if not network.regional[node.index] and node.rule is not Rule.AVERAGE)
    readers = (*(network.nodes[index] for index in whole), *tail)
    read = {index for node in readers for index in node.inputs if network.regional[index]}
    return Effects(
        frozenset(node.index for node in linear),
        clamps,
        frozenset(whole),
        frozenset(index for node in linear for index in shifts_of(node)),
        frozenset(read),
    )


def shifts_of(node: Node) -> tuple[int, ...]:
    """The nodes that hold constants which shift what a node gives, and no more."""
    places = _SHIFTS.get(node.operator, ())
    return tuple(
        each.index for each in (node.args[place] for place in places if place < len(node.args)) if isinstance(each, Ref)
    )


def is_linear(network: Network, node: Node) -> bool:
    """Whether a regional node, without what only shifts values, makes differences of differences."""
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


def _reads_one_picture(network: Network, node: Node) -> bool:
    """Whether nothing but its first input varies, and what shifts its values does nothing else in the picture."""
    first = node.args[0] if node.args else None
    if not isinstance(first, Ref) or not network.varying[first.index]:
        return False
    if node.operator in _STRICT and node.kwargs:  # nobody looked for shifts there, and a quotient may be rounded
        return False
    others = (*node.args[1:], *node.kwargs.values())
    if any(isinstance(each, Ref) and network.varying[each.index] for each in others):  # x * x reads one picture twice
        return False
    if any(network.varying[index] for index in node.inputs if index != first.index):
        return False
    shifts = shifts_of(node)
    return all(
        network.nodes[index].constant is not None
        and all(index in shifts_of(network.nodes[reader]) for reader in network.readers[index])
        for index in shifts
    )
