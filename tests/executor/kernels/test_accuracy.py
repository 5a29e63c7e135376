"""Which layers Winograd's method may compute: those that it computes accurately."""

from __future__ import annotations

import gc
import weakref

import torch
from torch import nn

from kryptondb.executor.kernels.choice import (
    SMALL,
    TOLERANCE,
    blocks_for,
    error_of,
    is_accurate,
    transformable,
    weight_of,
)
from kryptondb.executor.operators import Incremental
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.cost import LayerRate, LayerShape, Rates
from kryptondb.optimizer.workload import Workload


def network_of(*layers: nn.Module, size: int = 24) -> Network:
    torch.manual_seed(0)
    return trace(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3)).eval(), (3, size, size)
    )


def convolutions(network: Network) -> list[int]:
    return [node.index for node in network.nodes if node.operator == "conv2d"]


def test_only_dense_convolutions_of_stride_1_can_be_transformed() -> None:
    network = network_of(
        nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 3, stride=2), nn.ReLU(),
        nn.Conv2d(32, 32, 3, groups=4), nn.Conv2d(32, 32, 3, dilation=2, padding=2), nn.Conv2d(32, 32, (1, 7)),
    )  # fmt: skip
    able = [transformable(network, network.nodes[index]) is not None for index in convolutions(network)]
    assert able == [True, False, False, False, False, True]


def test_a_convolution_of_the_dense_tail_is_left_alone() -> None:
    network = network_of(nn.Conv2d(3, 32, 3), nn.ConvTranspose2d(32, 32, 2), nn.Conv2d(32, 32, 3))
    first, second = (network.nodes[index] for index in convolutions(network))
    assert transformable(network, first) is not None and transformable(network, second) is None


def test_every_block_of_an_ordinary_layer_is_accurate() -> None:
    network = network_of(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    for index in convolutions(network):
        for block in blocks_for((3, 3)):
            assert 1e-8 < error_of(network, index, block) < TOLERANCE, block


def test_small_blocks_round_less() -> None:
    network = network_of(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    index = convolutions(network)[-1]
    errors = {block: error_of(network, index, block) for block in blocks_for((3, 3))}
    assert max(error for block, error in errors.items() if max(block) <= SMALL) < max(errors.values()) / 2


def spoilt() -> tuple[Network, int]:
    """A layer of second differences behind one that adds a thousand: of what it sums up next to nothing is left."""
    first, second = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3)
    network = network_of(first, second)
    index = convolutions(network)[-1]
    pattern = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    weight_of(network, network.nodes[index]).copy_(pattern.expand(32, 32, 3, 3))
    bias = network.nodes[convolutions(network)[0]].args[2]
    constant = network.nodes[bias.index].constant
    assert constant is not None
    constant.fill_(1000.0)
    return network, index


def test_a_layer_whose_sums_cancel_is_found_out_by_its_own_weights_and_activations() -> None:
    network, index = spoilt()
    assert not all(is_accurate(network, index, block) for block in blocks_for((3, 3)))


def test_the_planner_takes_no_block_that_is_not_accurate() -> None:
    network, index = spoilt()
    shape = LayerShape(32, 32)
    fast = Rates(layers=(LayerRate(shape, "winograd 4", 1e15), LayerRate(shape, "direct", 1e6)))
    workload = Workload(network, Grid(24, 24, (4, 4), (4, 4)), None, 1, "cpu", 1 << 30)
    (operator,) = Incremental.candidates(workload, fast, {})
    assert all(is_accurate(network, node, block) for node, block in operator.blocks.items())


def test_a_network_that_overflows_is_never_accurate() -> None:
    network = network_of(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3))
    index = convolutions(network)[-1]
    weight_of(network, network.nodes[index]).fill_(float("inf"))
    assert error_of(network, index, (4, 4)) == float("inf")


def test_a_network_goes_though_its_layers_were_tried() -> None:
    network = network_of(nn.Conv2d(3, 32, 3))
    (index,) = convolutions(network)
    error_of(network, index, (2, 2))
    reference = weakref.ref(network)
    network.forget()
    del network
    gc.collect()
    assert reference() is None
