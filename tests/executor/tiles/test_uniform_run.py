"""Tiles in few shapes, as they stand and from recorded passes, against the operator as it runs on a processor."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kryptondb.errors import ExecutionError, PlanError
from kryptondb.executor.operators import ImageContext, Incremental
from kryptondb.executor.tiles.base import materialize
from kryptondb.executor.tiles.replay import Replays, UniformRun, unrecordable
from kryptondb.executor.tiles.tile_run import TileRun
from kryptondb.executor.tiles.tilings import Tiling
from kryptondb.executor.tiles.uniform import MOST_KINDS, UniformExtents
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.plan_json import decode, encode
from kryptondb.optimizer.workload import Workload
from tests.executor.recording import Repeater, recorded
from tests.executor.test_operators import drawn_cells, full_mask, naive, patches_for, probabilities, run
from tests.networks import for_families, small_cnns, traced_family


@pytest.mark.slow
@given(small_cnns(), st.data())
@settings(max_examples=30, deadline=None)
def test_uniform_tiles_agree_with_the_naive_loop_on_any_cnn(
    drawn: tuple[torch.nn.Module, tuple[int, int, int]], data: st.DataObject
) -> None:
    module, shape = drawn
    grid, image, mask = drawn_cells(shape, data)
    network = trace(module, shape)
    assert network.traced, network.failure
    expected = naive(module, image, grid, mask)
    tile = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
    head = data.draw(st.sampled_from([0, 1, 7]))
    for operator in (Incremental(tile, (), head, uniform=True), recorded(tile, head)):
        np.testing.assert_allclose(run(operator, network, image, grid, mask), expected, atol=1e-9, rtol=0)


@for_families(
    *("vgg11", "resnet18", "inception_v3", "densenet121", "shufflenet_v2_x0_5", "mobilenet_v3_small", "convnext_tiny")
)
def test_replayed_tiles_are_what_tiles_are_that_run_as_they_stand(name: str) -> None:
    subject = traced_family(name)
    network, image, size = subject.network.to("cpu", torch.float64), subject.image.double(), subject.size
    grid = Grid(size, size, (size // 4, size // 4), (size // 8, size // 8))
    expected = run(Incremental((2, 3)), network, image, grid, full_mask(grid))
    assert np.ptp(expected, axis=0).max() > 1e-3, "the network does not notice the patch: the test shows nothing"
    found = run(recorded((2, 3)), network, image, grid, full_mask(grid))
    np.testing.assert_allclose(found, expected, atol=1e-9, rtol=0)
    assert 0 < Repeater.recorded <= MOST_KINDS**2
    assert Repeater.replayed == len(Tiling.of(network, grid, full_mask(grid), (2, 3), uniform=True).tiles)


def small_network() -> Network:
    torch.manual_seed(3)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3, 2, 1), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    return trace(layers.double().eval(), (3, 24, 24))


def context(network: Network, grid: Grid, image: torch.Tensor, replays: Replays | None) -> ImageContext:
    mask = full_mask(grid)
    return ImageContext(network, grid, mask, image, patches_for(image, grid), probabilities, replays=replays)


def cells(operator: Incremental, given: ImageContext) -> np.ndarray:
    found = np.full((given.grid.rows, given.grid.cols, given.network.classes), np.nan)
    with torch.inference_mode():
        operator.prepare(given)
        for scores in operator.run(given):
            found[scores.rows, scores.cols] = scores.scores
    return found


def test_a_second_picture_replays_what_was_recorded_for_the_first() -> None:
    network, grid = small_network(), Grid(24, 24, (4, 4), (4, 4))
    operator = recorded((2, 2))
    replays = operator.replays(torch.device("cpu"))
    counts = []
    for seed in (1, 2, 3):
        image = torch.randn(1, 3, 24, 24, dtype=torch.float64, generator=torch.random.manual_seed(seed))
        found = cells(operator, context(network, grid, image, replays))
        np.testing.assert_allclose(found, cells(Incremental((2, 2)), context(network, grid, image, None)), atol=1e-9)
        counts.append((Repeater.recorded, Repeater.replayed))
    tiles = len(Tiling.of(network, grid, full_mask(grid), (2, 2), uniform=True).tiles)
    assert [recordings for recordings, _ in counts] == [counts[0][0]] * 3
    assert [replays for _, replays in counts] == [tiles, 2 * tiles, 3 * tiles]


class Refuser(Repeater):
    """Stands for a device on which a pass cannot be recorded."""

    def record(self, work: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")


class Refused(Incremental):
    recorder: ClassVar[Callable[[torch.device], Any]] = Refuser


def test_what_cannot_be_recorded_runs_as_it_stands_and_says_so_once() -> None:
    network, grid = small_network(), Grid(24, 24, (4, 4), (4, 4))
    image = torch.randn(1, 3, 24, 24, dtype=torch.float64)
    with pytest.warns(UserWarning, match="no CUDA graphs.*not permitted when stream is capturing") as warned:
        found = cells(Refused((2, 2), uniform=True, graphs=True), context(network, grid, image, None))
    assert len(warned) == 1
    np.testing.assert_allclose(found, cells(Incremental((2, 2)), context(network, grid, image, None)), atol=1e-9)


class Scarce(Repeater):
    """Stands for a device whose memory holds two positions."""

    def record(self, work: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        if work().shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().record(work)


class Poor(Incremental):
    recorder: ClassVar[Callable[[torch.device], Any]] = Scarce


def test_where_recording_takes_too_much_memory_tiles_are_halved_and_lose_no_cell() -> None:
    network, grid = small_network(), Grid(24, 24, (4, 4), (4, 4))
    image = torch.randn(1, 3, 24, 24, dtype=torch.float64)
    found = cells(Poor((3, 3), uniform=True, graphs=True), context(network, grid, image, None))
    np.testing.assert_allclose(found, cells(Incremental((3, 3)), context(network, grid, image, None)), atol=1e-9)
    assert Scarce.replayed > 0


def test_a_pass_of_uniform_tiles_reads_nothing_back_to_the_processor() -> None:
    # The meta device has shapes and no numbers, and refuses tensors of another: what a graph would refuse, without one.
    network = small_network().to("meta", torch.float32)
    grid = Grid(24, 24, (4, 4), (4, 4))
    tiling = Tiling.of(network, grid, full_mask(grid), (2, 2), uniform=True)
    assert isinstance(tiling.extents, UniformExtents)
    with torch.inference_mode():
        base = materialize(network, torch.empty(1, 3, 24, 24, device="meta"))
        run = UniformRun(network, base, tiling.extents, None, TileRun)
        scores = run.run(tiling.tiles[0], torch.empty(4, 3, 4, 4, device="meta"))
    assert (scores.shape, scores.device.type) == ((4, 3), "meta")


def test_graphs_on_a_processor_are_an_error_that_says_what_to_do() -> None:
    network, grid = small_network(), Grid(24, 24, (4, 4), (4, 4))
    operator = Incremental((2, 2), uniform=True, graphs=True)
    with pytest.raises(ExecutionError, match="graphs are replayed on CUDA devices, not on cpu"):
        cells(operator, context(network, grid, torch.zeros(1, 3, 24, 24, dtype=torch.float64), None))


@pytest.mark.parametrize(
    "fields", [{"graphs": True}, {"uniform": True, "workers": 2}, {"uniform": True, "winograd": ((1, 4, 4),)}]
)
def test_settings_that_exclude_each_other_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(PlanError):
        Incremental((2, 2), **fields)


def test_the_planner_replays_graphs_on_cuda_and_on_nothing_else() -> None:
    network, grid = small_network(), Grid(24, 24, (4, 4), (4, 4))
    plans = {}
    for device in ("cpu", "cuda:0"):
        workload = Workload(network, grid, None, 1, device, 1 << 30)
        (plans[device],) = Incremental.candidates(workload, Rates(), {})
        assert plans[device].estimate(workload, Rates()).seconds > 0
        assert ("CUDA graphs" in plans[device].describe(workload)) == (device == "cuda:0")
    assert (plans["cpu"].uniform, plans["cpu"].graphs) == (False, False)
    assert (plans["cuda:0"].uniform, plans["cuda:0"].graphs, plans["cuda:0"].workers) == (True, True, 1)
    assert not plans["cuda:0"].winograd


def test_a_network_that_reads_numbers_back_is_not_recorded_and_the_plan_says_why() -> None:
    network, grid = small_network(), Grid(24, 24, (4, 4), (4, 4))
    relu = next(node for node in network.nodes if node.operator.startswith("relu"))
    nodes = list(network.nodes)
    nodes[relu.index] = dataclasses.replace(relu, operator="nonzero", function=torch.ops.aten.nonzero.default)
    reading = dataclasses.replace(network, nodes=tuple(nodes))
    assert unrecordable(network) is None
    workload = Workload(reading, grid, None, 1, "cuda", 1 << 30)
    (plan,) = Incremental.candidates(workload, Rates(), {})
    assert plan.uniform and not plan.graphs
    assert f"no CUDA graphs (nonzero at {relu.name} gives numbers back" in plan.describe(workload)


def test_whether_graphs_are_replayed_is_part_of_a_plans_text() -> None:
    for graphs in (True, False):
        plan = Incremental((4, 4), (), 256, uniform=True, graphs=graphs)
        text = encode(plan, ())
        assert json.loads(text)["graphs"] is graphs
        assert decode(text, Incremental, (), (Incremental,)) == plan
