"""A CNN as a graph of spatial operators, and how it runs on whole images."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from kryptondb.network.cache import CacheEntry
from kryptondb.network.finite import Watch, hiding, watched
from kryptondb.network.fused import Fusion, find_fusions
from kryptondb.network.magnitudes import largest
from kryptondb.network.node import Node, Ref, Rule, bind, has_extent


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


#: Why the pictures of a network run one by one, where they do.
ONE_BY_ONE = "its scores depend on the other pictures of their batch"


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
        unsteady: why it may answer one picture in two ways, so that no answer is exact; None where it does not.
    """

    nodes: tuple[Node, ...]
    output: int
    input_shape: tuple[int, int, int]
    classes: int
    module: torch.nn.Module | None
    failure: str | None = None
    batch_statistics: bool = False
    unsteady: str | None = None

    @cached_property
    def cache(self) -> dict[tuple[Any, ...], CacheEntry]:
        """What functions have found out about it, by question: see `cached_on_network`."""
        return {}

    @cached_property
    def damaged(self) -> bool:
        """Whether a convolution's weights are not all finite: what it gives at a border depends on how it runs."""
        found = (node for node in self.nodes if node.function is torch.ops.aten.conv2d.default)
        constants = (self.nodes[index].constant for node in found for index in node.inputs)
        return not all(math.isfinite(largest(c)) for c in constants if c is not None and not c.is_meta)

    def forget(self) -> None:
        """Drops what was found out about it, which refers to it in turn: it is freed with the last of its users then.

        Networks that were made from it, in another precision or on another device, are forgotten too.
        """
        answers = [entry.answer for entry in self.cache.values()]
        self.cache.clear()
        for answer in answers:
            if isinstance(answer, Network):
                answer.forget()

    @property
    def traced(self) -> bool:
        """Whether the network is known as a graph; else only the `full` operator can answer."""
        return self.failure is None

    @property
    def undivided(self) -> str | None:
        """Why only whole pictures can be run, whatever its operators are; None where regions may be."""
        if self.failure is not None:
            return f"the network could not be traced ({self.failure})"
        if self.batch_statistics:
            return ONE_BY_ONE
        return (
            f"{self.places} gives the place of a maximum, which rounding decides among equal numbers"
            if self.places
            else None
        )

    @cached_property
    def places(self) -> str | None:
        """The first operator that gives the place of a maximum in the picture, None where there is none.

        Under a patch of one color many numbers are equal up to rounding, and regions round otherwise than pictures.
        """
        return next((node.operator for node in self.nodes if self._gives_places(node)), None)

    def _gives_places(self, node: Node) -> bool:
        if node.operator not in ("argmax", "argmin") or not node.inputs:
            return node.operator == "max_pool2d_with_indices"
        source = self.nodes[node.inputs[0]]
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        if len(source.shape) <= 2 or not self.varying[source.index]:
            return False
        sides = range(len(source.shape)) if source.axes is None else (source.axes.y, source.axes.x)
        return dim is None or dim % len(source.shape) in sides

    @cached_property
    def flops(self) -> float:
        """Operations of one full inference, two a multiply-add (equation 17 counts one, and convolutions only)."""
        return sum(node.total_flops for node in self.nodes)

    @cached_property
    def parameter_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(n.constant.numel() * n.constant.element_size() for n in self.nodes if n.constant is not None)

    @cached_property
    def dtype(self) -> torch.dtype:
        """What its constants are in, and so its pictures; float32 where it has none."""
        constants = (node.constant for node in self.nodes if node.constant is not None)
        return next((constant.dtype for constant in constants if constant.is_floating_point()), torch.float32)

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
            elif node.rule in (Rule.POINTWISE, Rule.WINDOW, Rule.MERGE):
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
        """The first node from which on the network runs on one vector per image, [N, numbers]; None if there is none.

        Behind it nothing else of the image is read, so that images of different origin can run together from there on.
        """
        for node in self.nodes[: self.output]:
            index = node.index
            if not self.varying[index] or self.regional[index] or node.axes is not None:
                continue
            if len(node.shape) != 2 or node.shape[0] != 1 or node.shape[1] < 2:
                continue
            if any(self.nodes[reader].operator == "getitem" for reader in self.readers[index]):
                continue  # it gives several results: its shape is that of the first
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
        return find_fusions(self.nodes, self.readers, self.output, self.head)

    def fused(self, node: Node, apart: Container[int] = ()) -> Fusion | None:
        """The fusion that a node runs in, None where it runs as it stands; `apart`: convolutions that run unfused."""
        fusion = self.fusions.get(node.index)
        return None if fusion is None or fusion.convolution in apart else fusion

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Network:
        """The same network with the constants of its own precision in another one, and all on another device.

        Constants of other precisions stay in these: a layer that casts to float64 was written to compute in it.
        Operators that make tensors of their own (a mask, a range) were traced with a device: they move too.
        """
        target = torch.device(device)
        own = self.dtype
        constants = [n.constant for n in self.nodes if n.constant is not None and n.constant.dtype == own]
        if constants and own == dtype and all(constant.device == target for constant in constants):
            return self  # with all that is known of it

        def moved(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return value.to(target, dtype if value.dtype == own else value.dtype)
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
        self,
        images: torch.Tensor,
        keep: Iterable[int] = (),
        before: Callable[[int], None] | None = None,
        planar: Container[int] = (),
        watch: Watch | None = None,
        plain: bool = False,
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Full inference.

        Args:
            images: [n, C, H, W], normalized, in the network's precision and on its device.
            keep: nodes whose values are wanted as well, each its own; they are never written over.
            before: called with each node's index before it runs.
            planar: convolutions that read pictures and weights channel by channel, not with the channels last. On a CPU
                that takes longer, for they are copied, and rounds less, for sums are made of shorter ones: a fifth of
                the error where 512 channels are summed up.
            watch: examines some nodes' values as well; afterwards it knows whether they are ordinary numbers.
            plain: whether every operator runs by itself, as torch runs it; else only where numbers are not finite.

        Returns:
            The scores [n, classes] and the kept values by node index.
        """
        if not self.traced:
            assert self.module is not None  # files hold traced networks only
            # It was written for pictures as everybody has them, channel by channel: `.view` needs them so. They are its
            # own: it may write into them.
            return self.module(images.clone(memory_format=torch.contiguous_format)), {}
        delicate = hiding(self)
        own = Watch(watched(self, delicate, False) if delicate else delicate)
        if not plain and not self.damaged:
            watches = (own,) if watch is None else (own, watch)
            found = self._run(images, set(keep), before, planar, watches)
            if own.is_sound:
                return found
            del found
        if watch is not None:
            watch.sound = None
        # Sums that overflow depend on their order: convolutions read channel by channel, as torch's own do.
        planar = {node.index for node in self.nodes if node.function is torch.ops.aten.conv2d.default}
        return self._run(images, set(keep), before, planar, () if watch is None else (watch,), fuse=False)

    def _run(
        self,
        images: torch.Tensor,
        wanted: set[int],
        before: Callable[[int], None] | None,
        planar: Container[int],
        watches: Sequence[Watch],
        fuse: bool = True,
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        batch = images.shape[0]
        apart = wanted if fuse else {*wanted, *(fusion.convolution for fusion in self.fusions.values())}
        values: dict[int, Any] = {}
        kept: dict[int, torch.Tensor] = {}
        for node in self.nodes:
            if before is not None:
                before(node.index)
            if node.index in planar:
                read = {index: values[index].contiguous() for index in node.inputs}
                value = self.run_node(node, read, images, batch, wanted, apart)
                values[node.index] = value.contiguous(memory_format=torch.channels_last)
            else:
                values[node.index] = self.run_node(node, values, images, batch, wanted, apart)
            for watch in watches:
                watch.see(node.index, values[node.index])
            if node.index in wanted:
                kept[node.index] = values[node.index]
            for index in node.inputs:
                if self.last_use[index] == node.index:
                    values.pop(index, None)
        return values[self.output], kept

    def run_node(
        self,
        node: Node,
        values: Mapping[int, Any],
        images: torch.Tensor,
        batch: int,
        wanted: set[int] | None = None,
        apart: Container[int] | None = None,
    ) -> Any:
        """One node on whole values; `values` holds what it reads. Writes over its input where nothing else needs it.

        Args:
            wanted: nodes whose values are never written over.
            apart: convolutions that run without their activations; those that are wanted by default.
        """
        if node.rule is Rule.INPUT:
            return images
        if node.rule is Rule.CONSTANT:
            return node.constant
        assert node.function is not None
        function, fusion = node.function, self.fused(node, (wanted or ()) if apart is None else apart)
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
