"""What one tile holds while it runs on differences: `DifferenceRun` with bytes in the place of tensors."""

from __future__ import annotations

from kryptondb.executor.tiles.ledger import scratch_bytes
from kryptondb.executor.tiles.reads import window_extent
from kryptondb.executor.tiles.regions_on_tensors import even_step
from kryptondb.executor.tiles.tile_memory import TileMemory
from kryptondb.network import Node, Rule
from kryptondb.network.differences import effects_of
from kryptondb.optimizer.workload import BASE_BYTES


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
