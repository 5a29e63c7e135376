"""anytime: whatever the time, every cell is answered, in time, and says whether it is exact."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from kryptondb.executor.approximation import Lattice, Round, reconstruction, steps_of
from kryptondb.executor.operators import Anytime, Full, ImageContext, Incremental, anytime_run
from kryptondb.executor.quality import ssim
from kryptondb.network import Grid
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Workload
from tests.executor.operators.test_staged import ACCURATE, GRID, GUIDE, blocks_of, context_of, some, subject, whole
from tests.executor.test_operators import full_mask

PLAIN = Anytime(Recipe("drill-down", step=4), Incremental((2, 2)))
GUIDED = Anytime(Recipe("refined", 0.35, 0.35, 4), Incremental((2, 2)), GUIDE)
A_CELL = 0.01  # seconds


def timed(
    operator: Anytime,
    budget: float,
    mask: np.ndarray,
    a_cell: Callable[[int], float] = lambda done: A_CELL,
    also: Callable[[], float] = lambda: 0.0,
) -> tuple[np.ndarray, np.ndarray, float]:
    """The map, which cells say that they are exact, and the seconds spent, with a clock that cells move on.

    Args:
        also: seconds that something else has taken so far.
    """
    spent = 0.0
    done = 0
    context = context_of(mask)
    patches = context.patches

    def counted(ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
        nonlocal spent, done
        spent += a_cell(done) * len(ys)
        done += len(ys)
        return patches(ys, xs)

    context.patches, context.time_left = counted, lambda: budget - spent - also()
    maps, exact = np.full((3, *mask.shape), np.nan), np.zeros(mask.shape, dtype=bool)
    answered = np.zeros(mask.shape, dtype=int)
    for block in blocks_of(operator, context):
        maps[:, block.rows, block.cols] = block.scores.T
        exact[block.rows, block.cols] = block.exact
        answered[block.rows, block.cols] += 1
    np.testing.assert_array_equal(answered, mask)
    return maps, exact, spent + also()


@pytest.mark.slow
@pytest.mark.parametrize("accurate", [Full(1), Incremental((1, 1))], ids=["full", "incremental"])
def test_with_time_enough_the_last_round_ends_with_the_exact_map_bit_for_bit(accurate: Any) -> None:
    maps, exact, _ = timed(Anytime(Recipe("drill-down", step=4), accurate), 1000.0, full_mask(GRID))
    np.testing.assert_array_equal(maps, whole(accurate))
    assert exact.all()


@pytest.mark.parametrize("budget", [0.05, 0.4, 1.0, 1.6, 1000.0])
@pytest.mark.parametrize("asked", [full_mask(GRID), some()], ids=["whole", "some"])
def test_all_cells_in_one_go_stop_in_time_too(budget: float, asked: np.ndarray) -> None:
    operator = Anytime(Recipe("drill-down", step=8), Incremental((2, 2)), at_once=True)
    maps, said, spent = timed(operator, budget, asked)
    assert np.isfinite(maps[:, asked]).all() and np.isnan(maps[:, ~asked]).all()
    assert spent <= max(budget, 9 * A_CELL) + 4 * A_CELL + 1e-9
    np.testing.assert_allclose(maps[:, said], whole(ACCURATE)[:, said], atol=1e-9, rtol=0)
    assert said[asked].all() == (budget * 0.9 > asked.sum() * A_CELL)
    if not said[asked].all():
        assert spent >= budget - 8 * A_CELL


@pytest.mark.parametrize("operator", [PLAIN, GUIDED], ids=["plain", "guided"])
@pytest.mark.parametrize("budget", [0.3, 0.6, 1.0, 1.5, 2.5])
@pytest.mark.parametrize("asked", [full_mask(GRID), some()], ids=["whole", "some"])
def test_it_stops_in_time_and_makes_use_of_it(operator: Anytime, budget: float, asked: np.ndarray) -> None:
    maps, exact, spent = timed(operator, budget, asked)
    assert np.isfinite(maps[:, asked]).all() and np.isnan(maps[:, ~asked]).all()
    assert spent <= budget + 1e-9
    assert spent >= 0.8 * budget or exact[asked].all()


@pytest.mark.parametrize("budget", [0.4, 1.0])
def test_when_cells_become_slower_it_stops_in_time_all_the_same(budget: float) -> None:
    _, exact, spent = timed(PLAIN, budget, full_mask(GRID), lambda done: A_CELL if done < 25 else 4 * A_CELL)
    assert spent <= budget + 4 * 4 * A_CELL + 1e-9  # a block of four may have begun
    assert not exact.all()


@pytest.mark.parametrize("operator", [PLAIN, replace(PLAIN, at_once=True)], ids=["rounds", "at once"])
@pytest.mark.parametrize(("budget", "settles"), [(0.6, False), (1.5, False), (8.0, True)])
def test_maps_that_take_long_to_settle_do_so_only_where_there_is_time(
    operator: Anytime, budget: float, settles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many classes on a large grid: a look takes a second, and cells take ten times as long as elsewhere here."""
    mask, took = full_mask(GRID), 0.0
    monkeypatch.setattr(anytime_run, "_A_VALUE", 1.0 / (3 * mask.size))
    settle = reconstruction.least_bent

    def slowly(maps: np.ndarray, known: np.ndarray) -> np.ndarray:
        nonlocal took
        took += 1.0
        return settle(maps, known)

    monkeypatch.setattr(reconstruction, "least_bent", slowly)
    maps, exact, spent = timed(operator, budget, mask, lambda _: 10 * A_CELL, also=lambda: took)
    assert np.isfinite(maps).all() and not exact.all()
    assert (took > 0) == settles
    assert spent <= max(budget, 9 * 10 * A_CELL) + 4 * 10 * A_CELL + 1e-9


def test_without_any_time_there_is_a_map_of_very_little() -> None:
    maps, exact, spent = timed(PLAIN, 0.0, full_mask(GRID))
    assert np.isfinite(maps).all() and 0 < exact.sum() <= 9
    assert spent <= 9 * A_CELL + 1e-9


@pytest.mark.parametrize(
    ("operator", "budget", "guided"),
    [(PLAIN, 0.3, False), (PLAIN, 1.1, False), (GUIDED, 1.3, False), (GUIDED, 2.4, True)],
)
def test_cells_that_say_they_are_exact_are_and_the_others_are_what_the_rounds_make_of_them(
    operator: Anytime, budget: float, guided: bool
) -> None:
    mask = full_mask(GRID)
    maps, said, _ = timed(operator, budget, mask)
    exact = whole(ACCURATE)
    np.testing.assert_allclose(maps[:, said], exact[:, said], atol=1e-9, rtol=0)
    assert 0 < said.sum() < mask.sum()
    coarse, fine = max(
        (pair for pair in pairwise(steps_of(4, mask.shape)) if said[Lattice(mask, pair[0]).cells].all()),
        key=lambda pair: -pair[0],
    )
    recipe = Recipe("refined", 0.35, 0.35, coarse) if guided else Recipe("drill-down", step=coarse)
    values = np.where(said, exact, np.nan)
    expected = Round(recipe, fine, mask).completed(values, said, whole(GUIDE) if guided else None)
    np.testing.assert_allclose(maps, expected, atol=1e-9, rtol=0)


def test_a_guide_that_there_is_no_time_for_is_left_and_the_rounds_go_on() -> None:
    _, exact, spent = timed(GUIDED, 1.5, full_mask(GRID))
    assert spent <= 1.5 + 1e-9
    assert exact.sum() > 25  # more than the lattice before the guide


def test_a_guide_that_there_is_time_for_makes_a_better_map_of_as_many_cells() -> None:
    mask = full_mask(GRID)
    guide_takes = int(mask.sum()) * A_CELL

    maps, exact, spent = timed(GUIDED, guide_takes + 0.6, mask)
    assert spent <= guide_takes + 0.6 + 1e-9 and not exact.all()
    plain, as_many, _ = timed(PLAIN, 0.6, mask)
    assert abs(int(as_many.sum()) - int(exact.sum())) < 12
    answer = whole(ACCURATE)
    assert np.abs(maps - answer).mean() < np.abs(plain - answer).mean()


def test_more_time_makes_better_maps() -> None:
    answer = whole(ACCURATE)
    alike = [ssim(answer[0], timed(PLAIN, budget, full_mask(GRID))[0][0]) for budget in (0.1, 0.5, 1.0, 3.0)]
    assert alike == sorted(alike) and alike[0] < 0.9 and alike[-1] == pytest.approx(1.0)


def test_where_nobody_waits_all_cells_are_computed() -> None:
    exact = [block.exact for block in blocks_of(PLAIN, context_of(full_mask(GRID)))]
    assert np.all(np.concatenate([np.atleast_1d(each) for each in exact]))


@pytest.mark.parametrize("size", [(8, 8), (8, 30), (11, 44), (17, 14)])
def test_grids_of_a_few_rows_or_columns_are_answered(size: tuple[int, int]) -> None:
    mask = np.zeros((GRID.rows, GRID.cols), dtype=bool)
    grid = Grid(*size, (8, 8), (3, 3))
    mask[: grid.rows, : grid.cols] = True
    maps, _, _ = timed(PLAIN, 0.1, mask)
    assert np.isfinite(maps[:, mask]).all()


def test_ctrl_c_ends_it_and_no_thread_is_left() -> None:
    context = context_of(full_mask(GRID))
    patches, calls = context.patches, 0

    def interrupted(ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt
        return patches(ys, xs)

    context.patches, context.time_left = interrupted, lambda: 100.0
    with pytest.raises(KeyboardInterrupt):
        blocks_of(Anytime(Recipe("drill-down", step=4), Incremental((2, 2), workers=2)), context)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kryptondb-tile")]


def test_a_run_that_is_closed_leaves_no_thread() -> None:
    context: ImageContext = context_of(full_mask(GRID))
    operator = Anytime(Recipe("drill-down", step=4), Incremental((2, 2), workers=2))
    with torch.inference_mode():
        operator.prepare(context)
        blocks = operator.run(context)
        next(iter(blocks))
        blocks.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kryptondb-tile")]


# Planning


def workload() -> Workload:
    network, _ = subject()
    return Workload(network, GRID, None, 3, "cpu", 1 << 30, "float64")


@pytest.mark.parametrize("recipe", [PLAIN.recipe, GUIDED.recipe], ids=["plain", "guided"])
def test_what_comes_in_some_time_grows_with_it_to_the_whole_map(recipe: Recipe) -> None:
    rates = Rates(flops_per_second=1e9)
    (operator,) = Anytime.planned(recipe, workload(), rates, {})
    whole_map = operator.estimate(workload(), rates)
    seconds = [0.0, *np.linspace(0.05, 1.1, 12) * whole_map.seconds, math.inf]
    reaches = [operator.reach(workload(), rates, each) for each in seconds]
    for less, more in pairwise(reaches):
        assert less.positions <= more.positions and less.step >= more.step and less.guided <= more.guided
        assert less.seconds <= more.seconds + 1e-12 and less.flops <= more.flops
    for time, reach in zip(seconds, reaches, strict=True):
        assert reach.seconds <= max(time, reach.least) + 1e-12
    assert reaches[0].positions > 0 and reaches[0].least == reaches[0].seconds
    assert reaches[-1].step == 1 and reaches[-1].positions == GRID.size
    assert reaches[-1].flops == pytest.approx(whole_map.flops)
    assert reaches[-1].guided == recipe.capped


@pytest.mark.parametrize("accurate", [Full(64), Incremental((9, 9)), Incremental((9, 9), workers=2, head=256)])
def test_cells_come_in_blocks_so_that_it_can_stop_between_them(accurate: Any) -> None:
    sizes = [len(block.rows) for block in blocks_of(Anytime(PLAIN.recipe, accurate), context_of(full_mask(GRID)))]
    assert sum(sizes) == GRID.size
    assert max(sizes) <= GRID.size // 4  # although each of these takes more at once where nothing has to stop


def test_it_says_what_it_will_do() -> None:
    assert PLAIN.describe(workload()).startswith("steps 8, 4, 2 and 1 by incremental (float64, tiles 2 x 2")
    assert "after step 4 a guide by thresholded (" in GUIDED.describe(workload())
