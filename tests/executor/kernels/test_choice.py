"""The algorithm of each layer as a choice by cost, and what plans say of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kryptondb.executor.kernels.choice import SMALL, blocks_for, transformable
from kryptondb.executor.operators import Full, Incremental
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.cost import LayerRate, Rates, layer_shapes
from kryptondb.optimizer.workload import Workload
from tests.executor.test_operators import full_mask, run
from tests.networks import family, for_families, traced_family

GRID = Grid(48, 48, (8, 8), (4, 4))


def resnet() -> Network:
    return trace(family("resnet18").eval(), (3, 48, 48))


def rates(network: Network, direct: float, winograd: float) -> Rates:
    return Rates(
        layers=tuple(
            LayerRate(shape, name, speed)
            for shape in layer_shapes(network)
            for name, speed in (("direct", direct), ("winograd 4", winograd))
        )
    )


def planned(network: Network, known: Rates, **hints: object) -> Incremental:
    workload = Workload(network, GRID, None, 1, "cpu", 1 << 32)
    (operator,) = Incremental.candidates(workload, known, hints)
    return operator


@pytest.mark.slow
def test_the_algorithm_that_was_measured_faster_is_chosen_layer_by_layer() -> None:
    network = resnet()
    able = [node.index for node in network.nodes if transformable(network, node) is not None]
    assert planned(network, rates(network, 1e9, 1e15)).winograd != ()
    assert sorted(planned(network, rates(network, 1e9, 1e15)).blocks) == able
    assert planned(network, rates(network, 1e15, 1e9)).winograd == ()


@pytest.mark.slow
def test_a_hint_leaves_every_convolution_to_torch() -> None:
    network = resnet()
    assert planned(network, rates(network, 1e9, 1e15), convolution="direct").winograd == ()


@pytest.mark.slow
def test_a_hint_takes_small_blocks_alone() -> None:
    network = resnet()
    rated = rates(network, 1e6, 1e10).layers
    large = [LayerRate(layer.shape, "winograd 6", 1e15) for layer in rated if layer.algorithm == "winograd 4"]
    fast = Rates(layers=(*rated, *large))
    assert any(max(block) > SMALL for block in planned(network, fast).blocks.values())
    careful = planned(network, fast, convolution="accurate").blocks
    assert careful.keys() == planned(network, fast).blocks.keys()
    assert all(max(block) <= SMALL for block in careful.values())


def test_float64_is_computed_directly() -> None:
    network = resnet().to("cpu", torch.float64)
    workload = Workload(network, GRID, None, 1, "cpu", 1 << 32, "float64")
    (operator,) = Incremental.candidates(workload, rates(network, 1e9, 1e15), {})
    assert operator.winograd == ()


@pytest.mark.slow
def test_explain_counts_the_layers() -> None:
    network = resnet()
    operator = planned(network, rates(network, 1e9, 1e15))
    workload = Workload(network, GRID, None, 1, "cpu", 1 << 32)
    assert f"Winograd in {len(operator.winograd)} layers" in operator.describe(workload)


@for_families("alexnet", "vgg11_bn", "resnet18", "squeezenet1_1", "googlenet", "inception_v3")
def test_winograd_in_every_layer_that_can_agrees_with_full_on_every_convolutional_family(name: str) -> None:
    subject = traced_family(name)
    network, image, size = subject.network, subject.image, subject.size
    grid = Grid(size, size, (size // 4, size // 4), (size // 3, size // 3))
    able = {node.index: shape for node in network.nodes if (shape := transformable(network, node)) is not None}
    assert able
    full = run(Full(4), network, image, grid, full_mask(grid))
    for place in (0, -1):
        winograd = tuple((index, *blocks_for(shape.kernel)[place]) for index, shape in able.items())
        found = run(Incremental((2, 2), winograd, 4), network, image, grid, full_mask(grid))
        np.testing.assert_allclose(found, full, atol=1e-4, rtol=0)
