"""The base: activations of the unoccluded image, materialized once per image (the materialized view)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from kryptondb.executor.operators.regions_on_tensors import Table
from kryptondb.network import Network, Rule


@dataclass(frozen=True, eq=False)
class Base:
    """What an incremental run reads of the unoccluded image.

    Attributes:
        tables: values that regions are read from, by node.
        values: values that are used as they are: means, and what does not depend on the image.
        output: the network's scores, [1, classes].
    """

    tables: dict[int, Table]
    values: dict[int, torch.Tensor]
    output: torch.Tensor

    @property
    def main_memory(self) -> int:
        """Bytes of main memory that it takes; none on a GPU."""
        tensors = [*(table.rows for table in self.tables.values()), *self.values.values(), self.output]
        return sum(each.nbytes for each in tensors if each.device.type == "cpu")


def read_nodes(network: Network, differences: Iterable[int] = ()) -> dict[int, tuple[float, ...]]:
    """The nodes whose regions some operator reads from the base, with what is outside them for their readers.

    Args:
        differences: convolutions that add to their own base output.
    """
    outside: dict[int, set[float]] = {index: {0.0} for index in differences}
    for node in network.nodes:
        if node.rule is Rule.LOCAL and network.regional[node.index]:
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
    differences = set(differences)
    tables = read_nodes(network, differences)
    plain = {
        node.index
        for node in network.nodes
        if node.rule is Rule.AVERAGE or (node.rule is not Rule.CONSTANT and not network.varying[node.index])
    }
    output, kept = network.run(image, keep=set(tables) | plain, planar=differences)
    found: dict[int, Table] = {}
    for index, outside in tables.items():
        axes = network.nodes[index].axes
        assert axes is not None  # regional nodes are pictures
        found[index] = Table.of(kept.pop(index) if index not in plain else kept[index], axes, outside)
    return Base(found, {index: kept[index] for index in plain}, output)


def base_bytes(network: Network, element_bytes: int, differences: Iterable[int] = ()) -> int:
    """Bytes that the base's tables take."""
    nodes = (network.nodes[index] for index in read_nodes(network, differences))
    return sum(node.channels * node.height * node.width for node in nodes) * element_bytes
