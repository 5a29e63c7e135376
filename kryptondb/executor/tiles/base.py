"""The base: activations of the unoccluded image, materialized once per image (the materialized view).

A run on differences keeps it in full precision, and beside it what clamps need of it in the precision of differences.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch.utils._pytree import tree_leaves

from kryptondb.executor.tiles.regions_on_tensors import Table
from kryptondb.network import Network, Node, Rule
from kryptondb.network.differences import effects_of
from kryptondb.network.finite import Watch, hiding, watched
from kryptondb.network.operators import Bounds


@dataclass(frozen=True, eq=False)
class Clamped:
    """Where a clamp's base lies: `clamp(b + d) - clamp(b)` is `d + offset`, clamped to `low` and `high`.

    These are `b - clamp(b)`, and the bounds minus `clamp(b)`. Rounded, they are off by a part of a difference, not of
    the base: where they count, no difference is smaller than they are.

    Attributes:
        low, high: None where there is no such bound.
    """

    offset: Table
    low: Table | None
    high: Table | None

    @property
    def tables(self) -> list[Table]:
        """All of them."""
        return [table for table in (self.offset, self.low, self.high) if table is not None]


@dataclass(frozen=True, eq=False)
class Base:
    """What an incremental run reads of the unoccluded image.

    Attributes:
        tables: values that regions are read from, by node.
        values: values that are used as they are: means, and what does not depend on the image.
        output: the network's scores, [1, classes].
        clamps: of runs whose regions are differences: what each clamp reads, by node.
        watched: the nodes whose regions are looked at for numbers that are not finite.
        sound: whether there are none in the base. If there are, sums and differences with it mean nothing.
    """

    tables: dict[int, Table]
    values: dict[int, torch.Tensor]
    output: torch.Tensor
    clamps: dict[int, Clamped] = field(default_factory=dict)
    watched: frozenset[int] = frozenset()
    sound: bool = True

    @property
    def main_memory(self) -> int:
        """Bytes of main memory that it takes; none on a GPU."""
        tables = [*self.tables.values(), *(table for clamp in self.clamps.values() for table in clamp.tables)]
        leaves = tree_leaves([*(table.rows for table in tables), *self.values.values(), self.output])
        return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu")


def read_nodes(network: Network, differences: Iterable[int] = ()) -> dict[int, tuple[float, ...]]:
    """The nodes whose regions some operator reads from the base, with what is outside them for their readers.

    Args:
        differences: convolutions that add to their own base output.
    """
    outside: dict[int, set[float]] = {index: {0.0} for index in differences}
    for node in network.nodes:
        if node.rule is Rule.POINTWISE and network.regional[node.index]:
            continue
        for index in node.inputs:
            if network.regional[index]:
                known = outside.setdefault(index, {0.0})
                if node.window is not None:
                    known.add(node.window.outside)
    return {index: tuple(sorted(numbers)) for index, numbers in outside.items()}


def materialize(network: Network, image: torch.Tensor, differences: Iterable[int] = ()) -> Base:
    """Runs the unoccluded image [1, C, H, W] and keeps what incremental inference reads.

    What a convolution from differences adds to is computed in the way that rounds least: all cells inherit its errors.
    """
    differences = frozenset(differences)
    tables = read_nodes(network, differences)
    plain = used_as_they_are(network)
    watch = Watch(watched(network, hiding(network) | differences, True))
    output, kept = network.run(image, keep=set(tables) | plain, planar=differences, watch=watch)
    held = {index: kept[index] for index in plain}
    return Base(
        tables_of(network, tables, kept, plain),
        held,
        output,
        watched=watch.nodes,
        sound=watch.is_sound and not network.damaged,
    )


def base_bytes(network: Network, element_bytes: int, differences: Iterable[int] = ()) -> int:
    """Bytes that the base's tables take."""
    return elements_of(network, read_nodes(network, differences)) * element_bytes


def elements_of(network: Network, indices: Iterable[int]) -> int:
    """Elements of some nodes' values together, for one image."""
    nodes = (network.nodes[index] for index in indices)
    return sum(node.channels * node.height * node.width for node in nodes)


def used_as_they_are(network: Network) -> set[int]:
    """The nodes whose base values no region is read from: means, and what does not depend on the image."""
    return {
        node.index
        for node in network.nodes
        if node.rule is Rule.AVERAGE or (node.rule is not Rule.CONSTANT and not network.varying[node.index])
    }


def tables_of(
    network: Network, outside: Mapping[int, tuple[float, ...]], kept: dict[int, torch.Tensor], plain: Container[int]
) -> dict[int, Table]:
    """The tables of some nodes; values that nothing else is wanted of are freed on the way."""
    found: dict[int, Table] = {}
    for index, numbers in outside.items():
        axes = network.nodes[index].axes
        assert axes is not None  # regional nodes are pictures
        found[index] = Table.of(kept[index] if index in plain else kept.pop(index), axes, numbers)
    return found


def materialize_for_differences(network: Network, image: torch.Tensor, dtype: torch.dtype) -> Base:
    """Runs the unoccluded image [1, C, H, W] and keeps what a run reads whose regions hold differences in `dtype`."""
    tables, clamps = read_whole_nodes(network), effects_of(network).clamps
    plain = used_as_they_are(network)
    effects = effects_of(network)
    watch = Watch(watched(network, hiding(network) | effects.linear | effects.whole | frozenset(clamps), True))
    output, kept = network.run(image, keep=nodes_for_differences(network) | plain, watch=watch)
    clamped = {index: _clamped(network.nodes[index], kept, bounds, dtype) for index, bounds in clamps.items()}
    held = {index: kept[index] for index in plain}
    return Base(
        tables_of(network, tables, kept, plain),
        held,
        output,
        clamped,
        watch.nodes,
        watch.is_sound and not network.damaged,
    )


def nodes_for_differences(network: Network) -> set[int]:
    """The nodes whose values a run of differences makes tables of."""
    return {*read_whole_nodes(network), *(network.nodes[index].inputs[0] for index in effects_of(network).clamps)}


def read_whole_nodes(network: Network) -> dict[int, tuple[float, ...]]:
    """The nodes that are read in the base's precision, with what is outside them for their readers."""
    effects = effects_of(network)
    images = {node.index for node in network.nodes if node.rule is Rule.INPUT}
    outside: dict[int, set[float]] = {index: {0.0} for index in images | effects.whole | effects.read_whole}
    for node in (network.nodes[index] for index in effects.whole):
        if node.window is not None:
            for index in node.inputs:
                if network.regional[index]:
                    outside[index].add(node.window.outside)
    return {index: tuple(sorted(numbers)) for index, numbers in outside.items()}


def bytes_for_differences(network: Network, element_bytes: int, rounded_bytes: int) -> int:
    """Bytes that the base's tables take; of those for clamps a number has `rounded_bytes`."""
    bounds = effects_of(network).clamps
    kept = elements_of(network, read_whole_nodes(network)) * element_bytes
    rounded = sum(elements_of(network, [index]) * tables_of_clamp(node_bounds) for index, node_bounds in bounds.items())
    return kept + rounded * rounded_bytes


def tables_of_clamp(bounds: Bounds) -> int:
    """How many tables a clamp reads."""
    return 1 + sum(map(isfinite, bounds))


def _clamped(node: Node, kept: Mapping[int, torch.Tensor], bounds: Bounds, dtype: torch.dtype) -> Clamped:
    base, axes = kept[node.inputs[0]], node.axes
    assert axes is not None
    clamped = base.clamp(*bounds)
    low, high = (Table.of((bound - clamped).to(dtype), axes, ()) if isfinite(bound) else None for bound in bounds)
    return Clamped(Table.of((base - clamped).to(dtype), axes, ()), low, high)
