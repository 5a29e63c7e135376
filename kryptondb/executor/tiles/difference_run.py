"""One tile in a reduced precision: regions hold what an occlusion changes, rounded; the base stays in float32.

A number that is rounded is off by a part of itself. Activations are large and what an occlusion changes of them is
small, so rounded activations drown it: in bfloat16 a logit of 20 comes in steps of an eighth. Rounded differences are
off by a part of the difference, wherever it shows. Convolutions, most of the work, make differences of differences and
run in the reduced precision throughout; what has to see whole values does so in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch

from kryptondb.executor.tiles.reads import DifferenceReads
from kryptondb.executor.tiles.regions_on_tensors import Table, by_row_and_column, from_locations, to_locations
from kryptondb.executor.tiles.tile_run import TileRun
from kryptondb.network import Network, Node, Rule
from kryptondb.network.differences import effects_of
from kryptondb.network.finite import Watch
from kryptondb.network.fused import Fusion
from kryptondb.network.node import Ref


class _WholeValues(TileRun):
    """The operators that see whole values, in the base's precision. Nothing reaches them but what they read."""

    def _fusion(self, node: Node) -> Fusion | None:
        # A convolution of the picture has made differences, and has taken no activation in.
        return None if self.network.regional[node.index] else super()._fusion(node)

    def of(self, node: Node, inputs: dict[int, Any], whole: set[int], batch: int, like: torch.Tensor) -> Any:
        """A node's value out of its inputs', regions or `whole`."""
        self.values, self.whole, self.projected = inputs, whole, {}
        return self._node(node, like, batch)


@dataclass(eq=False)
class DifferenceRun(TileRun):
    """`TileRun` on differences. `network` and `base` are those of the base, and so is all that is no picture any more.

    Attributes:
        rounded: the same network in the precision of the differences.
    """

    rounded: Network = field(kw_only=True)

    def __post_init__(self) -> None:
        self._watch = Watch(self.base.watched)
        self._reads = DifferenceReads(self.network, self.base, self.extents)
        self._whole_values = _WholeValues(self.network, self.base, self.extents)
        self._constants = _constants_of(self.rounded)
        self._effects = effects_of(self.network)

    def _fusion(self, node: Node) -> Fusion | None:
        return None  # an activation of a difference is none of the value

    def _node(self, node: Node, patches: torch.Tensor, batch: int) -> Any:
        index = node.index
        if node.rule is Rule.CONSTANT:
            return self._constants[index]
        if not self.network.varying[index]:
            return self.base.values[index]
        if node.rule is Rule.AVERAGE and self.network.regional[node.inputs[0]]:
            return self._average(node)
        if not self.network.regional[index]:
            return self._whole_values.of(node, self._inputs(node), self.whole, batch, patches)
        if node.rule is Rule.INPUT:
            return self._less_base(index, patches)
        if index in self.base.clamps:
            return self._clamp(node)
        if index in self._effects.whole:
            value = self._whole_values.of(node, self._inputs(node), self.whole, batch, patches)
            return self._less_base(index, value)
        linear: torch.Tensor = super()._node(node, patches, batch)
        return linear.to(self.rounded.dtype)  # which it is already, unless something computed from constants took part

    def _inputs(self, node: Node) -> dict[int, Any]:
        """What a node that sees whole values reads, in the base's precision."""
        return {index: self._input(index) for index in node.inputs}

    def _input(self, index: int) -> Any:
        source = self.network.nodes[index]
        if source.rule is Rule.CONSTANT:
            return source.constant
        return self._whole_value(index) if self.network.regional[index] else self.values[index]

    def _whole_value(self, index: int) -> torch.Tensor:
        """A region as the occluded image has it, in the base's precision."""
        old, difference = self._old(index, self.base.tables[index]), self._split(index, self.values[index])
        if old.dtype == torch.bool:
            return self._joined(index, (old + difference) != 0)
        return self._joined(index, old + difference)

    def _less_base(self, index: int, value: torch.Tensor) -> torch.Tensor:
        """What differs from the base in a region, rounded."""
        old, new = self._old(index, self.base.tables[index]), self._split(index, value)
        if old.dtype == torch.bool:
            old, new = old.to(self.rounded.dtype), new.to(self.rounded.dtype)
        difference = new - old
        return self._joined(index, difference.to(self.rounded.dtype))

    def _clamp(self, node: Node) -> torch.Tensor:
        index, source = node.index, node.args[0]
        assert isinstance(source, Ref)
        read, value = self.base.clamps[index], self._split(index, self.values[source.index])
        offset = self._old(index, read.offset)
        moved = value.add_(offset) if self._may_write(node) else value + offset
        if read.low is not None:
            torch.maximum(moved, self._old(index, read.low), out=moved)
        if read.high is not None:
            torch.minimum(moved, self._old(index, read.high), out=moved)
        return self._joined(index, moved)

    def _old(self, index: int, table: Table) -> torch.Tensor:
        """What a table of the base holds in each position's region, as `_split` has them."""
        extents = self.extents
        place = extents.ys[index], int(extents.heights[index]), extents.xs[index], int(extents.widths[index])
        return table.view(*place, scattered=True) if extents.scattered else table.windows(*place)

    def _split(self, index: int, value: torch.Tensor) -> torch.Tensor:
        """Regions of a node in location order, by the rows and columns of the tile, or of scattered positions as a row.

        A view, [R, C, height, width, *channels] or [n, height, width, *channels].
        """
        axes, extents = self.network.nodes[index].axes, self.extents
        assert axes is not None
        located = to_locations(value, axes)
        rows, cols = extents.ys.shape[1], extents.xs.shape[1]
        return located if extents.scattered else by_row_and_column(located, rows, cols)

    def _joined(self, index: int, regions: torch.Tensor) -> torch.Tensor:
        """The inverse of `_split`."""
        axes = self.network.nodes[index].axes
        assert axes is not None
        return from_locations(regions if self.extents.scattered else regions.flatten(0, 1), axes)

    def _changed(self, index: int) -> torch.Tensor:
        changed: torch.Tensor = self.values[index]
        return changed


_known: WeakKeyDictionary[Network, dict[int, torch.Tensor | None]] = WeakKeyDictionary()


def _constants_of(rounded: Network) -> dict[int, torch.Tensor | None]:
    """The constants that linear operators read, in the precision of differences: of what only shifts values, zeros."""
    if rounded not in _known:
        shifts = effects_of(rounded).shifts
        constants = {node.index: node.constant for node in rounded.nodes if node.rule is Rule.CONSTANT}
        _known[rounded] = {
            index: torch.zeros_like(constant) if index in shifts and constant is not None else constant
            for index, constant in constants.items()
        }
    return _known[rounded]
