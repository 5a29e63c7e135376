"""Planning works on kinds of tiles: a grid of millions of positions is planned like one of thousands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from torch import nn

from kryptondb.executor.operators import AnyOperator, Anytime, DrillDown, Full, Incremental, Refined
from kryptondb.executor.tiles.costs import node_seconds
from kryptondb.executor.tiles.tile_memory import TileMemory
from kryptondb.executor.tiles.tiles import Extents, Tile
from kryptondb.executor.tiles.tilings import Tiling, extents_of, tiling_of
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.grid_cells import CellsByKind
from kryptondb.optimizer.workload import Workload, cells_of, runs_of_mask


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


def plan(work: Workload, kinds: Sequence[type[AnyOperator]] = (Incremental, Full)) -> None:
    for kind in kinds:
        for operator in kind.candidates(work, Rates(), {}):
            operator.estimate(work, Rates())
            operator.describe(work)
            if isinstance(operator, Anytime):
                operator.reach(work, Rates(), 10.0)
                operator.for_enough_time().reach(work, Rates(), 10.0)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_grid_of_sixteen_million_positions_asks_for_little_more_geometry_than_one_of_thousands(
    large: Network, geometry: Counter[str], device: str
) -> None:
    plan(Workload(large, Grid(4111, 4111, (16, 16), (78, 78)), None, 1, device, 1 << 40))
    few = geometry.total()
    geometry.clear()
    plan(Workload(large, Grid(4111, 4111, (16, 16), (1, 1)), None, 1, device, 1 << 40))
    assert 0 < geometry.total() <= 3 * few


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", [DrillDown, Refined, Anytime])
def test_plans_in_stages_ask_for_little_more_geometry_of_sixteen_million_positions_and_hold_no_mask_of_them(
    large: Network, geometry: Counter[str], kind: type[AnyOperator], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(Workload(large, Grid(4111, 4111, (16, 16), (78, 78)), None, 1, device, 1 << 40), [kind])
    few = geometry.total()
    geometry.clear()

    def at(self: CellsByKind, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        assert len(rows) * len(cols) < 1 << 18
        return original(self, rows, cols)

    original = CellsByKind.at
    monkeypatch.setattr(CellsByKind, "at", at)
    plan(Workload(large, Grid(4111, 4111, (16, 16), (1, 1)), None, 1, device, 1 << 40), [kind])
    assert 0 < geometry.total() <= 3 * few


@pytest.mark.parametrize("kind", [DrillDown, Refined, Anytime])
def test_what_a_plan_in_stages_comes_to_grows_with_the_grid_whether_it_is_sampled_or_not(
    large: Network, kind: type[AnyOperator]
) -> None:
    few, many = (
        Workload(large, Grid(4111, 4111, (16, 16), (stride, stride)), None, 1, "cpu", 1 << 40) for stride in (48, 6)
    )
    (operator,) = kind.candidates(few, Rates(), {})
    base = large.flops
    times = many.positions / few.positions
    assert operator.estimate(many, Rates()).flops - base == pytest.approx(
        times * (operator.estimate(few, Rates()).flops - base), rel=0.1
    )


def test_cells_without_a_pattern_take_seconds_to_plan_and_little_memory(large: Network, geometry: Counter[str]) -> None:
    grid = Grid(4111, 4111, (16, 16), (4, 4))
    chequered = runs_of_mask(np.add.outer(np.arange(grid.rows), np.arange(grid.cols)) % 2 == 0)
    assert len(chequered) == grid.size // 2
    work = Workload(large, grid, chequered, 1, "cpu", 1 << 40)
    assert isinstance(work.cells, CellsByKind) and work.cells.held.shape == (2, 2)
    plan(work, [Incremental, Full, DrillDown])
    assert geometry["Tile.__init__"] < 40_000


def test_a_part_of_a_large_grid_is_planned_from_its_rows_and_columns(large: Network, geometry: Counter[str]) -> None:
    grid = Grid(4111, 4111, (16, 16), (1, 1))
    plan(Workload(large, grid, tuple((row, 10, 4000) for row in range(5, 3000)), 1, "cpu", 1 << 40))
    assert geometry["Tile.__init__"] < 20_000


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (6, 6)])
def test_costs_by_kind_are_those_of_all_tiles_one_by_one(shape: tuple[int, int], uniform: bool) -> None:
    work = Workload(network(96), Grid(96, 96, (9, 7), (2, 3)), None, 1, "cpu", 1 << 40)
    by_kind = tiling_of(work.network, work.grid, work.cells, shape, uniform)
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
    by_kind = tiling_of(net, grid, cells_of(None, grid), (1, 1))
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


def test_spans_are_held_once_however_many_nodes_have_them() -> None:
    net, grid = network(64), Grid(64, 64, (8, 8), (3, 2))
    extents = extents_of(net, grid)
    firsts, sizes = extents.position_firsts, extents.position_sizes
    for axis, of_nodes in enumerate((extents.regions.y, extents.regions.x)):
        assert extents.spans[axis].sizes.shape[1] == len(np.unique(np.hstack([firsts[axis], sizes[axis]]), axis=0))
        for node, spans in zip(net.nodes, of_nodes, strict=True):
            whole = (node.height, node.width)[axis]
            assert (sizes[axis][node.index] == (whole if spans is None else spans.sizes)).all()
            assert (firsts[axis][node.index] == (0 if spans is None else spans.first)).all()
    assert extents.spans[0].sizes.shape[1] < len(net.nodes) / 2


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
    sampled = tiling_of(net, grid, CellsByKind.of_mask(mask), (3, 3), uniform)
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
    for uniform in (False, True):
        sampled = tiling_of(net, grid, CellsByKind.of_mask(mask), (1, 1), uniform)
        assert sampled.total(sampled.positions) == pytest.approx(mask.sum())
        assert sampled.ideal_flops == pytest.approx(Tiling.of(net, grid, mask, (1, 1)).ideal_flops, rel=0.05)
        assert sampled.flops == pytest.approx(Tiling.of(net, grid, mask, (1, 1), uniform).flops, rel=0.05)


def test_cells_along_a_diagonal_of_a_large_grid_are_planned_from_some_of_them(
    large: Network, geometry: Counter[str]
) -> None:
    diagonal = tuple((place, place, place) for place in range(1024))
    plan(Workload(large, Grid(4111, 4111, (16, 16), (4, 4)), diagonal, 1, "cpu", 1 << 40))
    assert geometry["Tile.__init__"] < 20_000


def test_lines_of_a_lattice_do_not_hide_the_cells_between_them_from_a_sample() -> None:
    net, grid = network(300), Grid(300, 300, (8, 8), (1, 1))
    mask = np.ones((grid.rows, grid.cols), dtype=bool)
    mask[::2, ::2] = False
    sampled = tiling_of(net, grid, CellsByKind.of_mask(mask), (1, 1))
    assert sampled.flops == pytest.approx(Tiling.of(net, grid, mask, (1, 1)).flops, rel=0.1)
