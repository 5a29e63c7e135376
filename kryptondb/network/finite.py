"""Where numbers are watched, so that NaN and infinity become what torch makes of them.

Two ways of being fast hold for finite numbers only: oneDNN makes 0 of NaN where a convolution takes ReLU or a clamp in,
and differences of infinities are NaN. So a few values are looked at as they come. How large all others can be is known
from them and the weights: what is far from the largest number of float32 stays finite. Where a watched number is NaN or
larger than that allows, the images in question run again, each operator by itself and on whole values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kryptondb.network.cache import cached_on_network
from kryptondb.network.magnitudes import ArgumentBounds, largest
from kryptondb.network.node import Node, Ref, Rule
from kryptondb.network.operators import row_of

if TYPE_CHECKING:
    from kryptondb.network.graph import Network

#: A watched number may be this large. Ordinary activations are far below.
MOST = 1e12
#: Magnitudes up to here need no watching: times the weights of a layer (`magnitudes.TAME`) they stay in float32.
_FAR_FROM_OVERFLOW = 1e20


@dataclass(eq=False)
class Watch:
    """Looks at the values of some nodes as they come.

    Attributes:
        nodes: which.
        sound: whether all their numbers so far are finite and of ordinary size, a boolean tensor where they lie; None
            before the first.
    """

    nodes: frozenset[int]
    sound: torch.Tensor | None = None

    def see(self, index: int, value: object) -> None:
        """Looks at a node's value, if it is watched."""
        if index not in self.nodes or not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return
        if value.numel() == 0 or value.is_meta:
            return
        low, high = torch.aminmax(_as_it_lies(value))  # NaN is both, and no comparison holds
        sound = (low >= -MOST) & (high <= MOST)
        self.sound = sound if self.sound is None else self.sound & sound

    @property
    def is_sound(self) -> bool:
        """Whether nothing out of the ordinary was seen; waits for a GPU."""
        return self.sound is None or bool(self.sound)

    def marked(self, output: torch.Tensor) -> torch.Tensor:
        """An output, as it is or, where something was seen, all NaN; a GPU is not waited for."""
        return output if self.sound is None else torch.where(self.sound, output, math.nan)


def _as_it_lies(value: torch.Tensor) -> torch.Tensor:
    """A value with its dimensions in the order of memory, so that looking at it copies nothing."""
    strides = value.stride()
    return value.permute(sorted(range(value.ndim), key=lambda place: -strides[place]))


def hiding(network: Network) -> frozenset[int]:
    """The convolutions that take in an activation in which NaN disappears."""
    found = network.fusions.values()
    return frozenset(
        fusion.convolution for fusion in found if (row := row_of(network.nodes[fusion.activation])) and row.hides
    )


@cached_on_network()
def watched(network: Network, delicate: frozenset[int], averages: bool) -> frozenset[int]:
    """The nodes to watch, so that what some nodes read is known to be finite.

    Args:
        delicate: those nodes.
        averages: whether means are kept as running sums; then they are watched, too. A mean that is finite is one of
            finite numbers.
    """
    needed = _needed(network, delicate)
    bounds: dict[int, float] = {}
    given = ArgumentBounds(network.nodes, bounds)
    found = {node.index for node in network.nodes if averages and node.rule is Rule.AVERAGE}
    for node in network.nodes:
        if node.index not in needed:
            continue
        if node.constant is not None:
            bounds[node.index] = largest(node.constant)
            continue
        bound = _bound(node, given)
        if not bound <= _FAR_FROM_OVERFLOW:
            found.add(node.index)
            bound = MOST
        bounds[node.index] = bound
    return frozenset(found)


def _needed(network: Network, delicate: Iterable[int]) -> set[int]:
    """The nodes whose magnitudes tell, step by step, what the delicate ones read."""
    needed = {index for node in delicate for index in network.nodes[node].inputs}
    for node in reversed(network.nodes):
        row = row_of(node)
        told = row is not None and row.bound is not None and node.rule is not Rule.INPUT
        if node.index in needed and told:
            needed.update(node.inputs)
    return needed


def _bound(node: Node, given: ArgumentBounds) -> float:
    row = row_of(node)
    if node.rule is Rule.INPUT or row is None or row.bound is None or not node.args:
        return math.inf
    if not isinstance(node.args[0], (Ref, list, tuple)):
        return math.inf
    try:
        return row.bound(node, given)
    except (OverflowError, TypeError, IndexError):  # an overload with other arguments
        return math.inf
