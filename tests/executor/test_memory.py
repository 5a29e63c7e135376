"""What plans are estimated to hold, beside the tensors that are alive while they run, counted one by one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from kryptondb.executor.kernels.choice import blocks_for, transformable
from kryptondb.executor.operators import Full, ImageContext, Incremental
from kryptondb.executor.tiles import tile_memory
from kryptondb.executor.tiles.footprint import Footprint, full_footprint
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Workload
from kryptondb.process import memory
from kryptondb.process.memory import MemoryMeter
from tests.executor.living import Living
from tests.networks import family

SIZE = 48


@lru_cache(maxsize=8)
def traced(name: str) -> Network:
    network = trace(family(name).eval(), (3, SIZE, SIZE))
    assert network.traced, network.failure
    return network


def workload(network: Network, limit: int = 1 << 40) -> Workload:
    return Workload(network, Grid(SIZE, SIZE, (8, 8), (4, 4)), None, 1, "cpu", limit)


def run(operator: Full | Incremental, work: Workload, memory: int = 0) -> int:
    """The most bytes alive at once in a run of an operator, which may hold so many."""
    image = torch.randn(1, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)

    def patches(ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
        return torch.zeros(len(ys), 3, 8, 8).contiguous(memory_format=torch.channels_last)

    context = ImageContext(work.network, work.grid, work.mask, image, patches, lambda out: out[:, :1].double().numpy())
    context.memory = memory
    if operator.rounded:
        context.rounded = work.network.to("cpu", torch.bfloat16)
    with torch.inference_mode(), Living() as living:
        operator.prepare(context)
        for _ in operator.run(context):
            pass
    return int(living.peak)


def everywhere(network: Network) -> tuple[tuple[int, int, int], ...]:
    """Every convolution that can be is computed from differences, in its largest blocks."""
    shapes = ((node.index, transformable(network, node)) for node in network.nodes)
    return tuple((index, *blocks_for(shape.kernel)[-1]) for index, shape in shapes if shape is not None)


@pytest.fixture(autouse=True)
def _libraries_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library allocates inside an operator is no tensor: it cannot be counted here."""
    monkeypatch.setattr(tile_memory, "scratch_bytes", lambda network, node: 0)


def agree(held: int, expected: int) -> bool:
    """A footprint bounds what is alive, but for a few small things, and is not far above it."""
    return 0.6 * expected <= held <= 1.05 * expected + 65536


@pytest.mark.parametrize(
    ("name", "differences"),
    [("resnet18", False), ("mobilenet_v3_small", False), ("googlenet", True)],
)
def test_an_incremental_run_holds_what_its_footprint_says(name: str, differences: bool) -> None:
    network = traced(name)
    operator = Incremental((4, 4), everywhere(network) if differences else (), 64 if network.head else 0)
    work = workload(network)
    assert agree(run(operator, work), operator.footprint(work).alive)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "googlenet", "vgg11"])
def test_a_run_on_rounded_differences_holds_what_its_footprint_says(name: str) -> None:
    network = traced(name)
    operator = Incremental((4, 4), (), 64 if network.head else 0, rounded=True)
    work = replace(workload(network), precision="bfloat16")
    assert agree(run(operator, work), operator.footprint(work).alive)


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_a_full_run_holds_what_its_footprint_says(name: str) -> None:
    network = traced(name)
    assert agree(run(Full(8), workload(network)), full_footprint(network, 8, 4).alive)


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
@pytest.mark.parametrize("kind", [Incremental, Full])
def test_the_next_image_takes_what_its_footprint_says_while_it_is_set_up(
    name: str, kind: type[Full] | type[Incremental]
) -> None:
    work = workload(traced(name))
    operator = Incremental((4, 4)) if kind is Incremental else Full(8)
    incremental = isinstance(operator, Incremental)
    footprint = operator.footprint(work) if incremental else full_footprint(work.network, 8, 4)
    cost = operator.estimate(work, Rates())
    image = torch.randn(1, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    context = ImageContext(
        work.network, work.grid, work.mask, image, lambda ys, xs: image, lambda out: out.double().numpy()
    )
    with torch.inference_mode(), Living() as living:
        operator.prepare(context)
    # Values become tables one by one: all of both are never there at once, as the footprint has it.
    assert 0.4 * footprint.base <= living.peak <= 1.05 * footprint.base + 65536
    assert cost.ahead == footprint.ahead > footprint.base


def test_smaller_tiles_smaller_heads_and_fewer_transformed_layers_need_less() -> None:
    network = traced("googlenet")
    work = workload(network)
    plans = [Incremental((4, 4), everywhere(network), 64), Incremental((4, 4), (), 64), Incremental((2, 2), (), 0)]
    needs = [plan.estimate(work, Rates()).memory for plan in plans]
    assert needs == sorted(needs, reverse=True) and len(set(needs)) == 3


@pytest.mark.parametrize("limit", [48 << 20, 64 << 20, 1 << 30])
def test_a_plan_keeps_to_the_limit(limit: int) -> None:
    work = workload(traced("googlenet"), limit)
    (incremental,), (full,) = (kind.candidates(work, Rates(), {}) for kind in (Incremental, Full))
    assert incremental.estimate(work, Rates()).memory <= limit
    assert full.estimate(work, Rates()).memory <= limit


def test_a_run_gives_free_memory_back_before_it_exceeds_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    held, given_back = 1000, []
    monkeypatch.setattr(memory, "anonymous_bytes", lambda: held)
    monkeypatch.setattr(memory, "release_free_memory", lambda: given_back.append(held))
    guard = memory.MemoryGuard(before=900, budget=200, needed=[0, 50, 150])
    for node in range(3):
        guard.before(node)
    assert given_back == [1000], "only the last node would take the run beyond 900 + 200"


@pytest.mark.parametrize("operator", [Full(8), Incremental((4, 4))])
def test_a_run_keeps_more_at_hand_where_its_plan_may_hold_more(
    operator: Full | Incremental, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[int] = []

    class Watched(memory.MemoryGuard):
        def __init__(self, before: int | None, budget: int, needed: Sequence[int]) -> None:
            budgets.append(budget)
            super().__init__(before, budget, needed)

    monkeypatch.setattr("kryptondb.executor.operators.context.MemoryGuard", Watched)
    work = workload(traced("squeezenet1_1"))
    cost = operator.estimate(work, Rates())
    for allowed in (0, cost.memory + 1000):
        run(operator, work, allowed)
    assert budgets == [cost.memory, cost.memory + 1000]


def test_large_plans_have_use_for_room_and_small_ones_have_it_already() -> None:
    assert Footprint(1 << 20, ()).room == 0
    large = Footprint(1 << 30, ())
    assert large.budget < 2 << 30 and large.budget + large.room == 6 << 30


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system tells less")
def test_the_meter_counts_what_came_after_the_beginning_and_went_again() -> None:
    before = torch.ones(8 << 20)
    meter = MemoryMeter()
    meter.begin()
    during = torch.ones(16 << 20)
    del during
    meter.sample()
    assert meter.query_peak is not None
    assert 60e6 < meter.query_peak < 80e6
    assert before.numel()
