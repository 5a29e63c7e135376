"""Operations of what the algebra does not know by formula: attention, matrix products of the dense tail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from kryptondb.network.graph import Network
from kryptondb.network.node import Rule


def with_measured_flops(network: Network, image: torch.Tensor) -> Network:
    """The network with the operations of its dense operators counted while they run once on `image`, [1, C, H, W]."""
    unknown = {node.index for node in network.nodes if node.rule is Rule.DENSE and node.flops == 0.0}
    if not unknown:
        return network
    counted: dict[int, float] = {}
    values: dict[int, Any] = {}
    with torch.inference_mode():
        for node in network.nodes:
            if node.index in unknown:
                with FlopCounterMode(display=False) as counter:
                    values[node.index] = network.run_node(node, values, image, 1)
                counted[node.index] = float(counter.get_total_flops())
            else:
                values[node.index] = network.run_node(node, values, image, 1)
            _forget(values, (i for i in node.inputs if network.last_use[i] == node.index))
    return replace(network, nodes=tuple(replace(n, flops=counted.get(n.index, n.flops)) for n in network.nodes))


def _forget(values: dict[int, Any], indices: Iterable[int]) -> None:
    for index in indices:
        values.pop(index, None)
