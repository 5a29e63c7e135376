"""The base of a run on differences: in full precision, and what clamps need of it in the precision of differences."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import torch

from kryptondb.executor.tiles.base import Base, Clamped, elements_of, tables_of, used_as_they_are
from kryptondb.executor.tiles.regions_on_tensors import Table
from kryptondb.network import Network, Node, Rule
from kryptondb.network.differences import effects_of
from kryptondb.network.finite import Watch, hiding, watched
from kryptondb.network.operators import Bounds


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
    rounded = sum(elements_of(network, [index]) * tables_of_clamp(each) for index, each in bounds.items())
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
