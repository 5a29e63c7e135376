"""How far an occlusion reaches: regions of every node's output, as integer arithmetic on arrays of positions.

A region is a rectangle, and its vertical extent depends on the row of the position only, its horizontal extent on the
column only. So one `Spans` a node and axis says it all for a whole grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kryptondb.network.graph import AxisWindow, Network, Node, Rule
from kryptondb.network.grid import Grid


@dataclass(frozen=True, eq=False)
class Spans:
    """For each position along one axis, the cells from `first` to `last`, both included; int64 [positions]."""

    first: np.ndarray
    last: np.ndarray

    @cached_property
    def sizes(self) -> np.ndarray:
        """Cells in each span, int64 [positions]."""
        sizes: np.ndarray = self.last - self.first + 1
        return sizes

    def union(self, other: Spans) -> Spans:
        """The smallest spans that hold both."""
        return Spans(np.minimum(self.first, other.first), np.maximum(self.last, other.last))


def through_window(spans: Spans, window: AxisWindow) -> Spans:
    """The outputs that a window operator can change when the inputs in `spans` change (equations 21 to 24, exactly).

    Output `o` reads the inputs from `o * stride - before` on, `size` of them. The paper's equations 23 and 24 give an
    upper bound of the extent; this is the extent itself, so the cases of Figure 4 (stride equal to the kernel, a patch
    at the border) come out smaller. A change that no window reads becomes one cell, the nearest, which recomputes to
    its base value.
    """
    first = -((-(spans.first + window.before - window.size + 1)) // window.stride)  # ceiling
    last = (spans.last + window.before) // window.stride
    first = np.clip(first, 0, window.outputs - 1)
    last = np.clip(last, 0, window.outputs - 1)
    return Spans(first, np.maximum(first, last))


def equation_size(size: int, window: AxisWindow) -> int:
    """The paper's equation 23 (and 24): `min(ceil((W_I + W_K - 1) / S), W_out)`."""
    return min(-(-(size + window.size - 1) // window.stride), window.outputs)


@dataclass(frozen=True, eq=False)
class Regions:
    """The region of every node for every position of a grid.

    Attributes:
        y, x: for each node its spans along height (by grid row) and width (by grid column); None where the node holds
            no picture or all of it may change.
    """

    network: Network
    grid: Grid
    y: tuple[Spans | None, ...]
    x: tuple[Spans | None, ...]

    def locations(self, node: Node) -> np.ndarray:
        """How many locations of a node each position recomputes, int64 [rows, cols]."""
        y, x = self.y[node.index], self.x[node.index]
        if y is None or x is None:
            return np.full((self.grid.rows, self.grid.cols), node.height * node.width, dtype=np.int64)
        locations: np.ndarray = y.sizes[:, None] * x.sizes[None, :]
        return locations


def regions(network: Network, grid: Grid) -> Regions:
    """Propagates every position of a grid through the network."""
    y: list[Spans | None] = []
    x: list[Spans | None] = []
    for node in network.nodes:
        if not network.regional[node.index]:
            y.append(None)
            x.append(None)
        elif node.rule is Rule.INPUT:
            y.append(Spans(grid.ys, grid.ys + grid.patch[0] - 1))
            x.append(Spans(grid.xs, grid.xs + grid.patch[1] - 1))
        else:
            y.append(_span(network, node, y, vertical=True))
            x.append(_span(network, node, x, vertical=False))
    return Regions(network, grid, tuple(y), tuple(x))


def _span(network: Network, node: Node, known: list[Spans | None], *, vertical: bool) -> Spans:
    spans: Spans | None = None
    for index in node.inputs:
        found = known[index]
        if found is not None:
            spans = found if spans is None else spans.union(found)
    assert spans is not None  # regional nodes read at least one region
    if node.window is not None:
        return through_window(spans, node.window.y if vertical else node.window.x)
    return spans
