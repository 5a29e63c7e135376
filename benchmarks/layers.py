"""The layers of one plan, each with what was measured, what was expected, and what it would take at the least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.ceiling import Ceiling
from kryptondb.executor.kernels.choice import transformable
from kryptondb.executor.kernels.winograd import blocks_of
from kryptondb.executor.operators import Incremental
from kryptondb.executor.tiles.costs import node_seconds
from kryptondb.executor.tiles.tiles import Tile
from kryptondb.executor.tiles.tilings import Tiling
from kryptondb.network import Network, Node, Rule
from kryptondb.network.fused import Fusion
from kryptondb.optimizer.cost import Rates, shape_of

ELEMENT_BYTES = 4  # float32


@dataclass(frozen=True)
class Layer:
    """One node of the network; numbers are means over positions.

    Attributes:
        name, operator, shape: what it is.
        algorithm: how a convolution is computed; empty for all others.
        region: rows and columns that the middle tile recomputes.
        in_head: whether it runs on vectors, several tiles together.
        operations: a position, convolutions counted as direct ones.
        seconds, bound, estimate: a position: measured, at the ceiling, and as the planner expects.
    """

    name: str
    operator: str
    shape: str
    algorithm: str
    region: str
    in_head: bool
    operations: float
    seconds: float
    bound: float
    estimate: float


def layers_of(
    plan: Incremental,
    whole: Tiling,
    measured: Sequence[Tiling],
    seconds: Mapping[int, float],
    ceiling: Ceiling,
    rates: Rates,
    fusions: Mapping[int, Fusion],
) -> list[Layer]:
    """Every node that is not a constant, in the order in which they run.

    Args:
        whole: the tiles of the whole grid.
        measured: the tiles that ran, band by band.
        seconds: that each node took in all of them.
        fusions: activations that run inside their convolutions.
    """
    network = whole.network
    positions = sum(int(tiling.total(tiling.positions)) for tiling in measured)
    estimates = dict.fromkeys(range(len(network.nodes)), 0.0)
    for tiling in measured:
        for node, expected in node_seconds(tiling, plan.blocks, rates, ELEMENT_BYTES, plan.workers, fusions):
            estimates[node.index] += expected
    heights, widths = whole.extents.sizes(_middle(whole))
    layers = []
    for node in network.nodes:
        if node.rule is Rule.CONSTANT:
            continue
        index = node.index
        operations = node.flops * sum(tiling.total(tiling.locations(index)) for tiling in measured)
        bound = operations / ceiling.direct
        if index in plan.blocks:
            products = sum(products_of(tiling, node, plan.blocks[index]) for tiling in measured)
            bound = min(bound, products / ceiling.product)
        layers.append(
            Layer(
                name=node.name,
                operator=node.operator,
                shape=_shape(network, node),
                algorithm=_algorithm(network, node, plan),
                region=f"{heights[index]} x {widths[index]}" if network.regional[index] else "",
                in_head=bool(plan.head) and network.head is not None and index > network.head,
                operations=operations / positions,
                seconds=seconds.get(index, 0.0) / positions,
                bound=bound / positions,
                estimate=estimates[index] / positions,
            )
        )
    return layers


def products_of(tiling: Tiling, node: Node, block: tuple[int, int]) -> float:
    """Operations of the matrix products that a convolution from differences takes over all tiles."""
    shape = transformable(tiling.network, node)
    assert shape is not None
    heights, widths = tiling.region(node.inputs[0])
    blocks = blocks_of(heights, block[0]) * blocks_of(widths, block[1]) * tiling.positions
    points = np.prod([cells + taps - 1 for cells, taps in zip(block, shape.kernel, strict=True)])
    return float(tiling.total(blocks) * points * 2.0 * shape.in_channels * shape.out_channels)


def _middle(tiling: Tiling) -> Tile:
    """The tile that holds the middle of the grid."""
    grid = tiling.extents.regions.grid
    return next(tile for tile in tiling.tiles if grid.rows // 2 in tile.rows and grid.cols // 2 in tile.cols)


def _shape(network: Network, node: Node) -> str:
    shape = shape_of(node, network)
    if shape is not None:
        return str(shape)
    read = [network.nodes[index].channels for index in node.inputs if network.nodes[index].rule is not Rule.CONSTANT]
    return f"{' + '.join(str(channels) for channels in read)} -> {node.channels}" if read else str(node.channels)


def _algorithm(network: Network, node: Node, plan: Incremental) -> str:
    if node.index in plan.blocks:
        rows, columns = plan.blocks[node.index]
        return f"Winograd {rows} x {columns}"
    return "direct" if shape_of(node, network) is not None else ""
