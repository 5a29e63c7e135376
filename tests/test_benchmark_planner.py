"""The benchmark of the planner: what is admitted runs, and the choice is judged by what ran fastest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import planner
from benchmarks.profiles import LEVELS, made_up
from kryptondb.executor.operators import Full, Incremental
from kryptondb.executor.profiling import RecipeMeasurement
from kryptondb.optimizer.cost import Cost
from kryptondb.optimizer.operator import Candidate
from kryptondb.optimizer.recipe import RECIPES, Recipe

SMALL = ["--model", "squeezenet1_1", "--size", "64", "--patch", "16", "--stride", "24", "--rounds", "1"]


@pytest.mark.slow
def test_a_run_tells_of_each_case_what_was_chosen_and_what_was_best(tmp_path: Path) -> None:
    out = tmp_path / "planner.json"
    assert planner.main([*SMALL, "--target", "0.8", "--no-calibration", "--json", str(out)]) == 0
    cases = json.loads(out.read_text())["cases"]
    assert [case["level"] for case in cases] == [level.name for level in LEVELS]
    assert all(case["ratio"] >= 1 and case["ran"] <= case["admitted"] for case in cases)


def test_a_choice_is_compared_with_the_fastest_of_all_that_was_admitted() -> None:
    slow, fast, hopeless = (
        Candidate(operator, Cost(seconds, 1.0, 1), str(operator), "float32")
        for operator, seconds in ((Full(8), 1.0), (Incremental((2, 2)), 1.5), (Full(1), 9.0))
    )
    subject = planner.named("squeezenet1_1", 64, 16, 24, "cpu", 0)
    case = planner.Case(subject, "smooth maps", 0.9, slow, (slow, fast, hopeless))
    assert case.running == [slow, fast]
    seconds = {(slow.operator, "float32"): [3.0, 2.0], (fast.operator, "float32"): [1.0]}
    choice = planner.in_hindsight(case, seconds)  # type: ignore[arg-type]
    assert (choice.chosen, choice.best, choice.ratio) == ("full", "incremental", 2.0)
    assert planner.in_hindsight(replace(case, chosen=fast), seconds).ratio == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_made_up_profiles_fall_with_what_recipes_leave_out(level) -> None:
    strong, weak, rounded = (
        Recipe("thresholded", 0.8, 0.8),
        Recipe("thresholded", 0.3, 0.3),
        Recipe("incremental", precision="bfloat16"),
    )
    assert 0 < level.missing(strong, 0.0) < level.missing(weak, 0.0)
    assert level.missing(rounded, 0.0) == level.rounding
    assert level.missing(weak, 0.1) < level.missing(weak, 0.0)
    measured = [RecipeMeasurement(recipe, 0.9, 1.0) for recipe in RECIPES]
    profile = made_up(level, measured, 2.0, seed=0)
    assert profile.samples.shape == (20, len(RECIPES)) and (profile.samples <= 1).all()
    assert np.array_equal(profile.samples, made_up(level, measured, 2.0, seed=0).samples)
