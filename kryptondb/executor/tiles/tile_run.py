"""Algorithm 1 over one tile: every node recomputes its region for all positions of the tile at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from kryptondb.executor.kernels.winograd import Winograd, Workspace
from kryptondb.executor.tiles.base import Base
from kryptondb.executor.tiles.reads import HostReads, Reads
from kryptondb.executor.tiles.regions_on_tensors import by_row_and_column, from_locations, lay_over, to_locations
from kryptondb.executor.tiles.tiles import TileExtents
from kryptondb.network import Network, Node, Rule
from kryptondb.network.finite import Watch
from kryptondb.network.fused import Fusion
from kryptondb.network.node import Ref, bind


@dataclass(eq=False)
class TileRun:
    """One pass of a tile through the network.

    A node's value is either the region of each position, [n, ...] with the tile's common height and width, or whole
    (where the region has grown to all of it, and in the dense tail).

    Attributes:
        layers: convolutions that are computed from differences, by node; all others directly, and with the activation
            behind them where their network fuses the two.
        workspace: memory that passes share.
        before: called with each node's index before it runs.
        reads: makes what nodes read out of the base and the regions; by itself from the places in `extents`.
    """

    network: Network
    base: Base
    extents: TileExtents
    layers: Mapping[int, Winograd] = field(default_factory=dict)
    workspace: Workspace = field(default_factory=Workspace)
    values: dict[int, Any] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)
    projected: dict[int, torch.Tensor] = field(default_factory=dict)
    before: Callable[[int], None] | None = None
    reads: Reads | None = None

    def __post_init__(self) -> None:
        self._watch = Watch(self.base.watched)
        self._reads: Reads = self.reads or HostReads(self.network, self.base, self.extents)

    def run(self, patches: torch.Tensor, last: int | None = None) -> torch.Tensor:
        """Patches [n, C, h, w] -> the network's scores [n, classes], or the value of the node `last`.

        All NaN where numbers came up that are not finite or out of the ordinary: what is fast does not hold for them.
        """
        batch = patches.shape[0]
        last = self.network.output if last is None else last
        for node in self.network.nodes[: last + 1]:
            if self.before is not None:
                self.before(node.index)
            self.values[node.index] = self._node(node, patches, batch)
            if self.network.varying[node.index]:
                self._watch.see(node.index, self.values[node.index])
            if self._spans_all(node):
                self.whole.add(node.index)
            for index in node.inputs:
                if self.network.last_use[index] == node.index:
                    self.values.pop(index, None)
                    self.projected.pop(index, None)
        output: torch.Tensor = self.values[last]
        if output.shape[0] != batch:  # scores that no pixel changes
            output = output.expand(batch, *output.shape[1:])
        return self._watch.marked(output)

    def run_head(self, first: int, value: torch.Tensor) -> torch.Tensor:
        """The head, on any images: from the value of the node `first`, [n, numbers], to the scores [n, classes]."""
        self.values[first] = value
        for node in self.network.nodes:
            if node.index > first or not self.network.varying[node.index]:
                self.values[node.index] = self._node(node, value, value.shape[0])
        output: torch.Tensor = self.values[self.network.output]
        return output

    def _spans_all(self, node: Node) -> bool:
        index = node.index
        return not self.network.regional[index] or (
            int(self.extents.heights[index]) == node.height and int(self.extents.widths[index]) == node.width
        )

    def _node(self, node: Node, patches: torch.Tensor, batch: int) -> Any:
        if node.rule is Rule.INPUT:
            return patches
        if node.rule is Rule.CONSTANT:
            return node.constant
        if not self.network.varying[node.index]:
            return self.base.values[node.index]
        if node.rule is Rule.AVERAGE and self._is_region(node.inputs[0]):
            return self._average(node)
        if self.network.regional[node.index]:
            if node.index in self.layers:
                return self._difference(node, self.layers[node.index])
            if node.window is not None and (self._is_region(self._source(node)) or not self._spans_all(node)):
                return self._window(
                    node, batch
                )  # also where all of the input changes and not all of the output (a pad)
            if node.rule is Rule.MERGE:
                return self._merge(node, batch)
            return self._call(node, self.values, batch)
        return self._dense(node, batch)

    def _fusion(self, node: Node) -> Fusion | None:
        return self.network.fused(node, self.layers)

    def _is_region(self, index: int) -> bool:
        return self.network.regional[index] and index not in self.whole

    @staticmethod
    def _source(node: Node) -> int:
        first = node.args[0]
        assert isinstance(first, Ref)  # window operators read one picture
        return first.index

    def _call(self, node: Node, values: Mapping[int, Any], batch: int, owned: bool = False) -> Any:
        """A node's own function on values of the tile's sizes, in place where its first argument is `owned`."""
        height, width = int(self.extents.heights[node.index]), int(self.extents.widths[node.index])
        function, fusion = node.function, self._fusion(node)
        if fusion is not None:
            function = fusion.function(node.index)
        elif node.in_place is not None and (owned or self._may_write(node)):
            function = node.in_place
        assert function is not None
        return function(
            *bind(node.args, values, batch, height, width),
            **{name: bind(value, values, batch, height, width) for name, value in node.kwargs.items()},
        )

    def _may_write(self, node: Node) -> bool:
        first = node.args[0]
        if not isinstance(first, Ref) or not self.network.varying[first.index]:
            return False
        return self.network.may_write(node) and first.index not in self.projected

    def _window(self, node: Node, batch: int) -> torch.Tensor:
        """Read windows from base and patch, then the operator without padding (equations 25 to 28)."""
        window, index = node.window, node.index
        assert window is not None and node.axes is not None
        height, width = int(self.extents.heights[index]), int(self.extents.widths[index])
        source = self._source(node)
        read = self._reads.window(node, source, self.values[source])
        values = {ref: self.values.get(ref) for ref in node.inputs}
        values[source] = read
        fusion = self._fusion(node)
        function = fusion.function(index) if fusion is not None else window.function or node.function
        assert function is not None
        output: torch.Tensor = function(*bind(window.args, values, batch, height, width))
        if window.counts is not None:
            counts_y, counts_x = self._reads.counts(node, output)
            if self.extents.scattered:
                output = output / (counts_y[:, None, :, None] * counts_x[:, None, None, :])
            else:
                counts = counts_y[:, None, None, :, None] * counts_x[None, :, None, None, :]
                output = (by_row_and_column(output, len(counts_y), len(counts_x)) / counts).flatten(0, 1)
        return output

    def _difference(self, node: Node, layer: Winograd) -> torch.Tensor:
        """The base output plus the convolution of what has changed in the input."""
        index, source = node.index, self._source(node)
        window, extents = node.window, self.extents
        assert window is not None and node.axes is not None
        source_axes = self.network.nodes[source].axes
        assert source_axes is not None
        ys, xs = extents.ys[source], extents.xs[source]
        height, width = int(extents.heights[source]), int(extents.widths[source])
        new = to_locations(self.values[source], source_axes)
        old = self.base.tables[source].view(ys, height, xs, width, extents.scattered)
        # The first output that the first cell reaches.
        to_ys = ys + window.y.before - window.y.size + 1
        to_xs = xs + window.x.before - window.x.size + 1
        table = self.base.tables[index]
        target = table.gather(to_ys, layer.reach(height, 0), to_xs, layer.reach(width, 1), scattered=extents.scattered)
        layer.add(new, old, target, self.workspace)
        return from_locations(self._cut(index, target, to_ys, to_xs), node.axes)

    def _cut(self, index: int, located: torch.Tensor, ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
        """A node's region out of rectangles [n, height, width, ...] that begin at `ys`, `xs` and cover its changes."""
        extents = self.extents
        height, width = int(extents.heights[index]), int(extents.widths[index])
        shifts_y, shifts_x = ys - extents.ys[index], xs - extents.xs[index]
        y, x = -int(shifts_y[0]), -int(shifts_x[0])
        fits = 0 <= y <= located.shape[1] - height and 0 <= x <= located.shape[2] - width
        if fits and (shifts_y == shifts_y[0]).all() and (shifts_x == shifts_x[0]).all():
            return located[:, y : y + height, x : x + width]
        table, scattered = self.base.tables[index], extents.scattered
        region = table.gather(extents.ys[index], height, extents.xs[index], width, scattered=scattered)
        lay_over(region, located, shifts_y, shifts_x, scattered)
        return region

    def _merge(self, node: Node, batch: int) -> torch.Tensor:
        """Every branch on the union of their regions, each completed from its own base."""
        values = dict(self.values)
        cut = not self._spans_all(node)  # a cap may leave less of a node than of a branch that has grown to all of it
        for source in node.inputs:
            if self._is_region(source) or (cut and self.network.regional[source]):
                values[source] = self._reads.region(node, source, self.values[source])
        first = node.args[0]
        # What was read for this node alone may be overwritten, even if other nodes read the branch.
        owned = isinstance(first, Ref) and values[first.index] is not self.values.get(first.index)
        merged: torch.Tensor = self._call(node, values, batch, owned)
        return merged

    def _average(self, node: Node) -> torch.Tensor:
        """The mean as a running sum: `sum(base) - sum(old region) + sum(new region)`."""
        index = node.inputs[0]
        source = self.network.nodes[index]
        assert source.axes is not None
        base = self.base.values[node.index]
        total = self._changed(index).sum((source.axes.y, source.axes.x), dtype=base.dtype)
        change = total / (source.height * source.width)
        mean: torch.Tensor = base + change.reshape(change.shape[0], *base.shape[1:])
        return mean

    def _changed(self, index: int) -> torch.Tensor:
        """What differs from the base in each position's region."""
        changed: torch.Tensor = self.values[index] - self._reads.unoccluded(index)
        return changed

    def _dense(self, node: Node, batch: int) -> Any:
        """The dense tail: regions are projected to whole values, and the graph runs as it is."""
        values = dict(self.values)
        for source in node.inputs:
            if self._is_region(source):
                values[source] = self._project(source)
        return self._call(node, values, batch)

    def _project(self, index: int) -> torch.Tensor:
        """Algorithm 1's second procedure, IncrementalToFullProjection."""
        if index not in self.projected:
            self.projected[index] = self._reads.whole(index, self.values[index])
        return self.projected[index]
