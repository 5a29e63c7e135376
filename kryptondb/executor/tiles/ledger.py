"""Which memory is alive while a network runs: values, views that share their memory, and what is needed in between."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from kryptondb.network import Network, Node, Rule
from kryptondb.network.aliases import shares_memory
from kryptondb.network.node import Ref


@dataclass(eq=False)
class Ledger:
    """A running account of bytes. Values live from their node to its last reader; views keep what they look into.

    Attributes:
        network: tells who reads a value last.
        alive: bytes of every block of memory, by the node that made it.
        made_by: for each living value, the node whose memory it has.
        peak: the most bytes alive at once so far.
    """

    network: Network
    alive: dict[int, int] = field(default_factory=dict)
    made_by: dict[int, int] = field(default_factory=dict)
    peak: int = 0

    def own(self, index: int, size: int, working: int = 0) -> None:
        """A node's value of `size` bytes in memory of its own; `working` bytes more are needed until it is there."""
        self.alive[index], self.made_by[index] = size, index
        self.note(working)

    def share(self, index: int, source: int, working: int = 0) -> None:
        """A node's value in the memory of another, as a view or written in place."""
        if source in self.made_by:
            self.made_by[index] = self.made_by[source]
        self.note(working)

    def note(self, working: int = 0) -> None:
        """A moment at which `working` bytes are needed beside all values."""
        self.peak = max(self.peak, sum(self.alive.values()) + working)

    def held(self, index: int) -> int:
        """Bytes of the memory that a value keeps alive; 0 for one that is not the run's own."""
        return self.alive.get(self.made_by.get(index, -1), 0)

    def release(self, index: int) -> None:
        """Frees what nobody reads after the node `index`."""
        for source in self.network.nodes[index].inputs:
            if self.network.last_use[source] == index:
                maker = self.made_by.pop(source, None)
                if maker is not None and maker not in self.made_by.values():
                    self.alive.pop(maker, None)


def is_view(network: Network, node: Node, source: int) -> bool:
    """Whether a node's value looks into its input's memory; flattening a picture copies, for channels come last."""
    picture = network.nodes[source]
    flattened = node.axes is None and picture.axes is not None and picture.height * picture.width > 1
    return shares_memory(node.function) and not node.fresh and not flattened


def scratch_bytes(network: Network, node: Node) -> int:
    """What a library needs beside a convolution's operands: its weights once more, in the library's own order."""
    if not node.operator.startswith("conv"):
        return 0
    constants = (network.nodes[index].constant for index in node.inputs)
    return sum(each.numel() * each.element_size() for each in constants if each is not None)


def whole_peak(network: Network, batch: int, element_bytes: int, keep: Collection[int] = ()) -> tuple[int, list[int]]:
    """The most bytes alive at once in a full inference of some images, and what each node allocates.

    Args:
        keep: nodes whose values stay to the end; nobody writes over them.
    """
    ledger, needed = Ledger(network), [0] * len(network.nodes)
    wanted = set(keep)
    for node in network.nodes:
        index = node.index
        if network.varying[index] and node.rule not in (Rule.CONSTANT, Rule.SIZE):
            first = node.args[0] if node.args else None
            source = first.index if isinstance(first, Ref) else None
            in_place = node.in_place is not None and source is not None and network.may_write(node, wanted)
            if source is not None and (in_place or is_view(network, node, source)):
                ledger.share(index, source)
            else:
                size = batch * node.channels * node.height * node.width * element_bytes
                scratch = scratch_bytes(network, node)
                if source is not None and scratch and network.nodes[source].rule is Rule.INPUT:
                    scratch += ledger.held(source)  # few channels: libraries turn the images into an order of their own
                needed[index] = size + scratch
                ledger.own(index, size, scratch)
            if index in wanted or node.rule is Rule.INPUT:  # the images are kept by who calls
                ledger.made_by[-1 - index] = ledger.made_by.get(index, index)
        ledger.release(index)
    return ledger.peak, needed
