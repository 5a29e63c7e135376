"""The memory that one tile holds while it runs, buffer by buffer: `TileRun` with bytes in the place of tensors.

A ledger says which memory is alive: values, views that share their memory, and scratch memory of single operators.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from kryptondb.executor.kernels.choice import transformable
from kryptondb.executor.kernels.winograd import Block, blocks_of, reach_of
from kryptondb.executor.tiles.costs import Blocks
from kryptondb.executor.tiles.regions_on_tensors import even_step
from kryptondb.executor.tiles.tiles import TileExtents, window_extent
from kryptondb.network import Network, Node, Rule
from kryptondb.network.aliases import shares_memory
from kryptondb.network.differences import effects_of
from kryptondb.network.node import Ref
from kryptondb.optimizer.workload import BASE_BYTES

_INDEX_BYTES = 9  # a location that is gathered: its place, and whether it lies outside
_BUFFERS = ("cells", "moved", "products")


@dataclass(eq=False)
class TileMemory:
    """One pass of a tile, told in bytes. Every method follows the one of `TileRun` that has its name.

    Attributes:
        blocks: convolutions that are computed from differences.
        element_bytes: of one number.
        needed: what each node allocates at most, kept or not, by node.
        workspace: the largest size of each of the workspace's buffers.
    """

    network: Network
    extents: TileExtents
    blocks: Blocks
    element_bytes: int
    needed: list[int] = field(init=False)
    workspace: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_BUFFERS, 0))
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.needed = [0] * len(self.network.nodes)
        self.ledger = Ledger(self.network)
        self._heights, self._widths = self.extents.heights.tolist(), self.extents.widths.tolist()
        self._batch = self.extents.positions
        self._projected: set[int] = set()

    def run(self, last: int) -> int:
        """The most bytes alive at once from the patches to the value of the node `last`."""
        for node in self.network.nodes[: last + 1]:
            if self.network.varying[node.index] and node.rule not in (Rule.CONSTANT, Rule.SIZE):
                self._node(node)
            self.ledger.release(node.index)
            if node.rule is Rule.INPUT:  # who calls keeps the patches
                self.ledger.made_by[-1] = node.index
        return self.ledger.peak

    def _node(self, node: Node) -> None:
        index = node.index
        if node.rule is Rule.INPUT:
            self._own(node, self._bytes(index))
        elif node.rule is Rule.AVERAGE and self._is_region(node.inputs[0]):
            self._own(node, self._bytes(index), 2 * self._bytes(node.inputs[0]) + self._index(node.inputs[0]))
        elif not self.network.regional[index]:
            self._dense(node)
        elif index in self.blocks:
            self._difference(node, self.blocks[index])
        elif node.window is not None and (self._is_region(node.inputs[0]) or not self._spans_all(index)):
            self._window(node)
        elif node.rule is Rule.MERGE:
            self._merge(node)
        else:
            self._call(node)

    def _call(self, node: Node, working: int = 0) -> None:
        """A node's own function: in place, as a view, or into new memory."""
        first = node.args[0] if node.args else None
        source = first.index if isinstance(first, Ref) else None
        in_place = source is not None and node.in_place is not None and self.network.may_write(node)
        if source is not None and ((in_place and source not in self._projected) or is_view(self.network, node, source)):
            self._share(node, source, working)
        else:
            self._own(node, self._bytes(node.index), working + scratch_bytes(self.network, node))

    def _window(self, node: Node) -> None:
        window, index, source = node.window, node.index, node.inputs[0]
        assert window is not None
        height = window_extent(window.y.size, window.y.stride, self._heights[index])
        width = window_extent(window.x.size, window.x.stride, self._widths[index])
        ys = self.extents.ys[index] * window.y.stride - window.y.before
        xs = self.extents.xs[index] * window.x.stride - window.x.before
        value, read = self._bytes(index), self._read(source, ys, height, xs, width)
        if window.repeats:  # cells stand again: no region is ever what is read
            read = self._read_bytes(source, height, width)
        if read:
            self._gather(node, read, self._batch * height * width)
        elif self.ledger.held(source) > self._bytes(source):
            read = self._bytes(source)  # libraries copy what is cut out of something larger
        self._own(node, value, read + scratch_bytes(self.network, node) + (value if window.counts is not None else 0))

    def _difference(self, node: Node, block: Block) -> None:
        index, source, window = node.index, node.inputs[0], node.window
        shape = transformable(self.network, node)
        assert shape is not None and window is not None
        height, width = self._heights[source], self._widths[source]
        points = [cells + taps - 1 for cells, taps in zip(block, shape.kernel, strict=True)]
        count = self._batch * blocks_of(height, block[0]) * blocks_of(width, block[1])
        products = points[0] * points[1] * count
        sizes = (
            block[0] * block[1] * count * shape.in_channels,
            products * max(shape.in_channels, shape.out_channels),
            products * shape.out_channels,
        )
        for name, size in zip(_BUFFERS, sizes, strict=True):
            self.workspace[name] = max(self.workspace[name], size * self.element_bytes)
        ys, xs = self.extents.ys[source], self.extents.xs[source]
        same = not ((ys != ys[0]).any() or (xs != xs[0]).any())
        old = 0 if same else self._bytes(source)
        if old:
            self._gather(node, old, self._batch * height * width)
        reach_y, reach_x = reach_of(height, block[0], points[0]), reach_of(width, block[1], points[1])
        reached = self._batch * reach_y * reach_x
        target = reached * shape.out_channels * self.element_bytes
        self._gather(node, old + target, reached)
        to_ys, to_xs = ys + window.y.before - window.y.size + 1, xs + window.x.before - window.x.size + 1
        if self._is_cut_out(index, to_ys, reach_y, to_xs, reach_x):
            self._own(node, target, old)
        else:
            self._own(node, self._bytes(index), target + old + self._index(index))

    def _is_cut_out(self, index: int, ys: np.ndarray, height: int, xs: np.ndarray, width: int) -> bool:
        """Whether a node's region is a view into rectangles that cover it, at the same place for all positions."""
        shifts_y, shifts_x = ys - self.extents.ys[index], xs - self.extents.xs[index]
        y, x = -int(shifts_y[0]), -int(shifts_x[0])
        fits = 0 <= y <= height - self._heights[index] and 0 <= x <= width - self._widths[index]
        return bool(fits and (shifts_y == shifts_y[0]).all() and (shifts_x == shifts_x[0]).all())

    def _merge(self, node: Node) -> None:
        index = node.index
        ys, xs, height, width = (
            self.extents.ys[index],
            self.extents.xs[index],
            self._heights[index],
            self._widths[index],
        )
        copies: dict[int, int] = {}
        cut = not self._spans_all(index)
        for source in dict.fromkeys(node.inputs):
            if self._is_region(source) or (cut and self.network.regional[source]):
                copies[source] = self._read(source, ys, height, xs, width)
                if copies[source]:
                    self._gather(node, sum(copies.values()), self._batch * height * width)
        first = node.args[0]
        copied = copies.get(first.index, 0) if isinstance(first, Ref) else 0
        if copied and node.in_place is not None:
            self._own(node, copied, sum(copies.values()) - copied)
        else:
            self._call(node, sum(copies.values()))

    def _dense(self, node: Node) -> None:
        """The dense tail, on values that are filled up to the whole picture where they are regions."""
        for source in node.inputs:
            if self._is_region(source) and source not in self._projected:
                whole = self.network.nodes[source]
                size = self._batch * whole.channels * whole.height * whole.width * self.element_bytes
                self._gather(node, size, self._batch * whole.height * whole.width)
                # It takes the region's place; the region itself stays until its last reader too.
                self.ledger.alive[-2 - source] = size
                self._projected.add(source)
        self._call(node)
        for source in node.inputs:
            if self.network.last_use[source] == node.index:
                size = self.ledger.alive.pop(-2 - source, 0)
                if size and self.ledger.made_by.get(node.index) == self.ledger.made_by.get(source):
                    self._own(node, size)  # a view into what was filled up

    def _read(self, source: int, ys: np.ndarray, height: int, xs: np.ndarray, width: int) -> int:
        """Bytes of rectangles of a node's value; 0 where they are its region as it stands."""
        same = height == self._heights[source] and width == self._widths[source]
        if same and (self.extents.ys[source] == ys).all() and (self.extents.xs[source] == xs).all():
            return 0
        return self._read_bytes(source, height, width)

    def _read_bytes(self, source: int, height: int, width: int) -> int:
        return int(self._batch * height * width * self.network.nodes[source].channels * self.element_bytes)

    def _gather(self, node: Node, size: int, locations: int) -> None:
        """`size` bytes are alive beside all values when the last of them were gathered by their places."""
        working = size + self._gathered_index(locations)
        self.needed[node.index] = max(self.needed[node.index], working)
        self.ledger.note(working)

    def _own(self, node: Node, size: int, working: int = 0) -> None:
        self.needed[node.index] = max(self.needed[node.index], size + working)
        self.ledger.own(node.index, size, working)

    def _share(self, node: Node, source: int, working: int) -> None:
        self.needed[node.index] = max(self.needed[node.index], working)
        self.ledger.share(node.index, source, working)

    def _is_region(self, index: int) -> bool:
        return self.network.regional[index] and not self._spans_all(index)

    def _spans_all(self, index: int) -> bool:
        node = self.network.nodes[index]
        same = self._heights[index] == node.height and self._widths[index] == node.width
        return not self.network.regional[index] or same

    def _bytes(self, index: int) -> int:
        return self._elements(index) * self.element_bytes

    def _elements(self, index: int) -> int:
        return self._locations(index) * self.network.nodes[index].channels

    def _index(self, index: int) -> int:
        return self._gathered_index(self._locations(index))

    def _locations(self, index: int) -> int:
        return int(self._batch * self._heights[index] * self._widths[index])

    @staticmethod
    def _gathered_index(locations: int) -> int:
        return locations * _INDEX_BYTES


@dataclass(eq=False)
class Ledger:
    """A running account of bytes. Values live from their node to its last reader; views keep what they look into.

    Attributes:
        network: says which node reads a value last.
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
        """Frees what no node reads after the node `index`."""
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
    return sum(constant.numel() * constant.element_size() for constant in constants if constant is not None)


def whole_peak(network: Network, batch: int, element_bytes: int, keep: Collection[int] = ()) -> tuple[int, list[int]]:
    """The most bytes alive at once in a full inference of some images, and what each node allocates.

    Args:
        keep: nodes whose values stay to the end and are never overwritten.
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


class DifferenceMemory(TileMemory):
    """One pass of a tile on differences, told in bytes; `element_bytes` is of one difference."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._effects = effects_of(self.network)

    def _node(self, node: Node) -> None:
        index = node.index
        if node.rule is Rule.INPUT:
            # The patches themselves, which who calls keeps; they less their base; and what is gathered of that.
            patches = self._whole_bytes(index)
            self._own(node, self._bytes(index) + patches, patches + self._copied(index, patches))
        elif node.rule is Rule.AVERAGE and self.network.regional[node.inputs[0]]:
            self._own(node, self._bytes(index), self._whole_bytes(node.inputs[0]))
        elif not self.network.regional[index]:
            self._dense(node)
        elif index in self._effects.clamps:
            self._call(node, self._bytes(index) + self._copied(index, self._bytes(index)))
        elif index in self._effects.whole:
            value = self._whole_bytes(index)
            read = sum(self._rectangles(node, source) for source in self._regions(node))
            less_base = value + max(value, self._copied(index, value))
            working = self._inputs(node) + read + less_base + scratch_bytes(self.network, node)
            self._own(node, self._bytes(index), working)
        else:
            super()._node(node)

    def _dense(self, node: Node) -> None:
        regions = self._regions(node)
        if not regions:
            self._call(node)
            return
        filled_up = 0
        for source in regions:
            picture = self.network.nodes[source]
            locations = self._batch * picture.height * picture.width
            filled_up += locations * picture.channels * BASE_BYTES + self._gathered_index(locations)
        self._own(node, self._bytes(node.index), self._inputs(node) + filled_up)

    def _inputs(self, node: Node) -> int:
        """The whole values of what a node reads, and what is gathered of the base for one of them."""
        regions = self._regions(node)
        gathered = max((self._copied(source, self._whole_bytes(source)) for source in regions), default=0)
        return sum(map(self._whole_bytes, regions)) + gathered

    def _rectangles(self, node: Node, source: int) -> int:
        """What a node that sees whole values reads of one of its inputs."""
        height, width, window = self._heights[node.index], self._widths[node.index], node.window
        if window is not None:
            height = window_extent(window.y.size, window.y.stride, height)
            width = window_extent(window.x.size, window.x.stride, width)
        locations = int(self._batch * height * width)
        elements = locations * self.network.nodes[source].channels
        return elements * BASE_BYTES + self._gathered_index(locations)

    def _copied(self, index: int, size: int) -> int:
        """Bytes that a table's rectangles take, `size` of them; none where they can be looked at where they lie."""
        steps = even_step(self.extents.ys[index]), even_step(self.extents.xs[index])
        looked_at = steps == (0, 0) if self.extents.scattered else None not in steps
        return 0 if looked_at else size + self._index(index)

    def _regions(self, node: Node) -> list[int]:
        return [source for source in dict.fromkeys(node.inputs) if self.network.regional[source]]

    def _whole_bytes(self, index: int) -> int:
        """Bytes of a node's value in the precision of the base."""
        return self._elements(index) * BASE_BYTES

    def _bytes(self, index: int) -> int:
        return self._elements(index) * (self.element_bytes if self.network.regional[index] else BASE_BYTES)
