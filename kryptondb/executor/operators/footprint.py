"""How much memory a network's values take and how many bytes move, from its shapes alone."""

from __future__ import annotations

from kryptondb.network import Network, Rule


def guessed_elements(network: Network) -> int:
    """Elements alive at once in a full inference of one image by a network that is not traced: a rough guess."""
    channels, height, width = network.input_shape
    return 64 * height * width + channels * height * width


def full_bytes_moved(network: Network, element_bytes: int) -> float:
    """Bytes written and read again between the operators of one full inference."""
    if not network.traced:
        return 2.0 * guessed_elements(network) * element_bytes
    elements = sum(n.channels * n.height * n.width for n in network.nodes if n.rule is not Rule.CONSTANT and n.fresh)
    return 2.0 * elements * element_bytes
