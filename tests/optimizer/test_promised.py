"""WITH SSIM: the cheapest plan that the profile admits, and why there is none where there is none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kryptondb.network import Cap
from kryptondb.optimizer.physical import from_json, to_json
from kryptondb.optimizer.promise import Profile
from kryptondb.optimizer.recipe import Recipe
from tests.optimizer.conftest import Database, FakeFull, FakeIncremental, FakeThresholded

QUERY = "SELECT HEATMAP FROM occlude(chest, 'a.png') WITH SSIM >= "
KEY = ("f00d" * 16, "top", "cpu")
STRONG, MIDDLE, WEAK = (Recipe("thresholded", tau, tau) for tau in (0.8, 0.5, 0.2))


def profile(images: int, seconds: tuple[float, ...] = (0.8, 0.5, 0.2)) -> Profile:
    """Every image alike: SSIM 0.99, 0.93 and 0.7."""
    samples = np.tile([0.99, 0.93, 0.7], (images, 1))
    seconds_each, nothing = np.tile(seconds, (images, 1)), np.zeros((images, 3))
    return Profile((STRONG, MIDDLE, WEAK), samples, seconds_each, np.ones(images), nothing)


@pytest.fixture
def profiled(database: Database) -> Database:
    database.profiles[KEY] = profile(20)
    return database


@pytest.mark.parametrize(("target", "tau"), [("0.95", 0.8), ("0.9", 0.5), ("0.7 CONFIDENCE 0.95", 0.2)])
def test_the_cheapest_recipe_that_keeps_the_promise_runs(profiled: Database, target: str, tau: float) -> None:
    plan = profiled.plan(QUERY + target)
    assert plan.occlude is not None and plan.occlude.operator == FakeThresholded((7, 7), Cap(tau, tau))
    assert plan.quality.kind == "approximate"
    assert plan.quality.images == 19 and plan.quality.confidence == (0.95 if "CONFIDENCE" in target else 0.9)


def test_the_story_is_told(profiled: Database) -> None:
    plan = profiled.plan(QUERY + "0.9")
    assert plan.quality.note == "thresholded, tau 0.5: SSIM >= 0.930 (n=19)"
    assert plan.reason.startswith(
        "thresholded, tau 0.5 is the cheapest that keeps SSIM >= 0.9; "
        "incremental, the cheapest exact operator, takes 2.0 times as long ("
    )
    assert ", full 21.0 times as long (" in plan.reason
    assert [(loser.operator, loser.reason) for loser in plan.rejected] == [
        (FakeThresholded((7, 7), Cap(0.2, 0.2)), "SSIM >= 0.700 (n=19), cannot guarantee SSIM >= 0.9"),
        (FakeThresholded((7, 7), Cap(0.8, 0.8)), "SSIM >= 0.990 (n=19), 1.6 x the time"),
        (FakeIncremental((7, 7)), "2.0 x the time"),
        (FakeIncremental((1, 1)), "14.0 x the time"),
        (FakeFull(16), "21.0 x the time"),
    ]
    told = profiled.explain(QUERY + "0.9")
    assert "cannot guarantee SSIM >= 0.9" in told and "quality     approximate (asked: SSIM >= 0.9;" in told


def test_a_recipe_that_only_seems_to_keep_the_promise_is_rejected_for_having_been_chosen(database: Database) -> None:
    lucky = profile(50)  # 49 of them certify, of which one may fail
    lucky.samples[5, 0] = lucky.samples[6, 1] = 0.5
    database.profiles[KEY] = lucky
    plan = database.plan(QUERY + "0.9")
    assert plan.quality.note == "thresholded, tau 0.8: SSIM >= 0.990 (n=49)"
    middle = next(loser for loser in plan.rejected if loser.operator == FakeThresholded((7, 7), Cap(0.5, 0.5)))
    told = "SSIM >= 0.930 (n=49), by itself; cannot guarantee SSIM >= 0.9 as one of 3 that were tried"
    assert middle.reason == told


def test_such_a_plan_goes_to_json_and_back(profiled: Database) -> None:
    plan = profiled.plan(QUERY + "0.9")
    assert from_json(to_json(plan), profiled.operators).quality == plan.quality
    assert json.loads(to_json(plan))["quality"]["images"] == 19


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (QUERY + "0.995", "no faster recipe of the profile of 20 images keeps it"),
        (
            QUERY + "0.9 CONFIDENCE 0.99",
            "a profile of 20 images is too small for a confidence of 0.99, which needs 100",
        ),
        (QUERY.replace("'a.png'", "'a.png', class => ALL") + "0.9", "no profile"),
        (
            QUERY.replace(" WITH", " WHERE y < 9 WITH").replace("HEATMAP", "y") + "0.9",
            "a profile describes whole maps, and the query asks for a part",
        ),
    ],
)
def test_where_nothing_is_admitted_the_exact_plan_runs_and_says_why(profiled: Database, query: str, why: str) -> None:
    plan = profiled.plan(query)
    assert plan.occlude is not None and plan.occlude.operator == FakeIncremental((7, 7))
    assert plan.quality.kind == "exact"
    assert plan.quality.note.startswith(f"{why}: the exact plan keeps SSIM >= 0.9")


@pytest.mark.parametrize(
    ("target", "tau", "bound"), [("0.9", 0.8, "0.990"), ("0.9", 0.5, "0.930"), ("0.7", 0.2, "0.700")]
)
def test_an_operator_asked_for_runs_where_the_profile_certifies_its_recipe(
    profiled: Database, target: str, tau: float, bound: str
) -> None:
    plan = profiled.plan(f"{QUERY}{target} USING tau => {tau}")
    assert plan.occlude is not None and plan.occlude.operator == FakeThresholded((7, 7), Cap(tau, tau))
    assert plan.quality.kind == "approximate" and plan.quality.images == 19
    assert plan.quality.note == f"thresholded, tau {tau}: SSIM >= {bound} (n=19)"
    assert plan.reason == "USING asks for thresholded"


def test_an_operator_asked_for_is_refused_where_the_profile_does_not_certify_its_recipe(database: Database) -> None:
    lucky = profile(50)
    lucky.samples[5, 0] = lucky.samples[6, 1] = 0.5  # by itself tau 0.5 would do; as one of several it is not sure to
    database.profiles[KEY] = lucky
    database.plan(QUERY + "0.9 USING tau => 0.8")
    for tau in (0.5, 0.3):  # of 0.3 nothing is known
        error = database.error(f"{QUERY}0.9 USING tau => {tau}")
        assert f"USING tau => {tau} breaks the promise: the profile of 50 images does not show" in error


def test_where_using_asks_for_an_exact_operator_no_profile_is_said_to_be_missing(profiled: Database) -> None:
    plan = profiled.plan(QUERY + "0.9 USING operator => 'full'")
    assert plan.quality.note == "USING asks for full: the exact plan keeps SSIM >= 0.9"
    nothing = profiled.plan(QUERY.replace(" WITH", " WHERE y < 0 WITH").replace("HEATMAP", "y") + "0.9")
    assert nothing.quality.note == "no cell is computed: the exact plan keeps SSIM >= 0.9"


def test_nothing_approximate_runs_without_a_promise_or_against_a_hint(profiled: Database) -> None:
    for query in ("SELECT HEATMAP FROM occlude(chest, 'a.png')", QUERY + "0.9 USING operator => 'full'"):
        plan = profiled.plan(query)
        assert plan.quality.kind == "exact" and "thresholded" not in str(plan.rejected)


def test_what_the_estimate_takes_for_no_faster_does_not_run(profiled: Database) -> None:
    uncapped, half = (Recipe("thresholded"),), np.full((20, 1), 0.5)
    profiled.profiles[KEY] = Profile(uncapped, np.ones((20, 1)), half, np.ones(20), np.zeros((20, 1)))
    plan = profiled.plan(QUERY + "0.9")
    assert plan.quality.note.startswith("no recipe that the profile admits is estimated to be faster")


def test_what_was_measured_to_be_no_faster_is_not_tried(profiled: Database) -> None:
    profiled.profiles[KEY] = profile(20, seconds=(2.0, 2.0, 0.2))
    plan = profiled.plan(QUERY + "0.9")
    assert plan.quality.kind == "exact"
    assert [loser.operator for loser in plan.rejected][0] == FakeThresholded((7, 7), Cap(0.2, 0.2))


def test_of_all_that_is_certified_the_fastest_by_the_estimate_runs(profiled: Database) -> None:
    profiled.profiles[KEY] = profile(20, seconds=(0.3, 0.5, 0.6))
    profiled.profiles[KEY].samples[:] = [0.93, 0.95, 0.99]
    plan = profiled.plan(QUERY + "0.9")
    assert plan.occlude is not None and plan.occlude.operator == FakeThresholded((7, 7), Cap(0.2, 0.2))


def test_an_admitted_plan_that_does_not_fit_in_memory_is_left(profiled: Database) -> None:
    class Large(FakeThresholded):
        def estimate(self, workload, rates):
            cost = super().estimate(workload, rates)
            return type(cost)(cost.seconds, cost.flops, 10**12)

        @classmethod
        def planned(cls, recipe, workload, rates, hints):
            return [cls((7, 7), Cap(recipe.tau, recipe.tau_deep))]

    profiled.operators = (FakeIncremental, FakeFull, Large)
    plan = profiled.plan(QUERY + "0.9")
    assert plan.quality.kind == "exact"
    assert sum("memory limit" in loser.reason for loser in plan.rejected) == 2


def test_a_recipe_that_no_operator_here_follows_is_passed_over(profiled: Database) -> None:
    profiled.operators = (FakeIncremental, FakeFull)
    plan = profiled.plan(QUERY + "0.9")
    assert plan.quality.kind == "exact"
