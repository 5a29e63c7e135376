"""A CNN as a graph of spatial operators: what a node is, and how it runs on whole images.

A value is a tensor. Where it still is a picture, its `Axes` say which of its dimensions are the batch, the height and
the width; all others are channels, however many there are, in whatever order (so networks that work in channels-last,
or shuffle channels through five dimensions, are the same to everything above).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from kryptondb.network.fused import Fusion


class Rule(enum.Enum):
    """What an operator does to a rectangle of changed values (ARCHITECTURE: the network, as an algebra)."""

    INPUT = "input"
    CONSTANT = "constant"
    SIZE = "size"  # a Python number, such as the batch size
    LOCAL = "local"  # each location by itself: region unchanged
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
    """

    size: int
    stride: int
    before: int
    inputs: int
    outputs: int


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
        axes: which dimensions are batch, height and width, or None when the value is no picture any more.
        function, args, kwargs: how it runs on whole values; templates hold `Ref` and `Extent`.
        window: for `Rule.WINDOW`.
        constant: for `Rule.CONSTANT`.
        flops: operations (two a multiply-add) per location where there are axes, else per image.
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
        """Rows of locations, 1 where the value is no picture."""
        return self.shape[self.axes.y] if self.axes else 1

    @property
    def width(self) -> int:
        """Columns of locations, 1 where the value is no picture."""
        return self.shape[self.axes.x] if self.axes else 1

    @cached_property
    def channels(self) -> int:
        """Elements a location, or an image where the value is no picture."""
        elements = 1
        for size in self.shape:
            elements *= size
        return elements // (self.height * self.width)

    @property
    def total_flops(self) -> float:
        """Operations for one whole image (equation 16, two operations a multiply-add)."""
        return self.flops * self.height * self.width


@dataclass(frozen=True)
class Tail:
    """Where the dense tail begins: from here on the network runs on whole values.

    Attributes:
        node: the node's name.
        operator: its ATen operator.
        reason: why it needs the whole picture.
    """

    node: str
    operator: str
    reason: str


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


@dataclass(frozen=True, eq=False)
class Network:
    """A traced network, or one that `torch.export` could not trace (then `traced` is False and `module` answers).

    Attributes:
        nodes: in an order of execution.
        output: the index of the node that holds the scores, [N, classes].
        input_shape: channels, height, width.
        classes: how many scores there are.
        module: the original module, in eval mode; None for a traced network that was read from a file.
        failure: why it could not be traced, or None.
        batch_statistics: a layer normalizes over the batch even in eval mode, so images must run one by one.
    """

    nodes: tuple[Node, ...]
    output: int
    input_shape: tuple[int, int, int]
    classes: int
    module: torch.nn.Module | None
    failure: str | None = None
    batch_statistics: bool = False

    @property
    def traced(self) -> bool:
        """Whether the network is known as a graph; else only the `full` operator can answer."""
        return self.failure is None

    @cached_property
    def flops(self) -> float:
        """Operations of one full inference, two a multiply-add (equation 17 counts one, and convolutions only)."""
        return sum(node.total_flops for node in self.nodes)

    @cached_property
    def parameter_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(n.constant.numel() * n.constant.element_size() for n in self.nodes if n.constant is not None)

    @cached_property
    def varying(self) -> tuple[bool, ...]:
        """For each node, whether its value depends on the picture or on how many there are."""
        varies: list[bool] = []
        for node in self.nodes:
            own = node.rule is Rule.INPUT or has_extent(node.args) or has_extent(tuple(node.kwargs.values()))
            varies.append(own or any(varies[i] for i in node.inputs))
        return tuple(varies)

    @cached_property
    def regional(self) -> tuple[bool, ...]:
        """For each node, whether a change in the input stays inside a rectangle of its value."""
        regional: list[bool] = []
        for node in self.nodes:
            if node.rule is Rule.INPUT:
                regional.append(True)
            elif node.rule in (Rule.LOCAL, Rule.WINDOW, Rule.MERGE):
                regional.append(all(regional[i] for i in node.inputs if self.varying[i]) and self.varying[node.index])
            else:
                regional.append(False)
        return tuple(regional)

    @cached_property
    def tail(self) -> Tail | None:
        """The first node at which a region must be projected onto the whole picture, or None if there is none."""
        for node in self.nodes:
            needs_region = any(self.regional[i] for i in node.inputs)
            if needs_region and not self.regional[node.index] and node.rule not in (Rule.AVERAGE, Rule.SIZE):
                reason = node.reason or "one of its inputs has changed everywhere"
                return Tail(node.name, node.operator, reason)
        return None

    @cached_property
    def head(self) -> int | None:
        """The first node from which on the network runs on one vector an image, [N, numbers]; None if there is none.

        Behind it nothing else of the image is read, so that images of different origin can run together from there on.
        """
        for node in self.nodes[: self.output]:
            index = node.index
            if not self.varying[index] or self.regional[index] or node.axes is not None:
                continue
            if len(node.shape) != 2 or node.shape[0] != 1 or node.shape[1] < 2:
                continue
            behind = [other for other in self.nodes[index + 1 :] if other.rule is not Rule.CONSTANT]
            if all(i >= index or not self.varying[i] for other in behind for i in other.inputs) and not any(
                self.regional[other.index] for other in behind
            ):
                return index
        return None

    @cached_property
    def last_use(self) -> tuple[int, ...]:
        """For each node, the index of the last node that reads it (the output is kept to the end)."""
        last = list(range(len(self.nodes)))
        for node in self.nodes:
            for index in node.inputs:
                last[index] = node.index
        if self.nodes:
            last[self.output] = len(self.nodes)
        return tuple(last)

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the nodes that read it."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for node in self.nodes:
            for index in set(node.inputs):
                readers[index].append(node.index)
        return tuple(map(tuple, readers))

    @cached_property
    def fusions(self) -> Mapping[int, Fusion]:
        """Convolutions that take in the activation behind them, by both nodes: on a CPU in float32."""
        from kryptondb.network.fused import find_fusions

        return find_fusions(self)

    def fused(self, node: Node, apart: Container[int] = ()) -> Fusion | None:
        """The fusion that a node runs in, None where it runs as it stands; `apart`: convolutions that run unfused."""
        fusion = self.fusions.get(node.index)
        return None if fusion is None or fusion.convolution in apart else fusion

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Network:
        """The same network with its floating point constants in another precision and on another device.

        Operators that make tensors of their own (a mask, a range) were traced with a device: they move too.
        """
        target = torch.device(device)
        constants = [n.constant for n in self.nodes if n.constant is not None and n.constant.is_floating_point()]
        if constants and all(constant.device == target and constant.dtype == dtype for constant in constants):
            return self  # with all that is known of it

        def moved(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return value.to(target, dtype if value.is_floating_point() else value.dtype)
            if isinstance(value, (list, tuple)):
                return type(value)(moved(item) for item in value)
            return target if isinstance(value, torch.device) else value

        nodes = tuple(
            replace(
                node,
                constant=moved(node.constant),
                args=moved(node.args),
                kwargs={name: moved(value) for name, value in node.kwargs.items()},
            )
            for node in self.nodes
        )
        module = self.module
        if module is not None and self.failure is not None:  # only then does the module itself run
            import copy

            module = copy.deepcopy(module).to(device=device, dtype=dtype)
        return replace(self, nodes=nodes, module=module)

    def run(
        self, images: torch.Tensor, keep: Iterable[int] = (), before: Callable[[int], None] | None = None
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Full inference.

        Args:
            images: [n, C, H, W], normalized, in the network's precision and on its device.
            keep: nodes whose values are wanted as well, each its own; they are never written over.
            before: called with each node's index before it runs.

        Returns:
            The scores [n, classes] and the kept values by node index.
        """
        if not self.traced:
            assert self.module is not None  # files hold traced networks only
            return self.module(images), {}
        batch = images.shape[0]
        wanted = set(keep)
        values: dict[int, Any] = {}
        kept: dict[int, torch.Tensor] = {}
        for node in self.nodes:
            if before is not None:
                before(node.index)
            values[node.index] = self.run_node(node, values, images, batch, wanted)
            if node.index in wanted:
                kept[node.index] = values[node.index]
            for index in node.inputs:
                if self.last_use[index] == node.index:
                    values.pop(index, None)
        return values[self.output], kept

    def run_node(
        self, node: Node, values: Mapping[int, Any], images: torch.Tensor, batch: int, wanted: set[int] | None = None
    ) -> Any:
        """One node on whole values; `values` holds what it reads. Writes over its input where nothing else needs it."""
        if node.rule is Rule.INPUT:
            return images
        if node.rule is Rule.CONSTANT:
            return node.constant
        assert node.function is not None
        function, fusion = node.function, self.fused(node, wanted or ())
        if fusion is not None:
            function = fusion.function(node.index)
        elif node.in_place is not None and self.may_write(node, wanted):
            function = node.in_place
        return function(
            *bind(node.args, values, batch, node.height, node.width),
            **{name: bind(value, values, batch, node.height, node.width) for name, value in node.kwargs.items()},
        )

    def may_write(self, node: Node, wanted: set[int] | None = None) -> bool:
        """Whether a node may write over its first input: that owns its memory, and no later node reads it or a view."""
        first = node.args[0]
        if not isinstance(first, Ref) or (wanted is not None and first.index in wanted):
            return False
        source = self.nodes[first.index]
        if not source.fresh or self.last_use[source.index] != node.index:
            return False
        return all(self.nodes[reader].fresh for reader in self.readers[source.index] if reader != node.index)
