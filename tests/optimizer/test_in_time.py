"""WITH TIME: the exact plan where it fits, else the best map that there is time for, or the nearest promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kryptondb.executor.metadata import with_metadata
from kryptondb.network import Cap
from kryptondb.optimizer.cost import Cost, Rates
from kryptondb.optimizer.physical import PhysicalPlan, from_json, to_json
from kryptondb.optimizer.promise import Profile
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Workload
from tests.optimizer.conftest import Database, FakeAnytime, FakeFull, FakeIncremental, FakeThresholded

#: 2,745 cells, which take incremental 2.6 s and the rounds of anytime 2.7 s.
QUERY = "SELECT HEATMAP FROM occlude(chest, 'a.png', patch => 4, stride => 1) WITH "
KEY = ("f00d" * 16, "top", "cpu")
PLAIN = FakeAnytime(Recipe("drill-down", step=4))
DRILLED, GUIDED = Recipe("drill-down", step=2), Recipe("refined", 0.3, 0.3, 4)


def profile(drilled: float = 0.8, guided: float = 0.95) -> Profile:
    """Thirds of the SSIM above, and recipes that rounds cannot follow with a better one."""
    recipes = (
        Recipe("thresholded", 0.8, 0.8),
        DRILLED,
        GUIDED,
        Recipe("drill-down", step=2, fraction=0.2, where="drop"),
        Recipe("drill-down", step=2, where="uncertain", doubt=0.2),
    )
    samples = np.tile([0.99, drilled, guided, 0.99, 0.99], (20, 1))
    samples[:3, 1:3] = 0.1  # some images are hard: the median does not mind
    seconds = np.tile([0.8, 0.3, 0.5, 0.5, 0.5], (20, 1))
    return Profile(recipes, samples, seconds, np.ones(20), np.zeros(seconds.shape))


def thresholded_alone(tau: float, ssim: float) -> Profile:
    """Twenty images, all alike, with one recipe that takes a share of tau of the exact map's time."""
    recipe = Recipe("thresholded", tau, tau)
    return Profile((recipe,), np.full((20, 1), ssim), np.full((20, 1), tau), np.ones(20), np.zeros((20, 1)))


@pytest.fixture
def profiled(database: Database) -> Database:
    database.profiles[KEY] = profile()
    return database


def seconds_of(plan: PhysicalPlan) -> float | None:
    assert plan.occlude is not None
    return plan.occlude.seconds


def operator_of(plan: PhysicalPlan) -> object:
    assert plan.occlude is not None
    return plan.occlude.operator


def test_the_exact_plan_runs_where_it_is_sure_to_fit(database: Database) -> None:
    plan = database.plan(QUERY + "TIME <= 6 SECONDS")
    assert operator_of(plan) == FakeIncremental((7, 7)) and seconds_of(plan) is None
    assert plan.quality.kind == "exact" and plan.quality.note == "estimated to take 2.6 s"
    assert b"kryptondb.expected_ssim" not in with_metadata(_schema(), plan).metadata


@pytest.mark.parametrize("seconds", [3.5, 5])
def test_what_would_be_late_if_it_took_twice_its_estimate_runs_so_that_it_can_stop(
    database: Database, seconds: float
) -> None:
    plan = database.plan(f"{QUERY}TIME <= {seconds} SECONDS")
    assert operator_of(plan) == FakeAnytime(Recipe("drill-down", step=8), at_once=True)
    assert seconds_of(plan) == seconds and plan.quality.kind == "approximate"
    assert plan.quality.note == "time for every cell is expected" and plan.quality.expected == 1.0


def test_what_is_estimated_to_fit_by_a_hair_runs_in_rounds(database: Database) -> None:
    assert operator_of(database.plan(QUERY + "TIME <= 2.8 SECONDS")) == PLAIN


def test_else_rounds_run_until_the_time_is_over_and_say_that_no_ssim_is_known(database: Database) -> None:
    plan = database.plan(QUERY + "TIME <= 1 SECOND")
    assert operator_of(plan) == PLAIN and seconds_of(plan) == 1.0
    assert plan.quality.kind == "approximate" and plan.quality.expected is None
    assert plan.quality.note == "the expected SSIM is unknown: no profile"
    assert plan.occlude is not None and plan.occlude.cost is not None
    assert plan.occlude.cost.seconds == 1.0 and plan.occlude.cost.flops == 1e9
    assert plan.occlude.description.startswith("about 1,000 cells computed, ")
    assert plan.reason.endswith("incremental, the cheapest exact operator, takes 2.6 s")
    assert [(loser.operator, loser.reason) for loser in plan.rejected][0] == (
        FakeIncremental((7, 7)),
        "cannot guarantee TIME <= 1 SECONDS",
    )
    metadata = with_metadata(_schema(), plan).metadata
    assert metadata[b"kryptondb.quality"] == b"approximate" and metadata[b"kryptondb.expected_ssim"] == b"unknown"
    assert metadata[b"kryptondb.promise"].startswith(b"WITH TIME <= 1 SECONDS (the expected SSIM is unknown")
    assert from_json(to_json(plan), database.operators) == plan


def test_the_best_recipe_of_the_profile_that_there_is_time_for_leads_the_rounds(profiled: Database) -> None:
    plan = profiled.plan(QUERY + "TIME <= 1.6 SECONDS")
    assert operator_of(plan) == FakeAnytime(GUIDED)
    assert plan.quality.expected == pytest.approx(0.95) and plan.quality.kind == "approximate"
    told = "SSIM 0.950 expected: the median of 20 images with refined, tau 0.3, every 4th cell exact"
    assert plan.quality.note == told
    assert with_metadata(_schema(), plan).metadata[b"kryptondb.expected_ssim"] == b"0.9500"
    assert f"quality     approximate (asked: TIME <= 1.6 SECONDS; {told[:20]}" in profiled.explain(
        QUERY + "TIME <= 1.6 SECONDS"
    )


def test_a_better_recipe_that_takes_longer_is_told_among_the_rejected(profiled: Database) -> None:
    plan = profiled.plan(QUERY + "TIME <= 1 SECONDS")
    assert operator_of(plan) == FakeAnytime(DRILLED) and plan.quality.expected == pytest.approx(0.8)
    assert plan.rejected[0].operator == FakeAnytime(GUIDED)
    assert plan.rejected[0].reason.startswith("SSIM 0.950 expected of refined, tau 0.3, every 4th cell exact, which")


def test_in_time_for_less_than_any_recipe_nothing_is_known(profiled: Database) -> None:
    plan = profiled.plan(QUERY + "TIME <= 0.1 SECONDS")
    assert operator_of(plan) == PLAIN and plan.quality.expected is None
    assert plan.quality.note.endswith("the profile has no recipe as coarse as that")


def test_a_part_of_a_map_is_not_what_the_profile_tells_of(profiled: Database) -> None:
    query = QUERY.replace(" WITH", " WHERE y < 40 WITH").replace("HEATMAP", "y")
    assert "the query asks for a part" in profiled.plan(query + "TIME <= 0.5 SECONDS").quality.note


def test_time_for_every_cell_is_told(profiled: Database) -> None:
    plan = profiled.plan(QUERY + "TIME <= 3 SECONDS")
    assert plan.quality.note == "time for every cell is expected" and plan.quality.expected == 1.0
    assert plan.quality.kind == "approximate"  # nobody promises it


def test_the_time_is_for_all_images_together(database: Database) -> None:
    many = QUERY.replace("'a.png'", "('a.png', 'b.png', 'c.png', 'd.png')")
    assert operator_of(database.plan(many + "TIME <= 24 SECONDS")) == FakeIncremental((7, 7))
    plan = database.plan(many + "TIME <= 4 SECONDS")
    assert operator_of(plan) == PLAIN and seconds_of(plan) == 4.0
    assert plan.occlude is not None and plan.occlude.cost is not None and plan.occlude.cost.seconds == 1.0
    assert "incremental, the cheapest exact operator, takes 2.6 s per image" in plan.reason


def test_a_folder_is_counted_and_with_a_condition_on_image_nothing_is_told(database: Database, tmp_path: Path) -> None:
    for name in "abc":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    folder = QUERY.replace("'a.png'", f"'{tmp_path}'")
    plan = database.plan(folder + "TIME <= 3 SECONDS")
    assert plan.occlude is not None and plan.occlude.cost is not None and plan.occlude.cost.seconds == 1.0
    some = folder.replace(" WITH", " WHERE image LIKE '%a%' WITH")
    plan = database.plan(some + "TIME <= 300 SECONDS")
    assert operator_of(plan) == PLAIN and plan.quality.note.endswith("is not known beforehand")
    assert "the number of images is not known" in database.error(some + "SSIM >= 0.9 AND TIME <= 300 SECONDS")


class WithBase(FakeIncremental):
    """Takes four milliseconds for the unoccluded image."""

    def estimate(self, workload: Workload, rates: Rates) -> Cost:
        cost = super().estimate(workload, rates)
        return replace(cost, seconds=cost.seconds + 4e-3)


def test_a_query_that_computes_no_cell_still_has_to_see_its_images_in_time(database: Database, tmp_path: Path) -> None:
    database.operators = (WithBase,)
    nothing = QUERY.replace(" WITH", " WHERE y < 0 WITH")
    plan = database.plan(nothing + "TIME <= 1 SECONDS")
    assert plan.quality.kind == "exact" and seconds_of(plan) is None
    assert plan.quality.note == "estimated to take 4 ms"
    error = database.error(nothing + "TIME <= 0.001 SECONDS")
    assert "TIME <= 0.001 SECONDS is too short: the unoccluded image is estimated to take 4 ms" in error
    assert "TIME <= 0.01 SECONDS can be kept" in error
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    some = nothing.replace("'a.png'", f"'{tmp_path}'").replace("y < 0", "y < 0 AND image LIKE '%a%'")
    assert database.plan(some + "TIME <= 0.00001 SECONDS").quality.note.endswith("is unknown")


def test_in_a_reduced_precision_no_ssim_is_expected_of_every_cell(database: Database) -> None:
    plan = database.plan(f"{QUERY}TIME <= 60 SECONDS USING operator => 'anytime', precision => 'bfloat16'")
    assert plan.quality.expected is None
    assert plan.quality.note == "time for every cell is expected; the expected SSIM in bfloat16 is unknown"


def test_a_network_that_cannot_be_traced_runs_in_rounds(database: Database) -> None:
    plan = database.plan(QUERY.replace("chest", "opaque") + "TIME <= 300 SECONDS")
    assert operator_of(plan) == PLAIN and seconds_of(plan) == 300.0
    assert "its progress cannot be estimated" in plan.quality.note and plan.quality.expected is None
    assert plan.occlude is not None and plan.occlude.cost is None


# Both promises


def test_both_promises_are_kept_by_the_exact_plan_where_it_fits(database: Database) -> None:
    plan = database.plan(QUERY + "SSIM >= 0.9 AND TIME <= 6 SECONDS")
    assert operator_of(plan) == FakeIncremental((7, 7))
    assert plan.quality.note == "no profile: the exact plan keeps SSIM >= 0.9; estimated to take 2.6 s"


def test_both_promises_are_kept_by_what_the_profile_admits(profiled: Database) -> None:
    profiled.profiles[KEY] = thresholded_alone(0.3, 0.93)
    plan = profiled.plan(QUERY + "SSIM >= 0.9 AND TIME <= 2 SECONDS")
    assert operator_of(plan) == FakeThresholded((7, 7), Cap(0.3, 0.3)) and seconds_of(plan) is None
    assert plan.quality.kind == "approximate" and plan.quality.images == 19
    assert plan.quality.note == "thresholded, tau 0.3: SSIM >= 0.930 (n=19); estimated to take 0.78 s"


def test_where_both_cannot_be_kept_the_nearest_of_each_is_named(database: Database) -> None:
    taus = (0.8, 0.5, 0.2)
    database.profiles[KEY] = Profile(
        tuple(Recipe("thresholded", tau, tau) for tau in taus),
        np.tile([0.99, 0.937, 0.7], (20, 1)),
        np.tile(taus, (20, 1)),
        np.ones(20),
        np.zeros((20, 3)),
    )
    error = database.error(QUERY + "SSIM >= 0.95 AND TIME <= 2.8 SECONDS")
    assert "no plan can guarantee both SSIM >= 0.95 and TIME <= 2.8 SECONDS" in error
    assert "thresholded, the fastest that keeps the SSIM, is estimated to take 2.1 s" in error
    assert "The nearest that can be kept: TIME <= 4.2 SECONDS with that SSIM; SSIM >= 0.93 in that time." in error
    assert operator_of(database.plan(QUERY + "SSIM >= 0.95 AND TIME <= 4.2 SECONDS")) == FakeThresholded(
        (7, 7), Cap(0.8, 0.8)
    )
    assert operator_of(database.plan(QUERY + "SSIM >= 0.93 AND TIME <= 2.8 SECONDS")) == FakeThresholded(
        (7, 7), Cap(0.5, 0.5)
    )


def test_where_no_ssim_fits_the_error_says_so(database: Database) -> None:
    error = database.error(QUERY + "SSIM >= 0.9 AND TIME <= 1 SECONDS")
    assert "incremental, the fastest that keeps the SSIM, is estimated to take 2.6 s" in error
    assert "TIME <= 5.3 SECONDS with that SSIM; no SSIM can be promised in that time without a profile" in error


def test_where_the_profile_knows_nothing_that_fits_the_error_says_so(profiled: Database) -> None:
    profiled.profiles[KEY] = thresholded_alone(0.8, 0.99)
    error = profiled.error(QUERY + "SSIM >= 0.9 AND TIME <= 1 SECONDS")
    assert "with that SSIM; no SSIM can be promised in that time." in error and "ANALYZE" not in error


def test_nobody_promises_both_of_a_network_that_cannot_be_traced(database: Database) -> None:
    error = database.error(QUERY.replace("chest", "opaque") + "SSIM >= 0.9 AND TIME <= 9 SECONDS")
    assert "its time is unknown" in error and "TIME <= 9 SECONDS alone gives an approximate map" in error


# What cannot be kept


def test_too_short_a_time_is_refused_with_one_that_is_enough(database: Database) -> None:
    error = database.error(QUERY + "TIME <= 0.003 SECONDS")
    assert "TIME <= 0.003 SECONDS is too short" in error and "estimated to take 4 ms" in error
    assert "TIME <= 0.01 SECONDS can be kept" in error and "^^^^" in error
    database.plan(QUERY + "TIME <= 0.01 SECONDS")
    many = QUERY.replace("'a.png'", "('a.png', 'b.png', 'c.png')")
    assert "4 ms per image" in database.error(many + "TIME <= 0.01 SECONDS")


@pytest.mark.parametrize("hint", ["operator => 'full'", "operator => 'thresholded', tau => 0.9"])
def test_an_operator_asked_for_runs_where_it_fits_and_is_refused_where_it_does_not(
    database: Database, hint: str
) -> None:
    plan = database.plan(f"{QUERY}TIME <= 60 SECONDS USING {hint}")
    assert isinstance(operator_of(plan), FakeFull if "full" in hint else FakeThresholded)
    assert plan.quality.note.endswith(f"estimated to take {'27' if 'full' in hint else '2.4'} s")
    error = database.error(f"{QUERY}TIME <= 1 SECONDS USING {hint}")
    assert "cannot guarantee TIME <= 1 SECONDS: it is estimated to take" in error
    assert "Without that hint anytime runs, which stops in time; with it, TIME <= " in error
    opaque = database.error(f"{QUERY}TIME <= 60 SECONDS USING operator => 'full'".replace("chest", "opaque"))
    assert "its time is unknown" in opaque


def test_an_operator_asked_for_is_refused_where_nobody_knows_how_many_images_there_are(database: Database) -> None:
    query = QUERY.replace("'a.png'", "'scans/*.png'").replace(" WITH", " WHERE image LIKE '%a%' WITH")
    error = database.error(f"{query}TIME <= 600 SECONDS USING operator => 'full'")
    assert "the number of images is not known beforehand" in error
    assert error.endswith("Without that hint anytime runs, which stops in time.")


def test_with_an_operator_asked_for_nothing_is_said_of_what_others_could_keep(database: Database) -> None:
    error = database.error(f"{QUERY}SSIM >= 0.9 AND TIME <= 50 SECONDS USING operator => 'full'")  # incremental could
    assert "USING full cannot guarantee TIME <= 50 SECONDS: it is estimated to take 27 s" in error
    assert "Without that hint any plan that keeps SSIM >= 0.9 may run" in error and "with it, TIME <= 5" in error


def test_rounds_can_be_asked_for_and_need_a_time(database: Database) -> None:
    assert operator_of(database.plan(QUERY + "TIME <= 1 SECONDS USING operator => 'anytime'")) == PLAIN
    error = database.error(QUERY.removesuffix(" WITH ") + " USING operator => 'anytime'")
    assert "runs until a time limit, and none is given" in error and "WITH TIME <= 10 SECONDS gives it one." in error
    both = database.error(QUERY + "SSIM >= 0.9 AND TIME <= 60 SECONDS USING operator => 'anytime'")
    assert "breaks the promise: no profile shows that anytime keeps SSIM >= 0.9" in both


def test_rounds_that_do_not_fit_in_memory_are_refused(database: Database) -> None:
    class Large(FakeAnytime):
        def estimate(self, workload, rates):
            return type(super().estimate(workload, rates))(1.0, 1.0, 10**12)

    database.operators = (FakeIncremental, FakeFull, Large)
    assert "no plan fits in memory: anytime needs" in database.error(QUERY + "TIME <= 1 SECONDS")


def _schema():
    import pyarrow as pa

    return pa.schema([pa.field("y", pa.int32())])
