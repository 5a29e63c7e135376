"""One tile in a reduced precision: regions hold what an occlusion changes, rounded; the base stays in float32.

A number that is rounded is off by a part of itself. Activations are large and what an occlusion changes of them is
small, so rounded activations drown it: in bfloat16 a logit of 20 comes in steps of an eighth. Rounded differences are
off by a part of the difference, wherever it shows. Convolutions, most of the work, make differences of differences and
run in the reduced precision throughout; what has to see whole values does so in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from kryptondb.executor.operators.reads import DifferenceReads
from kryptondb.executor.operators.regions_on_tensors import Table, from_locations
from kryptondb.executor.operators.tile_run import TileRun
from kryptondb.network import Network, Node, Rule
from kryptondb.network.differences import bias_of, is_linear, sees_whole_values
from kryptondb.network.fused import Fusion
from kryptondb.network.node import Ref


class _WholeValues(TileRun):
    """The operators that see whole values, in the base's precision. Nothing reaches them but what they read."""

    def _fusion(self, node: Node) -> Fusion | None:
        # A convolution of the picture has made differences, and has taken no activation in.
        return None if self.network.regional[node.index] else super()._fusion(node)

    def of(self, node: Node, inputs: dict[int, Any], whole: set[int], batch: int, like: torch.Tensor) -> Any:
        """A node's value out of its inputs', regions or `whole`."""
        self.values, self.whole, self.projected = {**self._constants, **inputs}, whole, {}
        return self._node(node, like, batch)

    def __post_init__(self) -> None:
        super().__post_init__()
        nodes = self.network.nodes
        self._constants = {node.index: node.constant for node in nodes if node.rule is Rule.CONSTANT}


@dataclass(eq=False)
class DifferenceRun(TileRun):
    """`TileRun` on differences. `network` and `base` are those of the base, and so is all that is no picture any more.

    Attributes:
        rounded: the same network in the precision of the differences.
    """

    rounded: Network = field(kw_only=True)

    def __post_init__(self) -> None:
        self._reads = DifferenceReads(self.network, self.base, self.extents)
        self._whole_values = _WholeValues(self.network, self.base, self.extents)
        linear = [node for node in self.network.nodes if self.network.regional[node.index]]
        linear = [node for node in linear if is_linear(self.network, node)]
        self._biases = {bias_of(node) for node in linear}

    def _fusion(self, node: Node) -> Fusion | None:
        return None  # an activation of a difference is none of the value

    def _node(self, node: Node, patches: torch.Tensor, batch: int) -> Any:
        index = node.index
        if node.rule is Rule.CONSTANT:
            return None if index in self._biases else self.rounded.nodes[index].constant
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
        if sees_whole_values(self.network, node):
            value = self._whole_values.of(node, self._inputs(node), self.whole, batch, patches)
            return self._less_base(index, value)
        return super()._node(node, patches, batch)

    def _inputs(self, node: Node) -> dict[int, Any]:
        """What a node that sees whole values reads, its constants aside."""
        varying = (index for index in node.inputs if self.network.nodes[index].rule is not Rule.CONSTANT)
        return {
            index: self._whole_value(index) if self.network.regional[index] else self.values[index] for index in varying
        }

    def _whole_value(self, index: int) -> torch.Tensor:
        """A region as the occluded image has it, in the base's precision."""
        whole: torch.Tensor = self._old(index, self.base.tables[index]) + self.values[index]
        return whole

    def _less_base(self, index: int, value: torch.Tensor) -> torch.Tensor:
        """What differs from the base in a region, rounded."""
        return (value - self._old(index, self.base.tables[index])).to(self.rounded.dtype)

    def _old(self, index: int, table: Table) -> torch.Tensor:
        """What a table of the base holds in each position's region; one for all of them where it is the same."""
        axes, extents = self.network.nodes[index].axes, self.extents
        assert axes is not None
        height, width = int(extents.heights[index]), int(extents.widths[index])
        return from_locations(table.view(extents.ys[index], height, extents.xs[index], width, extents.scattered), axes)

    def _clamp(self, node: Node) -> torch.Tensor:
        source = node.args[0]
        assert isinstance(source, Ref) and node.axes is not None
        value, read = self.values[source.index], self.base.clamps[node.index]
        moved = torch.add(
            value, self._old(node.index, read.offset), out=value if self._may_write(node) else torch.empty_like(value)
        )
        if read.low is not None:
            torch.maximum(moved, self._old(node.index, read.low), out=moved)
        if read.high is not None:
            torch.minimum(moved, self._old(node.index, read.high), out=moved)
        return moved

    def _average(self, node: Node) -> torch.Tensor:
        index = node.inputs[0]
        source = self.network.nodes[index]
        assert source.axes is not None
        base = self.base.values[node.index]
        change = self.values[index].sum((source.axes.y, source.axes.x), dtype=base.dtype)
        change /= source.height * source.width
        mean: torch.Tensor = base + change.reshape(change.shape[0], *base.shape[1:])
        return mean
