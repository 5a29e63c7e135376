"""How much memory a network's values take and how much of it moves, from its shapes alone."""

from __future__ import annotations

from kryptondb.network import Network, Node, Rule
from kryptondb.network.aliases import shares_memory


def guessed_elements(network: Network) -> int:
    """Elements alive at once in a full inference of one image by a network that is not traced: a rough guess."""
    channels, height, width = network.input_shape
    return 64 * height * width + channels * height * width


def elements_moved(network: Network, node: Node) -> int:
    """Elements that a node reads and writes for one whole image; weights are not counted."""
    if node.rule in (Rule.CONSTANT, Rule.INPUT, Rule.SIZE) or not network.varying[node.index] or is_free(node):
        return 0
    return value_elements(node) + sum(value_elements(network.nodes[i]) for i in node.inputs if network.varying[i])


def value_elements(node: Node) -> int:
    """Elements of a node's value for one image."""
    return node.channels * node.height * node.width


def is_free(node: Node) -> bool:
    """Whether a node moves nothing: its value looks into its input's memory."""
    return shares_memory(node.function) and not node.fresh
