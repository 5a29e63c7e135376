"""Planning works on kinds of tiles: a grid of millions of positions is planned like one of thousands."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from torch import nn

from kryptondb.executor.operators import Full, Incremental
from kryptondb.executor.operators.layer_costs import node_seconds
from kryptondb.executor.operators.tile_memory import TileMemory
from kryptondb.executor.operators.tiles import Extents, Tile
from kryptondb.executor.operators.tilings import Tiling, extents_of, tiling_of
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Workload, runs_of_mask


def network(side: int, device: str = "cpu") -> Network:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    return trace(module.eval().to(device), (3, side, side))


@pytest.fixture(scope="module")
def large() -> Network:
    return network(4111, "meta")


@pytest.fixture
def geometry(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the geometry of a tile is asked for."""
    calls: Counter[str] = Counter()

    def watch(kind: type, name: str) -> None:
        original = getattr(kind, name)

        def counted(self: object, *arguments: object, **named: object) -> object:
            calls[f"{kind.__name__}.{name}"] += 1
            return original(self, *arguments, **named)

        monkeypatch.setattr(kind, name, counted)

    watch(Extents, "of")
    watch(Extents, "sizes")
    watch(TileMemory, "run")
    watch(Tile, "__init__")
    return calls


def plan(work: Workload) -> None:
    for kind in (Incremental, Full):
        for operator in kind.candidates(work, Rates(), {}):
            operator.estimate(work, Rates())
            operator.describe(work)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_grid_of_sixteen_million_positions_asks_for_little_more_geometry_than_one_of_thousands(
    large: Network, geometry: Counter[str], device: str
) -> None:
    plan(Workload(large, Grid(4111, 4111, (16, 16), (78, 78)), None, 1, device, 1 << 40))
    few = geometry.total()
    geometry.clear()
    plan(Workload(large, Grid(4111, 4111, (16, 16), (1, 1)), None, 1, device, 1 << 40))
    assert 0 < geometry.total() <= 3 * few


def test_a_part_of_a_large_grid_is_planned_from_its_rows_and_columns(large: Network, geometry: Counter[str]) -> None:
    grid = Grid(4111, 4111, (16, 16), (1, 1))
    plan(Workload(large, grid, tuple((row, 10, 4000) for row in range(5, 3000)), 1, "cpu", 1 << 40))
    assert geometry["Tile.__init__"] < 20_000


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (6, 6)])
def test_costs_by_kind_are_those_of_all_tiles_one_by_one(shape: tuple[int, int], uniform: bool) -> None:
    work = Workload(network(96), Grid(96, 96, (9, 7), (2, 3)), None, 1, "cpu", 1 << 40)
    by_kind = tiling_of(work.network, work.grid, None, shape, uniform)
    one_by_one = Tiling._listed(by_kind.extents, tuple(by_kind.tiles), by_kind.ideal_flops)
    assert len(by_kind.counts) < len(one_by_one.counts)
    assert by_kind.total(by_kind.positions) == one_by_one.total(one_by_one.positions)
    assert by_kind.flops == pytest.approx(one_by_one.flops)
    assert by_kind.unevenness(3) == pytest.approx(one_by_one.unevenness(3))
    assert by_kind.largest_group(40, 2) == one_by_one.largest_group(40, 2)
    for (node, expected), (_, found) in zip(
        node_seconds(one_by_one, {}, Rates(), 4), node_seconds(by_kind, {}, Rates(), 4), strict=True
    ):
        assert found == pytest.approx(expected), node.name


def test_where_kinds_are_joined_costs_stay_close_and_never_below() -> None:
    net = network(512)
    grid = Grid(512, 512, (16, 16), (5, 7))
    by_kind = tiling_of(net, grid, None, (1, 1))
    one_by_one = Tiling._listed(by_kind.extents, tuple(by_kind.tiles), by_kind.ideal_flops)
    assert by_kind.flops == pytest.approx(one_by_one.flops)
    assert one_by_one.work.sum() <= by_kind.total(by_kind.work) * (1 + 1e-9)
    assert by_kind.total(by_kind.work) < 1.05 * one_by_one.work.sum()


@pytest.mark.parametrize("count", [200, 256, 257, 301, 700])
@pytest.mark.parametrize("size", [1, 5, 24])
def test_a_long_axis_is_cut_into_runs_that_hold_every_position_once(count: int, size: int) -> None:
    extents = extents_of(network(710), Grid(710, 710, (4, 4), (1, 1)))
    indices = np.arange(3, 3 + count)
    runs = extents.cut(indices, size, 0)
    assert np.array_equal(np.concatenate(runs), indices)
    assert max(len(run) for run in runs) <= size


def test_the_ideal_operations_of_scattered_cells_are_counted_cell_by_cell() -> None:
    net, grid = network(64), Grid(64, 64, (8, 8), (3, 2))
    mask = np.random.default_rng(0).random((grid.rows, grid.cols)) < 0.4
    tiling = Tiling.of(net, grid, mask, (4, 4))
    sizes = tiling.extents.position_sizes
    expected = sum(
        float(tiling.extents.operations @ (sizes[0][:, row] * sizes[1][:, col])) for row, col in np.argwhere(mask)
    )
    assert tiling.ideal_flops == pytest.approx(expected)


@pytest.mark.parametrize("uniform", [False, True])
def test_cells_without_a_pattern_are_planned_from_a_sample_that_comes_near(uniform: bool) -> None:
    net, grid = network(300), Grid(300, 300, (8, 8), (2, 3))
    mask = np.add.outer(np.arange(grid.rows), 2 * np.arange(grid.cols)) % 7 < 3
    runs = runs_of_mask(mask)
    sampled = tiling_of(net, grid, runs, (3, 3), uniform)
    every = Tiling.of(net, grid, mask, (3, 3), uniform)
    assert len(sampled.tiles) < len(every.tiles)
    assert sampled.total(sampled.positions) >= mask.sum() * (1 - 1e-9)
    assert sampled.count == pytest.approx(every.count, rel=0.1)
    assert sampled.flops == pytest.approx(every.flops, rel=0.1)
    assert sampled.ideal_flops == pytest.approx(every.ideal_flops, rel=0.1)


def test_few_cells_that_a_sample_misses_are_planned_all_the_same() -> None:
    net, grid = network(300), Grid(300, 300, (8, 8), (2, 3))
    mask = np.eye(grid.rows, grid.cols, dtype=bool)
    mask[::2] = False
    sampled = tiling_of(net, grid, runs_of_mask(mask), (1, 1))
    assert sampled.flops > 0
