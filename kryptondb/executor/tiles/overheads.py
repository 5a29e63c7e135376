"""What a tile costs however small its work: operators are launched, rectangles gathered, weights read."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kryptondb.executor.kernels.algorithms import weight_of
from kryptondb.executor.tiles.layer_costs import Blocks, weight_elements
from kryptondb.executor.tiles.tilings import Tiling
from kryptondb.network import Network, Node, Rule
from kryptondb.network.fused import Fusion, hands_on
from kryptondb.optimizer.cost import Rates

#: Rates are measured in loops that do nothing else. In a query all that surrounds an operator (where its region lies,
#: what it reads, which algorithm takes it) finds other things in the caches. A node costs about so many launches, one
#: that is computed from differences so many, and a read so many gathers: fitted to five networks, in tiles of 1 to 36
#: positions.
_CALLS, _CALLS_OF_DIFFERENCES, _GATHERS = 16, 32, 8
#: How often a tile's weights pass through memory, at the rate of a copy: torch lays them out anew for each convolution
#: on a CPU, while transformed ones are read as they lie. Fitted with the above.
_PASSES, _PASSES_OF_DIFFERENCES = 4.0, 2.0


def overhead_seconds(
    tiling: Tiling,
    blocks: Blocks,
    rates: Rates,
    sharing: int,
    fusions: Mapping[int, Fusion],
) -> float:
    """Seconds that all tiles take beside their work.

    Args:
        sharing: how many tiles run side by side. Most of it is spent outside of Python, which runs one line at a time.
        fusions: activations that directly computed convolutions take in.
    """
    network = tiling.network
    steps = cell_steps(network)
    grid = tiling.extents.regions.grid
    examples = [tiling.tiles[number] for number in tiling.examples.tolist()]
    rows = np.array([len(tile.rows) for tile in examples])
    cols = np.array([len(tile.cols) for tile in examples])
    calls = np.zeros(len(examples))
    gathers, overlays = calls.copy(), calls.copy()
    for node in network.nodes:
        if node.rule is Rule.CONSTANT or not network.varying[node.index] or hands_on(fusions, node, blocks):
            continue
        calls += _CALLS_OF_DIFFERENCES if node.index in blocks else _CALLS
        reads = _reads(tiling, node, blocks)
        gathers += _GATHERS * reads
        if node.rule is not Rule.AVERAGE and node.index not in blocks:
            kinds = [step // math.gcd(step, along) for step, along in zip(steps[node.index], grid.stride, strict=True)]
            groups = np.minimum(rows, kinds[0]) * np.minimum(cols, kinds[1])
            overlays += reads * np.minimum(groups, tiling.positions)
    totals = (tiling.total(of_kinds) for of_kinds in (calls, gathers, overlays))
    costs = (rates.seconds_per_call, rates.seconds_per_gather, rates.seconds_per_overlay)
    return sum(total * cost for total, cost in zip(totals, costs, strict=True)) / sharing


def weights_seconds(
    tiling: Tiling, blocks: Blocks, rates: Rates, element_bytes: int, head: int | None, heads: int, device: str
) -> float:
    """Seconds in which weights are read: once a tile, the head's `heads` times.

    Args:
        element_bytes: of a transformed weight.
        head: the node that several tiles' head begins with, if they share one.
        device: a torch device string.
    """
    network = tiling.network
    of_head = _constant_bytes(network, head)
    transformed = sum(weight_of(network, network.nodes[index]).nbytes for index in blocks)
    passes = _PASSES if device == "cpu" else 1.0
    of_tile = passes * max(0, network.parameter_bytes - of_head - transformed)  # layers may share a weight
    of_tile += _PASSES_OF_DIFFERENCES * weight_elements(network, blocks) * element_bytes
    return rates.seconds(0.0, tiling.count * of_tile + heads * passes * of_head, 0)


def _constant_bytes(network: Network, head: int | None) -> int:
    """Bytes of the constants that a head reads; of none without one."""
    if head is None:
        return 0
    read = {i for node in network.nodes[head + 1 :] for i in node.inputs}
    constants = (network.nodes[i].constant for i in read)
    return sum(constant.nbytes for constant in constants if constant is not None)


def _reads(tiling: Tiling, node: Node, blocks: Blocks) -> np.ndarray:
    """How often a tile of each kind gathers rectangles for a node, int64 [kinds]."""
    network = tiling.network
    if node.rule is Rule.MERGE and network.regional[node.index]:
        branches = [i for i in node.inputs if network.regional[i]]
        reads: np.ndarray = np.sum([tiling.completes(i, node.index) for i in branches], axis=0)
        return reads
    gathers = node.index in blocks or node.rule is Rule.AVERAGE or bool(tiling.gathered(node.index).any())
    return np.full(len(tiling.counts), int(gathers))


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
