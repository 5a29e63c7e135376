"""drill-down and refined: what they compute, what they make of it, and that ANALYZE can tell without running them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kryptondb.executor.approximation import Lattice, simulated
from kryptondb.executor.operators import (
    OPERATORS as ALL,
)
from kryptondb.executor.operators import (
    DrillDown,
    Full,
    ImageContext,
    Incremental,
    Refined,
    Scores,
    Staged,
    Thresholded,
)
from kryptondb.network import Cap, Grid, Network, trace
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.recipe import RECIPES, Recipe
from kryptondb.optimizer.workload import Workload, runs_of_mask
from tests.executor.test_operators import full_mask, patches_for
from tests.networks import standardized

GRID = Grid(48, 44, (8, 8), (3, 3))
ACCURATE = Incremental((3, 3))
GUIDE = Thresholded((4, 4), cap=Cap(0.35, 0.35))
SCORES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "probability": lambda scores: torch.softmax(scores, 1),
    "logit": lambda scores: scores,
    "log_probability": lambda scores: torch.log_softmax(scores, 1),
}


@cache
def subject() -> tuple[Network, torch.Tensor]:
    """A network whose last regions span the picture, and a picture with something in it."""
    torch.manual_seed(5)
    layers: list[nn.Module] = []
    for channels, out in ((3, 6), (6, 8), (8, 8), (8, 8)):
        layers += [nn.Conv2d(channels, out, 5, padding=2), nn.ReLU()]
    layers.insert(4, nn.MaxPool2d(2))
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 24 * 22, 4)).eval()
    image = torch.randn(1, 3, 48, 44, generator=torch.random.manual_seed(1)).cumsum(2).cumsum(3) / 20
    return trace(standardized(module, image).double(), (3, 48, 44)), image.double()


def context_of(mask: np.ndarray, score: str = "probability", classes: int = 3) -> ImageContext:
    network, image = subject()

    def read(scores: torch.Tensor) -> np.ndarray:
        read: np.ndarray = SCORES[score](scores)[:, :classes].numpy()
        return read

    return ImageContext(network, GRID, mask, image, patches_for(image, GRID), read, score=score)


def blocks_of(operator: Any, context: ImageContext) -> list[Scores]:
    with torch.inference_mode():
        operator.prepare(context)
        return list(operator.run(context))


def answer(operator: Any, mask: np.ndarray, score: str = "probability") -> tuple[np.ndarray, np.ndarray]:
    """The map [k, rows, cols], NaN where there is no cell, and which cells are said to be exact."""
    maps, exact = np.full((3, *mask.shape), np.nan), np.zeros(mask.shape, dtype=bool)
    answered = np.zeros(mask.shape, dtype=int)
    for block in blocks_of(operator, context_of(mask, score)):
        maps[:, block.rows, block.cols] = block.scores.T
        exact[block.rows, block.cols] = block.exact
        answered[block.rows, block.cols] += 1
    np.testing.assert_array_equal(answered, mask)
    return maps, exact


@cache
def whole(operator: Any, score: str = "probability") -> np.ndarray:
    return answer(operator, full_mask(GRID), score)[0]


def some() -> np.ndarray:
    """A rectangle with a hole at its edge."""
    mask = np.zeros((GRID.rows, GRID.cols), dtype=bool)
    mask[1:12, 2:11] = True
    mask[8:, 8:] = False
    return mask


OPERATORS = [
    DrillDown(Recipe("drill-down", step=3, fraction=0.15, where="drop"), ACCURATE),
    DrillDown(Recipe("drill-down", step=2, fraction=0.2, where="uncertain"), Full(7)),
    DrillDown(Recipe("drill-down", step=4), ACCURATE),
    DrillDown(Recipe("drill-down", step=3, where="uncertain", doubt=0.1), ACCURATE),
    DrillDown(Recipe("drill-down", 0.35, 0.35, 2, 0.2, "drop"), ACCURATE, GUIDE),
    Refined(Recipe("refined", 0.35, 0.35, 3), ACCURATE, GUIDE),
    Refined(Recipe("refined", 0.35, 0.35, 4, 0.1, "uncertain"), ACCURATE, GUIDE),
]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("asked", [full_mask(GRID), some()], ids=["whole", "some"])
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: str(operator.recipe))
def test_a_run_gives_what_its_recipe_makes_of_whole_maps(operator: Staged, asked: np.ndarray, score: str) -> None:
    exact, guide = whole(ACCURATE, score), whole(GUIDE, score)
    assert np.abs(exact - guide).max() > 1e-3, "the guide is exact: the test shows nothing"
    maps, _ = answer(operator, asked, score)
    expected, _ = simulated(operator.recipe, exact, guide if operator.cheap else None, asked, score)
    np.testing.assert_allclose(maps, expected, atol=1e-9, rtol=0)
    assert np.nanmax(np.abs(maps - exact)) > 1e-6, "nothing is approximate: the test shows nothing"


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: str(operator.recipe))
def test_cells_that_say_they_are_exact_are_and_they_are_as_many_as_the_recipe_says(operator: Staged) -> None:
    for asked in (full_mask(GRID), some()):
        maps, said = answer(operator, asked)
        np.testing.assert_allclose(maps[:, said], whole(ACCURATE)[:, said], atol=1e-9, rtol=0)
        guide = whole(GUIDE) if operator.cheap else None
        _, share = simulated(operator.recipe, whole(ACCURATE), guide, asked)
        first, more = Lattice(asked, operator.recipe.step).cells, round(share * asked.sum())
        assert operator.recipe.doubt or more == round(operator.recipe.fraction * asked.sum())
        if isinstance(operator, DrillDown) and operator.cheap:
            assert said.sum() == more  # no cell of the first stage is small enough for the cap
        else:
            assert said[first].all() and said.sum() == first.sum() + more
        assert said.sum() < asked.sum()


@pytest.mark.parametrize("accurate", [ACCURATE, Full(5)])
def test_drilling_down_with_a_step_of_one_is_the_exact_map_bit_for_bit(accurate: Any) -> None:
    operator = DrillDown(Recipe("drill-down", step=1, fraction=0.5, where="drop"), accurate)
    maps, exact = answer(operator, full_mask(GRID))
    np.testing.assert_array_equal(maps, whole(accurate))
    assert exact.all()


def test_a_guide_that_cuts_nothing_off_is_refined_to_the_exact_map() -> None:
    operator = Refined(Recipe("refined", step=5), ACCURATE, Thresholded((3, 3), cap=Cap(1.0, 1.0)))
    np.testing.assert_allclose(answer(operator, full_mask(GRID))[0], whole(ACCURATE), atol=1e-9, rtol=0)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: str(operator.recipe))
def test_the_base_is_made_once_and_a_run_counts_the_operations_of_its_stages(operator: Staged) -> None:
    network, _ = subject()
    workload = Workload(network, GRID, None, 3, "cpu", 1 << 30, "float64")
    context = context_of(full_mask(GRID))
    blocks_of(operator, context)
    reconstruction_free = replace(operator.recipe, fraction=0.0)
    estimated = replace(operator, recipe=reconstruction_free).estimate(workload, Rates()).flops
    _, share = simulated(operator.recipe, whole(ACCURATE), whole(GUIDE) if operator.cheap else None)
    if share:  # which cells are chosen is not known before, what they cost only roughly
        assert estimated < context.flops < estimated + share * 1.1 * GRID.size * network.flops
    else:
        assert context.flops == pytest.approx(estimated)


def test_exact_cells_come_as_they_are_computed_and_a_run_can_be_stopped_while_it_makes_its_guide() -> None:
    operator = OPERATORS[-1]
    sizes = [len(block.rows) for block in blocks_of(operator, context_of(full_mask(GRID)))]
    first = Lattice(full_mask(GRID), 4).cells.sum()
    came = np.cumsum(sizes)
    assert sizes[0] <= 9 and first in came
    guiding = sizes[list(came).index(first) + 1 :]
    assert guiding[:10] == [0] * 10


def test_nothing_asked_for_is_nothing_computed() -> None:
    for operator in OPERATORS:
        assert blocks_of(operator, context_of(np.zeros((GRID.rows, GRID.cols), dtype=bool))) == []


@pytest.mark.parametrize("size", [(8, 8), (8, 30), (11, 44), (17, 14)])
def test_grids_of_a_few_rows_or_columns_are_answered(size: tuple[int, int]) -> None:
    grid = Grid(*size, (8, 8), (3, 3))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 5, padding=2), nn.Flatten(), nn.Linear(2 * size[0] * size[1], 3))
    network = trace(module.eval(), (1, *size))
    image = torch.randn(1, 1, *size)
    for operator in OPERATORS:
        context = ImageContext(
            network, grid, full_mask(grid), image, patches_for(image, grid), lambda s: torch.softmax(s, 1).numpy()
        )
        answered = np.zeros((grid.rows, grid.cols), dtype=int)
        for block in blocks_of(operator, context):
            assert np.isfinite(block.scores).all()
            answered[block.rows, block.cols] += 1
        assert (answered == 1).all()


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_recipe_of_the_ladder_is_planned_with_operators_that_make_it(recipe: Recipe) -> None:
    network, _ = subject()
    workload = Workload(network, GRID, runs_of_mask(some()), 3, "cpu", 1 << 30, "float64")
    kind = next(kind for kind in ALL if kind.name == recipe.operator)
    (operator,) = kind.planned(recipe, workload, Rates(), {})
    assert isinstance(operator, (Staged, Thresholded)) and operator.recipe == recipe
    if isinstance(operator, Staged) and operator.cheap is not None:
        assert operator.cheap.cap == Cap(recipe.tau, recipe.tau_deep)
    assert isinstance(operator, Thresholded) or (operator.cheap is not None) == recipe.capped
    cost = operator.estimate(workload, Rates())
    assert 0 < cost.memory <= 1 << 30
    assert cost.seconds > 0 and network.flops < cost.flops
    assert operator.describe(workload)


def test_how_many_cells_doubt_will_choose_is_only_told_about() -> None:
    network, _ = subject()
    workload = Workload(network, GRID, None, 3, "cpu", 1 << 30, "float64")
    asked = {"step": 3, "fraction": 0.1}, {"step": 3, "doubt": 0.2}
    counted, doubted = (DrillDown.candidates(workload, Rates(), hints)[0].describe(workload) for hints in asked)
    chosen = round(0.1 * GRID.size)
    assert f"; chosen {chosen} by " in counted
    assert "every 3rd cell exact, more where doubt exceeds 0.2; first " in doubted
    assert f"; chosen about {chosen} by " in doubted


def test_networks_that_only_run_as_a_whole_can_be_drilled_down_and_not_refined() -> None:
    class Undecided(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = x.mean((2, 3))
            return scores if float(scores.sum()) > 0 else scores * 2

    workload = Workload(trace(Undecided().eval(), (3, 16, 16)), Grid(16, 16, (4, 4), (2, 2)), None, 1, "cpu", 1 << 30)
    (operator,) = DrillDown.candidates(workload, Rates(), {"step": 2})
    assert isinstance(operator.accurate, Full)
    assert Refined.candidates(workload, Rates(), {}) == []
    assert DrillDown.candidates(workload, Rates(), {"tau": 0.5}) == []


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_what_was_estimated_by_phases_is_measured_by_the_same(operator: Any) -> None:
    context = context_of(full_mask(GRID))
    with torch.inference_mode():
        operator.prepare(context)
        cells = operator.run(context)
        while context.timed(operator.rest, cells) is not None:
            pass
    cost = operator.estimate(Workload(subject()[0], GRID, None, 3, "cpu", 1 << 30), Rates())
    stages = [name for name in context.spent if name != operator.rest]
    if operator.recipe.doubt:
        stages.remove("chosen")  # how many nobody knows
    assert [phase.name for phase in cost.phases] == ["base", *stages, operator.rest]
    assert cost.seconds == pytest.approx(sum(phase.seconds for phase in cost.phases))
    assert min(context.spent.values()) > 0
