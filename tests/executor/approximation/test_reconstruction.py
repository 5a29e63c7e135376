"""What becomes of cells that are not computed, on maps whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.executor.approximation import Reconstruction, simulated
from kryptondb.executor.approximation.interpolation import Scale
from kryptondb.executor.quality import ssim
from kryptondb.optimizer.recipe import RECIPES, Recipe
from tests.executor.approximation.test_lattice import MASKS

ROWS, COLS = np.mgrid[0:25, 0:22] / 25
BUMPS = [np.exp(-((ROWS - y) ** 2 + (COLS - x) ** 2) / 0.02) for y, x in ((0.3, 0.3), (0.7, 0.6), (0.2, 0.8))]
EXACT = np.stack([0.95 - 0.6 * BUMPS[0] - 0.3 * BUMPS[1], 0.02 + 0.6 * BUMPS[0] - 0.01 * BUMPS[2], 0.3 * BUMPS[1]])
GUIDE = Scale("probability").back(0.7 * Scale("probability").to(EXACT) + 0.2)
GUIDED = [recipe for recipe in RECIPES if recipe.operator == "refined"]
SAMPLED = [recipe for recipe in RECIPES if recipe.operator == "drill-down"]


def drill(step: int, fraction: float = 0.0, where: str = "") -> Recipe:
    return Recipe("drill-down", step=step, fraction=fraction, where=where)


def approximate(*arguments: Any) -> np.ndarray:
    maps, _ = simulated(*arguments)
    return maps


def test_a_map_that_is_a_plane_is_met_and_one_that_bends_slowly_is_met_nearly() -> None:
    plane, bent = np.stack([2 * ROWS - COLS, 3 + COLS]), np.stack([ROWS**3 + COLS * ROWS, 3 - COLS**3])
    for step in (2, 3, 4):
        np.testing.assert_allclose(approximate(drill(step), plane), plane, atol=1e-9)
        assert np.abs(approximate(drill(step), bent) - bent).max() < 0.01 * np.ptp(bent)


def test_a_guide_that_is_right_but_for_its_scale_is_corrected_everywhere() -> None:
    recipe = Recipe("refined", 0.5, 0.5, 6)
    np.testing.assert_allclose(approximate(recipe, EXACT[:2], GUIDE[:2]), EXACT[:2], atol=1e-9)


@pytest.mark.parametrize("recipe", SAMPLED + GUIDED, ids=str)
def test_all_classes_at_once_are_what_each_is_alone_where_no_cells_are_chosen_among_them(recipe: Recipe) -> None:
    together = approximate(recipe, EXACT, GUIDE**2)
    assert np.isfinite(together).all() and (together <= 1).all()
    if not (recipe.fraction or recipe.doubt):
        for number in range(3):
            alone = approximate(recipe, EXACT[[number]], GUIDE[[number]] ** 2)
            np.testing.assert_allclose(alone[0], together[number], atol=1e-12)


@pytest.mark.parametrize("where", ["drop", "uncertain"])
def test_more_exact_cells_are_better_and_all_of_them_are_exact(where: str) -> None:
    found = [ssim(EXACT[0], approximate(drill(4, share, where), EXACT)[0]) for share in (0.0, 0.1, 0.3, 1.0)]
    assert found == sorted(found) and found[0] < 0.99
    np.testing.assert_array_equal(approximate(drill(4, 1.0, where), EXACT), EXACT)


def test_the_less_doubt_is_left_the_more_cells_are_exact_and_the_nearer_the_map_comes() -> None:
    found = []
    for doubt in (10.0, 0.4, 0.2, 0.1, 0.05):
        maps, share = simulated(Recipe("drill-down", step=4, where="uncertain", doubt=doubt), EXACT[:1])
        found.append((share, ssim(EXACT[0], maps[0])))
    assert found == sorted(found) and found[0][0] == 0.0 and found[-1][0] > found[1][0] > 0.0


def test_a_map_that_is_hard_to_interpolate_gets_more_cells_than_an_easy_one() -> None:
    recipe = Recipe("drill-down", step=4, where="uncertain", doubt=0.2)
    bent, rough = ROWS**2 + COLS, ROWS**2 + COLS + 0.5 * np.random.default_rng(0).random(ROWS.shape)
    (_, easy), (_, hard) = (simulated(recipe, maps[None]) for maps in (bent, rough))
    assert easy < 0.05 < 0.2 < hard


def test_the_cells_that_doubt_chooses_are_those_of_which_the_map_is_least_sure() -> None:
    asked = np.ones(EXACT.shape[1:], dtype=bool)
    by_doubt = Reconstruction(Recipe("drill-down", step=4, where="uncertain", doubt=0.2), asked)
    values = np.where(by_doubt.first, EXACT[:1], np.nan)
    chosen = by_doubt.further(values, None)
    as_many = Reconstruction(drill(4, chosen.sum() / asked.sum(), "uncertain"), asked)
    assert chosen.any()
    np.testing.assert_array_equal(chosen, as_many.further(values, None))


def test_where_the_score_falls_most_and_where_least_is_sure_are_different_cells() -> None:
    asked = np.ones(EXACT.shape[1:], dtype=bool)
    chosen = {}
    for where in ("drop", "uncertain"):
        reconstruction = Reconstruction(drill(4, 0.1, where), asked)
        values = np.where(reconstruction.first, EXACT[:1], np.nan)
        chosen[where] = reconstruction.further(values, None)
        assert chosen[where].sum() == reconstruction.further_count == round(0.1 * asked.sum())
        assert not (chosen[where] & reconstruction.first).any()
    assert EXACT[0][chosen["drop"]].mean() < EXACT[0][chosen["uncertain"]].mean()
    spline = approximate(drill(4), EXACT[:1])[0]
    error = np.abs(spline - EXACT[0])
    assert error[chosen["uncertain"]].mean() > 2 * error[asked].mean()


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("recipe", SAMPLED + GUIDED, ids=str)
def test_a_constant_map_stays_what_it_is(recipe: Recipe, value: float) -> None:
    exact = np.full((2, 12, 9), value)
    np.testing.assert_allclose(approximate(recipe, exact, exact * 0.5), exact, atol=2e-7)


@given(MASKS, st.sampled_from(SAMPLED + GUIDED), st.sampled_from(["probability", "logit", "log_probability"]))
@settings(max_examples=150, deadline=None)
def test_every_cell_asked_for_is_answered_and_no_other_and_known_ones_keep_their_values(
    mask: np.ndarray, recipe: Recipe, score: str
) -> None:
    noise = np.random.default_rng(1)
    exact, guide = noise.random((2, 2, *mask.shape)) * 1.2 - 0.1  # some below 0 and some above 1
    if score == "probability":
        exact, guide = np.clip(exact, 0, 1), np.clip(guide, 0, 1)
    elif score == "log_probability":
        exact, guide = -np.abs(exact) * 50, -np.abs(guide) * 50
    found = approximate(recipe, exact, np.where(mask, guide, np.nan), mask, score)
    np.testing.assert_array_equal(np.isfinite(found), np.broadcast_to(mask, found.shape))
    first = Reconstruction(recipe, mask, score).first
    if recipe.operator == "refined" or not recipe.capped:
        np.testing.assert_array_equal(found[:, first], exact[:, first])


@pytest.mark.parametrize("score", ["probability", "logit", "log_probability"])
def test_a_scale_gives_scores_back(score: str) -> None:
    probability = np.linspace(0.001, 0.999, 50)[None]
    scores = {"probability": probability, "logit": probability * 9 - 3, "log_probability": np.log(probability)}[score]
    scale = Scale(score)
    values = scale.to(scores)
    np.testing.assert_allclose(scale.back(values), scores, atol=1e-12)
    numerical = (scale.back(values + 1e-6) - scale.back(values - 1e-6)) / 2e-6
    np.testing.assert_allclose(scale.slope(values), numerical, atol=1e-8)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("recipe", [drill(4), drill(3, 0.1, "drop"), Recipe("refined", 0.5, 0.5, 6)], ids=str)
def test_a_map_with_a_computed_cell_that_is_not_finite_is_computed_cell_by_cell(recipe: Recipe, number: float) -> None:
    exact = EXACT[:1].copy()
    exact[0, 0, 0] = number
    maps, _ = simulated(recipe, exact, exact * 0.5, None, "logit")
    np.testing.assert_array_equal(maps, exact)
