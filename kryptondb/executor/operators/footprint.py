"""How much memory a network's values take and how many bytes move, from its shapes alone."""

from __future__ import annotations

from collections.abc import Callable

from kryptondb.network import Network, Node, Rule


def peak_elements(network: Network, held: Callable[[Node], float], working: Callable[[Node], float]) -> float:
    """The most elements alive at once while the network runs in order.

    Args:
        held: elements of a node's value.
        working: elements that a node needs beside its inputs and its value while it runs.
    """
    alive: dict[int, float] = {}
    peak = 0.0
    for node in network.nodes:
        if node.rule is not Rule.CONSTANT:
            reuses = node.in_place is not None and network.may_write(node)
            alive[node.index] = held(node)
            spare = held(network.nodes[node.inputs[0]]) if reuses and node.inputs else 0.0
            peak = max(peak, sum(alive.values()) + working(node) - spare)
        for index in node.inputs:
            if network.last_use[index] == node.index:
                alive.pop(index, None)
    return peak


def full_peak_elements(network: Network) -> int:
    """Elements alive at once in a full inference of one image; a rough guess for a network that is not traced."""
    if not network.traced:
        channels, height, width = network.input_shape
        return 64 * height * width + channels * height * width
    return int(peak_elements(network, lambda n: n.channels * n.height * n.width, lambda n: 0))


def full_bytes_moved(network: Network, element_bytes: int) -> float:
    """Bytes written and read again between the operators of one full inference."""
    if not network.traced:
        return 2.0 * full_peak_elements(network) * element_bytes
    elements = sum(n.channels * n.height * n.width for n in network.nodes if n.rule is not Rule.CONSTANT and n.fresh)
    return 2.0 * elements * element_bytes
