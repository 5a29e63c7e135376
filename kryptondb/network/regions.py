"""How far an occlusion reaches: regions of every node's output, caps on them, and what they leave unchanged.

A region is a rectangle. Its vertical extent depends on the row of the position only, and its horizontal extent on the
column only, so one `Spans` per node and axis describes a whole grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kryptondb.network.graph import Network
from kryptondb.network.grid import Grid
from kryptondb.network.node import AxisWindow, Node, Rule


@dataclass(frozen=True)
class Cap:
    """The largest share of a node's height and width that its region may take.

    The share changes evenly from `tau` at the input to `tau_deep` where regions have grown most. A node's depth is the
    number of pixels by which regions have grown on the way to it: operators without a window leave it as it is.

    Attributes:
        tau: the share at the input, above 0 and at most 1.
        tau_deep: the share at the deep end; the same as `tau` for one share at all depths.

    Raises:
        ValueError: a share is not in that range.
    """

    tau: float
    tau_deep: float

    def __post_init__(self) -> None:
        for share in (self.tau, self.tau_deep):
            if not 0 < share <= 1:
                raise ValueError(f"a cap is a share of a node's extent, above 0 and at most 1, not {share}")

    def cells(self, extent: int, depth: float) -> int:
        """The most cells along an axis of `extent` cells, at a depth from 0 (the input) to 1."""
        share = self.tau + (self.tau_deep - self.tau) * depth
        return max(1, math.ceil(round(share * extent, 9)))  # rounded first: 0.28 * 25 is a little more than 7

    def __str__(self) -> str:
        return f"tau {self.tau:g}" if self.tau == self.tau_deep else f"tau {self.tau:g} to {self.tau_deep:g}"


#: Regions as they are.
UNCAPPED = Cap(1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Course:
    """Where regions would lie if no border cut them off and no cell were rounded to, along one axis.

    Integers over a common denominator, so that their middles follow the patches exactly, however deep the network.

    Attributes:
        first, last: of each position's region, in cells times `parts`; int64 [positions].
        parts: into how many parts a cell is divided: as many as it is pixels wide, unless branches differ in that.
    """

    first: np.ndarray
    last: np.ndarray
    parts: int = 1

    def through(self, window: AxisWindow) -> Course:
        """Of the outputs whose windows reach into these."""
        first = self.first + self.parts * (window.before - window.size + 1)
        return Course(first, self.last + self.parts * window.before, self.parts * window.stride)

    def union(self, other: Course) -> Course:
        """What holds both."""
        parts = math.lcm(self.parts, other.parts)
        mine, others = parts // self.parts, parts // other.parts
        first = np.minimum(self.first * mine, other.first * others)
        return Course(first, np.maximum(self.last * mine, other.last * others), parts)

    @property
    def length(self) -> int:
        """From the first to the last, in parts of a cell; all positions have the same."""
        return int(self.last[0] - self.first[0])

    def centred(self, cells: int) -> np.ndarray:
        """The first of `cells` cells around the middle, of two equally near ones the later; int64 [positions]."""
        first: np.ndarray = (self.first + self.last - self.parts * (cells - 2)) // (2 * self.parts)
        return first


def depths(courses: Sequence[Course | None]) -> list[float]:
    """How deep each node lies from 0 to 1, by how much longer its course is than the input's, which is the first."""
    lengths = [None if course is None else course.length for course in courses]
    known = [length for length in lengths if length is not None]
    shortest, growth = min(known, default=0), max(1, max(known, default=0) - min(known, default=0))
    return [0.0 if length is None else (length - shortest) / growth for length in lengths]


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

    def within(self, other: Spans) -> Spans:
        """What lies inside of others; the nearest of their cells where nothing does."""
        return Spans(np.clip(self.first, other.first, other.last), np.clip(self.last, other.first, other.last))


def through_window(spans: Spans, window: AxisWindow) -> Spans:
    """The outputs that a window operator can change when the inputs in `spans` change (equations 21 to 24, exactly).

    Output `o` reads the inputs from `o * stride - before` on, `size` of them. The paper's equations 23 and 24 give an
    upper bound of the extent; this is the extent itself, so the cases of Figure 4 (stride equal to the kernel, a patch
    at the border) come out smaller. A change that no window reads becomes one cell, the nearest, which recomputes to
    its base value.
    """
    if window.beyond != "constant":
        return _through_repeated(spans, window)
    first = -((-(spans.first + window.before - window.size + 1)) // window.stride)  # ceiling
    last = (spans.last + window.before) // window.stride
    first = np.clip(first, 0, window.outputs - 1)
    last = np.clip(last, 0, window.outputs - 1)
    return Spans(first, np.maximum(first, last))


def _through_repeated(spans: Spans, pad: AxisWindow) -> Spans:
    """The outputs of a pad that repeats cells beyond the ends: from the first to the last that shows a changed one."""
    shown = pad.cells(np.arange(pad.outputs) - pad.before)
    lowest, highest = np.full(pad.inputs + 1, pad.outputs - 1), np.zeros(pad.inputs + 1, dtype=np.int64)
    np.minimum.at(lowest, shown, np.arange(pad.outputs))
    np.maximum.at(highest, shown, np.arange(pad.outputs))
    ends = np.stack([spans.first, spans.last + 1], axis=1).reshape(-1)
    first, last = np.minimum.reduceat(lowest, ends)[::2], np.maximum.reduceat(highest, ends)[::2]
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
        free_y, free_x: whether no cap cuts any node's span of a row or column, boolean [rows] and [cols].
    """

    network: Network
    grid: Grid
    y: tuple[Spans | None, ...]
    x: tuple[Spans | None, ...]
    free_y: np.ndarray
    free_x: np.ndarray

    def free(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Whether no cap cuts any node's region of the positions at these places, boolean [n]."""
        uncut: np.ndarray = self.free_y[rows] & self.free_x[cols]
        return uncut

    def sizes(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a node that each row of positions recomputes, and columns by column; int64 [rows] and [cols]."""
        y, x = self.y[node.index], self.x[node.index]
        if y is None or x is None:
            return np.full(self.grid.rows, node.height), np.full(self.grid.cols, node.width)
        return y.sizes, x.sizes


def regions(network: Network, grid: Grid, cap: Cap | None = None) -> Regions:
    """Propagates every position of a grid through the network.

    With a cap, a region keeps at most the cap's number of cells along each axis, around the middle that it would have
    had without borders; at a border it moves inside. What is cut off keeps its base value, so that nodes behind it see
    no change there. The patch itself is never cut, nor is what computes on a region as it stands.
    """
    y = _spans(network, grid.ys, grid.patch[0], vertical=True)
    x = _spans(network, grid.xs, grid.patch[1], vertical=False)
    free_y, free_x = np.ones(grid.rows, dtype=bool), np.ones(grid.cols, dtype=bool)
    if cap is not None:
        y = _capped(network, y, cap, free_y, vertical=True)
        x = _capped(network, x, cap, free_x, vertical=False)
    return Regions(network, grid, y, x, free_y, free_x)


def _spans(network: Network, starts: np.ndarray, patch: int, *, vertical: bool) -> tuple[Spans | None, ...]:
    found: list[Spans | None] = []
    for node in network.nodes:
        if not network.regional[node.index]:
            found.append(None)
        elif node.rule is Rule.INPUT:
            found.append(Spans(starts, starts + patch - 1))
        else:
            found.append(_reached(node, found, vertical=vertical))
    return tuple(found)


def _capped(
    network: Network, exact: tuple[Spans | None, ...], cap: Cap, free: np.ndarray, *, vertical: bool
) -> tuple[Spans | None, ...]:
    """Every node's spans along one axis under a cap; positions that it cuts are no longer `free`."""
    courses = _courses(network, exact, vertical=vertical)
    deep = depths(courses)
    found: list[Spans | None] = []
    for node, whole, course in zip(network.nodes, exact, courses, strict=True):
        spans = whole
        if whole is not None and course is not None and node.rule is not Rule.INPUT:
            # A change that is cut off so far that no window reads it any more leaves one cell, which stays as it was.
            spans = _reached(node, found, vertical=vertical).within(whole)
            if node.rule is not Rule.POINTWISE:
                most = cap.cells(node.height if vertical else node.width, deep[node.index])
                free &= spans.sizes <= most
                spans = _cut(spans, most, course)
        found.append(spans)
    return tuple(found)


def _reached(node: Node, known: list[Spans | None], *, vertical: bool) -> Spans:
    """What changes in the inputs' spans can change in a node."""
    spans: Spans | None = None
    for index in node.inputs:
        source = known[index]
        if source is not None:
            spans = source if spans is None else spans.union(source)
    assert spans is not None  # regional nodes read at least one region
    if node.window is not None:
        return through_window(spans, node.window.y if vertical else node.window.x)
    return spans


def _cut(spans: Spans, most: int, course: Course) -> Spans:
    """Spans of at most `most` cells: of larger ones, the cells around the middle of their course."""
    sizes = np.minimum(spans.sizes, most)
    first = np.clip(course.centred(most), spans.first, spans.last + 1 - sizes)
    return Spans(first, first + sizes - 1)


def _courses(network: Network, exact: tuple[Spans | None, ...], *, vertical: bool) -> list[Course | None]:
    """Where every node's regions would lie without borders; None where there are no regions."""
    found: list[Course | None] = []
    for node, spans in zip(network.nodes, exact, strict=True):
        course: Course | None = None
        if spans is not None and node.rule is Rule.INPUT:
            course = Course(spans.first, spans.last)
        elif spans is not None:
            for index in node.inputs:
                source = found[index]
                if source is not None:
                    course = source if course is None else course.union(source)
            if course is not None and node.window is not None:
                course = course.through(node.window.y if vertical else node.window.x)
        found.append(course)
    return found


@dataclass(frozen=True)
class LayerRedundancy:
    """One layer, or the total in the last row.

    Attributes:
        layer, operator: the layer's module path and ATen operator.
        channels, height, width: of its output, None in the total.
        gflops_full: of one full inference, two operations a multiply-add (equation 16 counts one).
        gflops_incremental: of one position, mean over the grid, each position with its own region (equation 18).
        ratio: the redundancy ratio R (equation 20).
        uniform_ratio: R when all positions share the largest region, as the paper runs them.
        centre_ratio: R with the patch at the centre, the worst case that Figure 5 shows.
    """

    layer: str
    operator: str
    channels: int | None
    height: int | None
    width: int | None
    gflops_full: float
    gflops_incremental: float
    ratio: float
    uniform_ratio: float
    centre_ratio: float


def redundancy_table(network: Network, grid: Grid) -> list[LayerRedundancy]:
    """A row for every layer that multiplies (convolutions and matrix products) and a total.

    Raises:
        ValueError: the network is not traced; the message says why.
    """
    if not network.traced:
        raise ValueError(f"the network cannot be traced: {network.failure}")
    located = regions(network, grid)
    centre = (grid.rows // 2, grid.cols // 2)
    rows: list[LayerRedundancy] = []
    totals = [0.0, 0.0, 0.0, 0.0]
    for node in network.nodes:
        if not node.flops:
            continue
        costs = _costs(node, located, centre)
        totals = [total + cost for total, cost in zip(totals, costs, strict=True)]
        channels, height, width = _output(node)
        rows.append(_row(node.name, node.operator, channels, height, width, costs))
    rows.append(_row("total", "", None, None, None, tuple(totals)))
    return rows


def _costs(node: Node, located: Regions, centre: tuple[int, int]) -> tuple[float, float, float, float]:
    heights, widths = located.sizes(node)
    return (
        node.total_flops,
        node.flops * float(heights.mean()) * float(widths.mean()),
        node.flops * int(heights.max()) * int(widths.max()),
        node.flops * int(heights[centre[0]]) * int(widths[centre[1]]),
    )


def _output(node: Node) -> tuple[int, int, int]:
    if node.axes is not None:
        return node.channels, node.height, node.width
    if len(node.shape) == 4:  # a picture of one cell, behind a global mean
        return node.shape[1], node.shape[2], node.shape[3]
    return node.channels, 1, 1


def _row(
    layer: str,
    operator: str,
    channels: int | None,
    height: int | None,
    width: int | None,
    costs: tuple[float, ...],
) -> LayerRedundancy:
    full, own, uniform, centre = costs
    return LayerRedundancy(
        layer,
        operator,
        channels,
        height,
        width,
        full / 1e9,
        own / 1e9,
        full / own if own else 1.0,
        full / uniform if uniform else 1.0,
        full / centre if centre else 1.0,
    )
