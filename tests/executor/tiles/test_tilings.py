"""Which tiles a grid is cut into for several workers: none waits long, and none holds more than its speed is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kryptondb.executor.operators import Incremental
from kryptondb.executor.tiles.tilings import Tiling, tiling_of
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Workload
from tests.networks import family


@pytest.fixture(scope="module")
def network() -> Network:
    return trace(family("vgg11").eval(), (3, 32, 32))


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def test_workers_with_equal_shares_take_no_longer_than_that(network: Network) -> None:
    tiling = middle(network, (2, 2))
    assert len(tiling.tiles) == 4
    assert tiling.unevenness(1) == tiling.unevenness(2) == tiling.unevenness(4) == pytest.approx(1.0)


def test_where_tiles_are_fewer_than_shares_would_need_workers_wait_for_the_last(network: Network) -> None:
    tiling = middle(network, (2, 2))
    assert tiling.unevenness(3) == pytest.approx(2 * 3 / 4)
    assert tiling.unevenness(8) == pytest.approx(8 / 4)


def test_an_estimate_counts_how_long_workers_wait_for_each_other(network: Network) -> None:
    work = Workload(network, Grid(32, 32, (4, 4), (2, 2)), ((5, 5, 7),), 1, "cpu", 1 << 40)
    one, two = (Incremental((1, 3), workers=workers).estimate(work, Rates()) for workers in (1, 2))
    assert tiling_of(network, work.grid, work.cells, (1, 3)).unevenness(2) == 2.0
    assert one.seconds < two.seconds


def test_nothing_to_compute_keeps_nobody_waiting(network: Network) -> None:
    grid = Grid(32, 32, (4, 4), (2, 2))
    assert Tiling.of(network, grid, np.zeros((grid.rows, grid.cols), dtype=bool), (2, 2)).unevenness(2) == 1.0


@pytest.mark.parametrize(("patch", "stride"), [(4, 1), (8, 3)])
def test_of_tiles_that_are_about_as_fast_those_that_need_least_memory_run(
    network: Network, patch: int, stride: int
) -> None:
    work = Workload(network, Grid(32, 32, (patch, patch), (stride, stride)), None, 1, "cpu", 1 << 40)
    (chosen,) = Incremental.candidates(work, Rates(), {})
    most = work.positions // (2 * 2)
    others = [Incremental.candidates(work, Rates(), {"batch": side**2})[0] for side in (1, 2, 3, 4, 6, 8, 10, 12)]
    costs = [other.estimate(work, Rates()) for other in others if other.tile[0] ** 2 <= most]
    mine, least = chosen.estimate(work, Rates()), min(cost.seconds for cost in costs)
    assert mine.seconds <= 1.03 * least
    assert mine.memory <= min(cost.memory for cost in costs if cost.seconds <= 1.03 * least)
    assert mine.memory < max(cost.memory for cost in costs)


def middle(network: Network, shape: tuple[int, int]) -> Tiling:
    """16 cells far from the border, whose regions are all alike."""
    grid = Grid(32, 32, (4, 4), (4, 4))
    mask = np.zeros((grid.rows, grid.cols), dtype=bool)
    mask[2:6, 2:6] = True
    return Tiling.of(network, grid, mask, shape)
