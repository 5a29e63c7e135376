"""What whole images cost, through the whole network: the naive way, and the base."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from kryptondb.executor.tiles.footprint import elements_moved, guessed_elements, value_elements
from kryptondb.executor.tiles.layer_costs import flops_per_second, pooling_seconds
from kryptondb.network import Network
from kryptondb.network.fused import Fusion, hands_on
from kryptondb.optimizer.cost import Rates


def whole_seconds(
    network: Network,
    batch: int,
    rates: Rates,
    element_bytes: int,
    fusions: Mapping[int, Fusion] = MappingProxyType({}),
) -> float:
    """Seconds of one inference of `batch` images together; what is in `fusions` runs inside its convolution."""
    if not network.traced:  # a guess; nothing is known of its nodes
        moved = 2.0 * guessed_elements(network) * element_bytes
        return rates.seconds(batch * network.flops, batch * moved + network.parameter_bytes, 1)
    computing = sum(node.total_flops / flops_per_second(network, node, rates) for node in network.nodes if node.flops)
    computing += sum(pooling_seconds(node, value_elements(node), rates, element_bytes) for node in network.nodes)
    moved_by = [0 if hands_on(fusions, node) else elements_moved(network, node) for node in network.nodes]
    elements = np.array(moved_by, dtype=np.float64)
    moving = float(rates.moving(batch * element_bytes * elements).sum())
    return batch * computing + moving + rates.seconds(0.0, network.parameter_bytes, len(network.nodes))
