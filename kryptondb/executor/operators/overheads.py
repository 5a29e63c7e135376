"""What a tile costs however small its work: operators are launched, rectangles gathered, regions laid over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from kryptondb.executor.operators.layer_costs import Blocks
from kryptondb.executor.operators.tilings import Tiling, is_completed
from kryptondb.network import Network, Node, Rule
from kryptondb.network.fused import Fusion, hands_on
from kryptondb.optimizer.cost import Rates

_CALLS = 16  # operators that one convolution from differences launches


def overhead_seconds(
    tiling: Tiling, blocks: Blocks, rates: Rates, fusions: Mapping[int, Fusion] = MappingProxyType({})
) -> float:
    """Seconds that all tiles take beside their work. Workers do not share them: Python runs one line at a time."""
    network = tiling.network
    steps = cell_steps(network)
    grid = tiling.extents.regions.grid
    rows = np.array([len(tile.rows) for tile in tiling.tiles])
    cols = np.array([len(tile.cols) for tile in tiling.tiles])
    calls = np.zeros(len(tiling.tiles))
    gathers, overlays = calls.copy(), calls.copy()
    for node in network.nodes:
        if node.rule is Rule.CONSTANT or not network.varying[node.index] or hands_on(fusions, node, blocks):
            continue
        calls += _CALLS if node.index in blocks else 1
        reads = _reads(tiling, node, blocks)
        gathers += reads
        if node.rule is not Rule.AVERAGE and node.index not in blocks:
            kinds = [step // math.gcd(step, along) for step, along in zip(steps[node.index], grid.stride, strict=True)]
            groups = np.minimum(rows, kinds[0]) * np.minimum(cols, kinds[1])
            overlays += reads * np.minimum(groups, tiling.positions)
    totals = (float(each.sum()) for each in (calls, gathers, overlays))
    costs = (rates.seconds_per_call, rates.seconds_per_gather, rates.seconds_per_overlay)
    return sum(total * cost for total, cost in zip(totals, costs, strict=True))


def _reads(tiling: Tiling, node: Node, blocks: Blocks) -> np.ndarray:
    """How often each tile gathers rectangles for a node."""
    heights, widths = tiling.sizes
    network = tiling.network
    if node.rule is Rule.MERGE and network.regional[node.index]:
        branches = [i for i in node.inputs if network.regional[i]]
        reads: np.ndarray = np.sum([is_completed(heights, widths, i, node.index) for i in branches], axis=0)
        return reads
    gathers = node.index in blocks or node.rule is Rule.AVERAGE or bool(tiling.gathered(node.index).any())
    return np.full(len(tiling.tiles), int(gathers))


def cell_steps(network: Network) -> list[tuple[int, int]]:
    """For each node, how many pixels lie between neighbouring cells, down and across; 1 where there are none."""
    steps: list[tuple[int, int]] = []
    for node in network.nodes:
        before = [steps[i] for i in node.inputs if network.regional[i]]
        y, x = max((step[0] for step in before), default=1), max((step[1] for step in before), default=1)
        if node.window is not None and network.regional[node.index]:
            y, x = y * node.window.y.stride, x * node.window.x.stride
        steps.append((y, x))
    return steps
