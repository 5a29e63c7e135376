"""The paper's Figure 5 for any network: how much of each layer an occlusion leaves unchanged."""

from __future__ import annotations

from dataclasses import dataclass

from kryptondb.network.graph import Network
from kryptondb.network.grid import Grid
from kryptondb.network.node import Node
from kryptondb.network.regions import Regions, regions


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


def whole_grid_ratio(network: Network, grid: Grid) -> float:
    """R of a whole grid with each position's own region; 1 for a network that is not traced."""
    return redundancy_table(network, grid)[-1].ratio if network.traced else 1.0


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
