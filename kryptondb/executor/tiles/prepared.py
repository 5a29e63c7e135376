"""Weights prepared once: what convolutions from differences multiply with, kept as long as their network is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from weakref import WeakKeyDictionary

from kryptondb.executor.kernels.algorithms import weight_of
from kryptondb.executor.kernels.winograd import Block, Winograd
from kryptondb.network import Network

_kept: WeakKeyDictionary[Network, dict[tuple[int, Block], Winograd]] = WeakKeyDictionary()


def prepared_layers(
    network: Network, blocks: Mapping[int, Block], beside: Collection[tuple[int, Block]] = ()
) -> dict[int, Winograd]:
    """The transformed weights of some convolutions, by node.

    Those of a network's last plan are kept, and no others. Where a plan has several operators, they take turns.

    Args:
        beside: what the plan's other operators need, with their blocks; what there is of it stays.
    """
    before = _kept.get(network, {})
    layers = {
        index: before.get((index, block)) or Winograd.prepare(weight_of(network, network.nodes[index]), block)
        for index, block in blocks.items()
    }
    others = {layer: weights for layer, weights in before.items() if layer in beside}
    _kept[network] = others | {(index, blocks[index]): layer for index, layer in layers.items()}
    return layers
