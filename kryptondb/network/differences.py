"""What operators make of differences: how a node's value changes, computed from how its input does.

An occlusion changes values by differences. Linear operators carry these on: `f(base + d) - f(base)` is `f(d)` without
what only shifts values, a bias or the mean of a batch norm. A clamp (ReLU is one) needs to know where its base lies and
no more. All others must see whole values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kryptondb.network.cache import cached_on_network
from kryptondb.network.graph import Network
from kryptondb.network.node import Node, Ref, Rule
from kryptondb.network.operators import Bounds, clamp_numbers, row_of

#: Keywords under which a linear operator is still one: others may round a quotient, or change the type.
_LINEAR_KEYWORDS = {"alpha", "memory_format"}


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


@cached_on_network()
def effects_of(network: Network) -> Effects:
    """What each node of a network makes of differences."""
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


@cached_on_network()
def before_jumps(network: Network) -> frozenset[int]:
    """The nodes whose values an operator that jumps depends on, such as the rounding of a quantized network.

    There a difference in the last place may become a whole step, so none of them may be computed in a way that rounds
    otherwise than the network itself.
    """
    before: set[int] = set()
    for node in reversed(network.nodes):
        row = row_of(node)
        if node.index in before or (row is not None and row.jumps):
            before.update(node.inputs)
    return frozenset(before)


def shifts_of(node: Node) -> tuple[int, ...]:
    """The nodes that hold constants which shift what a node gives, and no more."""
    row = row_of(node)
    places = () if row is None else row.shifts
    shifts = (node.args[place] for place in places if place < len(node.args))
    return tuple(shift.index for shift in shifts if isinstance(shift, Ref))


def is_linear(network: Network, node: Node) -> bool:
    """Whether a regional node, without what only shifts values, makes differences of differences."""
    row = row_of(node)
    if row is None or node.rule not in row.linear or not set(node.kwargs) <= _LINEAR_KEYWORDS:
        return False
    if node.rule is Rule.MERGE:
        return all(network.varying[index] for index in node.inputs)
    # What lies outside a picture never changes; but a pad of a whole picture would write its number there.
    if node.window is not None and node.window.outside != 0:
        return False
    return _reads_one_picture(network, node)


def clamp_of(node: Node) -> Bounds | None:
    """The bounds of a node that clamps every number of its first input by itself, None for all other nodes."""
    row = row_of(node)
    if node.rule is not Rule.POINTWISE or row is None or row.clamp is None or not isinstance(node.args[0], Ref):
        return None
    numbers = clamp_numbers(node)
    return None if numbers is None else row.clamp(numbers)


def _reads_one_picture(network: Network, node: Node) -> bool:
    """Whether nothing but its first input varies, and what shifts its values does nothing else in the picture."""
    first = node.args[0] if node.args else None
    if not isinstance(first, Ref) or not network.varying[first.index]:
        return False
    others = (*node.args[1:], *node.kwargs.values())
    if any(isinstance(other, Ref) and network.varying[other.index] for other in others):
        return False  # x * x reads one picture twice
    if any(network.varying[index] for index in node.inputs if index != first.index):
        return False
    shifts = shifts_of(node)
    return all(
        network.nodes[index].constant is not None
        and all(index in shifts_of(network.nodes[reader]) for reader in network.readers[index])
        for index in shifts
    )
