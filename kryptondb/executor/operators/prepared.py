"""Weights prepared once: what convolutions from differences multiply with, kept as long as their network is."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from kryptondb.executor.convolutions.algorithms import weight_of
from kryptondb.executor.convolutions.winograd import Block, Winograd
from kryptondb.network import Network

_kept: WeakKeyDictionary[Network, dict[tuple[int, Block], Winograd]] = WeakKeyDictionary()


def prepared_layers(network: Network, blocks: Mapping[int, Block]) -> dict[int, Winograd]:
    """The transformed weights of some convolutions, by node. Those of a network's last plan are kept, and no others."""
    before = _kept.get(network, {})
    layers = {
        index: before.get((index, block)) or Winograd.prepare(weight_of(network, network.nodes[index]), block)
        for index, block in blocks.items()
    }
    _kept[network] = {(index, blocks[index]): layer for index, layer in layers.items()}
    return layers
