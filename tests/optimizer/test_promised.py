"""WITH SSIM: which plan keeps a promise, and what is said when none is shown to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from kryptondb.network import Cap
from kryptondb.optimizer.context import Approximations
from kryptondb.optimizer.cost import Cost, Rates
from kryptondb.optimizer.physical import Occlude, from_json, to_json
from kryptondb.optimizer.profile import Profile
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Workload
from tests.optimizer.conftest import Database, FakeThresholded

QUERY = "SELECT HEATMAP FROM occlude(chest, 'a.png') WITH SSIM >= "
MILD, MIDDLE, STRONG = (Recipe("thresholded", tau, tau) for tau in (0.8, 0.6, 0.3))


def profile(images: int = 20, **ssims: float) -> Profile:
    """Images that are all alike; of three recipes the milder ones come nearer and take longer."""
    each = [ssims.get("mild", 0.97), ssims.get("middle", 0.92), ssims.get("strong", 0.7)]
    seconds = np.tile([0.6, 0.4, 0.2], (images, 1))
    return Profile((MILD, MIDDLE, STRONG), np.tile(each, (images, 1)), seconds, np.ones(images))


def knowing(known: Profile | None, **operators: Any) -> Database:
    def operator_of(
        recipe: Recipe, workload: Workload, rates: Rates, hints: Mapping[str, Any]
    ) -> FakeThresholded | None:
        return operators.get("operator", FakeThresholded((70, 70), Cap(recipe.tau, recipe.tau_deep)))

    def find(occlude: Occlude) -> Profile | None:
        assert occlude.model == "Chest" and occlude.patch == (16, 16)
        return known

    return Database(approximations=Approximations(find, operator_of))


@pytest.mark.parametrize(
    ("target", "tau"),
    [("0.95", 0.8), ("0.9", 0.6), ("0.7", 0.3)],
)
def test_the_cheapest_recipe_that_is_shown_to_keep_the_promise_runs(target: str, tau: float) -> None:
    plan = knowing(profile()).plan(QUERY + target)
    assert plan.occlude is not None
    assert plan.occlude.operator == FakeThresholded((70, 70), Cap(tau, tau))
    assert plan.quality.kind == "approximate"
    assert "shown with confidence 0.9 by 19 images that are like the next" in plan.quality.note
    assert plan.reason.startswith(f"thresholded keeps SSIM >= {target}; incremental, which is exact, takes 10.0 times")


def test_what_was_not_taken_says_why() -> None:
    plan = knowing(profile()).plan(QUERY + "0.9")
    against = [(loser.name, loser.recipe, loser.reason) for loser in plan.rejected]
    assert against[0] == ("incremental", None, "10.0 x the time")
    assert ("thresholded", STRONG, "0 of 20 images keep the promise") in against
    assert ("thresholded", MILD, "1.5 x the time") in against
    told = knowing(profile()).explain(QUERY + "0.9")
    assert "thresholded, tau 0.3; SSIM bound 0.700" in told
    assert from_json(to_json(plan), (*Database().operators,)) == plan


@pytest.mark.parametrize(
    ("known", "query", "why"),
    [
        (None, QUERY + "0.9", "no profile (ANALYZE Chest USING images makes one): the exact plan keeps SSIM >= 0.9"),
        (profile(9), QUERY + "0.9", "the profile has 9 images, a confidence of 0.9 needs 10"),
        (profile(20), QUERY + "0.9 CONFIDENCE 0.99", "a confidence of 0.99 needs 100"),
        (profile(20), QUERY + "0.99", "no recipe of the profile is shown to keep it"),
        (
            profile(20),
            QUERY.replace("WITH", "WHERE y < 20 WITH") + "0.9",
            "profiles are of whole maps, and this is a part of one",
        ),
    ],
)
def test_what_is_not_shown_to_be_kept_is_kept_by_the_exact_plan(known: Profile | None, query: str, why: str) -> None:
    plan = knowing(known).plan(query)
    assert plan.occlude is not None and plan.occlude.operator.exact
    assert plan.quality.kind == "exact"
    assert why in plan.quality.note


def test_a_recipe_that_is_no_faster_here_is_not_taken() -> None:
    plan = knowing(profile(), operator=FakeThresholded((1, 1), Cap(0.6, 0.6))).plan(QUERY + "0.9")
    assert plan.occlude is not None and plan.occlude.operator.exact
    assert "would be no faster here" in plan.quality.note


def test_a_recipe_that_does_not_fit_in_memory_is_not_taken() -> None:
    class Large(FakeThresholded):
        def estimate(self, workload: Workload, rates: Rates) -> Cost:
            return Cost(1e-9, 1.0, 10**12)

    plan = knowing(profile(), operator=Large((7, 7))).plan(QUERY + "0.9")
    assert plan.occlude is not None and plan.occlude.operator.exact
    assert "more than the limit" in plan.quality.note


def test_a_network_that_no_approximate_operator_can_run_is_run_exactly() -> None:
    plan = knowing(profile(), operator=None).plan(QUERY + "0.9")
    assert plan.occlude is not None and plan.occlude.operator.exact
    assert "no approximate operator can run this network" in plan.quality.note


def test_an_operator_that_is_asked_for_runs_whatever_the_profile_says() -> None:
    plan = knowing(profile()).plan(QUERY + "0.9 USING operator => 'full'")
    assert plan.occlude is not None and plan.occlude.operator.name == "full"
    assert plan.quality.kind == "exact"
