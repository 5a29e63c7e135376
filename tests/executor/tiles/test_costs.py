"""What activations cost: nothing where they run inside the convolution before them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from kryptondb.executor.operators import Full, Incremental
from kryptondb.executor.tiles.costs import node_seconds
from kryptondb.executor.tiles.tilings import tiling_of
from kryptondb.network import Grid, fused, trace
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Workload

pytestmark = pytest.mark.skipif(not fused.can_fuse(), reason="this build of torch has no oneDNN")


@pytest.fixture(scope="module")
def work() -> Workload:
    """One convolution of 3 x 3 with its activation."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Workload(trace(module.eval(), (3, 16, 16)), Grid(16, 16, (4, 4), (4, 4)), None, 1, "cpu", 1 << 40)


def seconds_of(work: Workload, operator: str, blocks: dict[int, tuple[int, int]]) -> float:
    tiling = tiling_of(work.network, work.grid, work.cells, (2, 2))
    every = node_seconds(tiling, blocks, Rates(), work.element_bytes, 1, work.fusions)
    return next(seconds for node, seconds in every if node.operator == operator)


def convolution_of(work: Workload) -> int:
    return next(node.index for node in work.network.nodes if node.operator == "conv2d")


def test_an_activation_inside_a_convolution_costs_nothing(work: Workload) -> None:
    assert seconds_of(work, "relu", {}) == 0 < seconds_of(work, "conv2d", {})


def test_behind_a_convolution_from_differences_it_has_its_price(work: Workload) -> None:
    assert seconds_of(work, "relu", {convolution_of(work): (2, 2)}) > 0


@pytest.mark.parametrize("elsewhere", [{"device": "cuda"}, {"precision": "float64"}])
def test_elsewhere_it_has_its_price_too(work: Workload, elsewhere: dict[str, str]) -> None:
    other = replace(work, **elsewhere)
    assert not other.fusions and seconds_of(other, "relu", {}) > 0


def test_whole_plans_are_cheaper_where_activations_run_inside(work: Workload) -> None:
    rates, apart = Rates(), replace(work, device="cuda")
    for operator in (Full(4), Incremental((2, 2))):
        assert operator.estimate(work, rates).seconds < operator.estimate(apart, rates).seconds
