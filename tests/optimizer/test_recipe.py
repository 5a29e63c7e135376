"""Recipes: what is said of them, and the ladder that profiles are measured of."""

from __future__ import annotations

import pytest

from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.recipe import RECIPES, Recipe, lattice_lines, recipes_on


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe("thresholded", 0.6, 0.6), "thresholded, tau 0.6"),
        (Recipe("thresholded", 0.6, 0.3), "thresholded, tau 0.6 to 0.3"),
        (Recipe("drill-down", step=3), "drill-down, every 3rd cell exact"),
        (
            Recipe("drill-down", step=2, fraction=0.25, where="drop"),
            "drill-down, every 2nd cell exact, 25% more where the score falls most",
        ),
        (
            Recipe("drill-down", step=2, where="uncertain", doubt=0.25),
            "drill-down, every 2nd cell exact, more where doubt exceeds 0.25",
        ),
        (
            Recipe("refined", 0.45, 0.45, 4, 0.1, "uncertain"),
            "refined, tau 0.45, every 4th cell exact, 10% more where least certain",
        ),
        (Recipe("incremental", precision="bfloat16"), "incremental, bfloat16"),
        (Recipe("refined", 0.6, 0.6, 3, precision="float16"), "refined, tau 0.6, every 3rd cell, float16"),
    ],
)
def test_a_recipe_says_what_it_is(recipe: Recipe, said: str) -> None:
    assert str(recipe) == said


def test_recipes_that_give_the_same_answer_have_one_essence() -> None:
    by_doubt, asked = (Recipe("drill-down", step=2, fraction=f, where="uncertain", doubt=0.2) for f in (0.0, 0.1))
    assert by_doubt.essence == asked.essence == by_doubt
    assert Recipe("drill-down", step=2, where="uncertain").essence == Recipe("drill-down", step=2)
    assert Recipe("drill-down", step=2, fraction=0.1, where="drop").essence.where == "drop"


def test_the_ladder_has_no_recipe_twice_and_none_that_is_exact() -> None:
    assert len(set(RECIPES)) == len(RECIPES) >= 25
    assert {recipe.operator for recipe in RECIPES} == {"thresholded", "drill-down", "refined"}
    assert all(recipe.capped or recipe.step > 1 for recipe in RECIPES)


def test_reduced_precisions_are_tried_where_a_device_is_faster_in_them() -> None:
    rates = Rates(flops_per_second=1e11, reduced=(("bfloat16", 5e11), ("float16", 1.1e11)))
    recipes = recipes_on(rates, "float32")
    assert recipes[: len(RECIPES)] == RECIPES and len(set(recipes)) == len(recipes)
    added = recipes[len(RECIPES) :]
    assert {recipe.precision for recipe in added} == {"bfloat16"}
    assert Recipe("incremental", precision="bfloat16") in added
    assert Recipe("drill-down", step=2, precision="bfloat16") in added
    assert len({recipe.cap for recipe in added}) < len({recipe.cap for recipe in RECIPES})
    assert recipes_on(Rates(), "float32") == recipes_on(rates, "bfloat16") == RECIPES


@pytest.mark.parametrize(
    ("count", "step", "lines"),
    [
        (1, 3, [0]),
        (2, 3, [0, 1]),
        (7, 1, [0, 1, 2, 3, 4, 5, 6]),
        (7, 2, [0, 2, 4, 6]),
        (8, 2, [0, 2, 4, 6]),
        (8, 3, [0, 3, 6]),
        (9, 3, [0, 3, 6, 8]),
    ],
)
def test_a_lattice_ends_at_the_last_line_or_right_beside_it(count: int, step: int, lines: list[int]) -> None:
    assert lattice_lines(count, step).tolist() == lines


def test_seconds_are_those_of_the_guide_and_of_the_share_that_is_computed() -> None:
    assert Recipe("drill-down", step=2, fraction=0.05).seconds((36, 36), 100.0, 0.0) == pytest.approx(30.0)
    assert Recipe("refined", 0.5, 0.5, 4).seconds((8, 8), 64.0, 7.0) == pytest.approx(7.0 + 9.0)
    assert Recipe("incremental", precision="bfloat16").seconds((8, 8), 5.0, 0.0) == 5.0
    assert Recipe("drill-down", step=2, doubt=0.2).seconds((36, 36), 100.0, 0.0, 0.07) == pytest.approx(32.0)
