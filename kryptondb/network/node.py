"""One operator of a CNN: what it does to a rectangle of changed values, and how it runs.

A value is a tensor. Where it still is a picture, its `Axes` say which of its dimensions are the batch, the height and
the width; all others are channels, however many there are, in whatever order (so networks that work in channels-last,
or shuffle channels through five dimensions, are the same to everything above).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch


class Rule(enum.Enum):
    """What an operator does to a rectangle of changed values (ARCHITECTURE: the network, as an algebra)."""

    INPUT = "input"
    CONSTANT = "constant"
    SIZE = "size"  # a Python number, such as the batch size
    POINTWISE = "pointwise"  # each location by itself: region unchanged
    WINDOW = "window"  # a window around each location: region grows
    MERGE = "merge"  # several branches: the union of their regions
    AVERAGE = "average"  # the mean over all locations: kept as a running sum
    DENSE = "dense"  # anything else: needs the whole picture


@dataclass(frozen=True)
class Axes:
    """Which dimensions of a tensor are the batch, the height and the width."""

    batch: int
    y: int
    x: int


@dataclass(frozen=True)
class AxisWindow:
    """A sliding window along one axis.

    Attributes:
        size: extent in input cells, dilation counted: `dilation * (kernel - 1) + 1`.
        stride: input cells between neighbouring outputs.
        before: padding in front; the window of output `o` starts at input `o * stride - before`.
        inputs, outputs: cells of the axis before and after.
        beyond: what stands beyond the ends: 'constant', one number, or cells again: 'replicate', 'reflect', 'circular'.
            'nearest' and 'centered' show cells several times, or not all of them: an output the cell that its own first
            point, or its middle, lies in.
    """

    size: int
    stride: int
    before: int
    inputs: int
    outputs: int
    beyond: str = "constant"

    def cells(self, places: Any) -> Any:
        """The cells that stand at places along the axis, which may lie beyond its ends; not of 'constant'.

        Args:
            places: whole numbers, in an array or a tensor.
        """
        last = self.inputs - 1
        if self.beyond == "nearest":
            return (places * self.inputs // self.outputs).clip(min=0, max=last)
        if self.beyond == "centered":
            return ((2 * places + 1) * self.inputs // (2 * self.outputs)).clip(min=0, max=last)
        if self.beyond == "replicate":
            return places.clip(min=0, max=last)
        if self.beyond == "circular":
            return places % self.inputs
        around = places % max(1, 2 * last)  # there and back, without the ends twice
        return around - (2 * around - 2 * last).clip(min=0)


@dataclass(frozen=True, eq=False)
class Window:
    """A local operator's windows, and how it runs on a read window that already holds its padding.

    Attributes:
        y, x: the windows along height and width.
        outside: what a cell outside the picture holds (0, -inf for max pooling, or a pad's value).
        args: arguments of the node's function when padding is done already (see `Node.args` for templates).
        counts: for average pooling, how many cells each output averages over, as a factor per row and per column
            (float64, `outputs` long); the function then yields sums.
        function: the function for read windows, where it is not the node's own.
    """

    y: AxisWindow
    x: AxisWindow
    outside: float
    args: tuple[Any, ...]
    counts: tuple[torch.Tensor, torch.Tensor] | None = None
    function: Callable[..., Any] | None = None

    @property
    def repeats(self) -> bool:
        """Whether cells stand again, beyond the picture's ends or beside each other."""
        return self.y.beyond != "constant"


@dataclass(frozen=True)
class Ref:
    """In an argument template: the value of the node at `index`."""

    index: int


class Extent(enum.Enum):
    """In an argument template: a size that depends on what runs (the batch, or a region's height and width)."""

    BATCH = "batch"
    HEIGHT = "height"
    WIDTH = "width"


@dataclass(frozen=True, eq=False)
class Node:
    """One operator of the network.

    Attributes:
        index: its place in `Network.nodes`, which is an order of execution.
        name: the module path it came from, such as `features.0`, or the graph's own name.
        operator: the ATen operator's short name, such as `conv2d`.
        inputs: the nodes that it reads, constants included.
        shape: of its value for a batch of one; empty for numbers.
        axes: which dimensions are batch, height and width, or None when the value is not a picture any more.
        function, args, kwargs: how it runs on whole values; templates hold `Ref` and `Extent`.
        window: for `Rule.WINDOW`.
        constant: for `Rule.CONSTANT`.
        flops: operations (two per multiply-add) per location where there are axes, else per image.
        reason: for `Rule.DENSE`, why.
        in_place: a function that does the same to its first argument in place, if there is one.
        fresh: whether its value is memory of its own, and not a view of an input.
    """

    index: int
    name: str
    operator: str
    rule: Rule
    inputs: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    axes: Axes | None = None
    function: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    window: Window | None = None
    constant: torch.Tensor | None = None
    flops: float = 0.0
    reason: str = ""
    in_place: Callable[..., Any] | None = None
    fresh: bool = False

    @property
    def height(self) -> int:
        """Rows of locations, 1 where the value is not a picture."""
        return self.shape[self.axes.y] if self.axes else 1

    @property
    def width(self) -> int:
        """Columns of locations, 1 where the value is not a picture."""
        return self.shape[self.axes.x] if self.axes else 1

    @cached_property
    def channels(self) -> int:
        """Elements per location, or per image where the value is not a picture."""
        return math.prod(self.shape) // (self.height * self.width)

    @property
    def total_flops(self) -> float:
        """Operations for one whole image (equation 16, two operations per multiply-add)."""
        return self.flops * self.height * self.width


def bind(template: Any, values: Mapping[int, Any] | Sequence[Any], batch: int, height: int = 0, width: int = 0) -> Any:
    """An argument template with its references and extents filled in; lists and tuples are walked."""
    if isinstance(template, Ref):
        return values[template.index]
    if isinstance(template, Extent):
        return batch if template is Extent.BATCH else height if template is Extent.HEIGHT else width
    if isinstance(template, (list, tuple)):
        return type(template)(bind(item, values, batch, height, width) for item in template)
    return template


def has_extent(template: Any) -> bool:
    """Whether an argument template asks for a size that depends on what runs."""
    if isinstance(template, (list, tuple)):
        return any(has_extent(item) for item in template)
    return isinstance(template, Extent)
