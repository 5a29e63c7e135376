"""bind_hints: USING, and what this version does not do yet."""

from __future__ import annotations

from typing import Any

import pytest

from kryptondb.network import Cap
from tests.optimizer.conftest import Database, FakeFull, FakeIncremental, FakeThresholded

QUERY = "SELECT HEATMAP FROM occlude(chest, 'a.png') USING "


def test_hints_reach_the_plan(database: Database) -> None:
    plan = database.plan(QUERY + "operator => 'FULL', precision => 'float64', batch => 3, device => 'cpu'")
    assert plan.occlude is not None
    assert plan.occlude.operator == FakeFull(3)
    assert (plan.occlude.precision, plan.occlude.device) == ("float64", "cpu")
    assert plan.reason == "USING asks for full"


@pytest.mark.parametrize("hint", ["tau => 0.6", "operator => 'Thresholded', tau => 0.6"])
def test_a_tau_asks_for_the_thresholded_operator_and_the_answer_says_that_it_is_approximate(
    database: Database, hint: str
) -> None:
    plan = database.plan(QUERY + hint)
    assert plan.occlude is not None
    assert plan.occlude.operator == FakeThresholded((7, 7), Cap(0.6, 0.6))
    assert plan.reason == "USING asks for thresholded"
    assert plan.quality.kind == "approximate"
    assert "quality     approximate (there is no guarantee of accuracy" in database.explain(QUERY + hint)


@pytest.mark.parametrize("hint", ["tau => 0.6", "operator => 'thresholded', tau => 0.6"])
def test_a_hint_that_breaks_the_promise_is_refused(database: Database, hint: str) -> None:
    error = database.error(QUERY.replace("USING", "WITH SSIM >= 0.9 USING") + hint)
    assert (
        f"USING {hint.split(',')[0]} breaks the promise: no profile shows that thresholded keeps SSIM >= 0.9" in error
    )
    assert "Without that hint the exact plan runs" in error


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        ("oprator => 'full'", 'Did you mean "operator"?'),
        ("operator => 'ful'", 'Did you mean "full"?'),
        ("operator => 'thresholded'", "the operator 'thresholded' needs a tau"),
        ("step => 3", "step is a hint for the operators 'drill-down' and 'refined'"),
        ("fraction => 0.1", "fraction is a hint for the operators 'drill-down' and 'refined'"),
        ("doubt => 0.1", "doubt is a hint for the operators 'drill-down' and 'refined'"),
        ("tau => 0.5, step => 3", "step is a hint for the operators 'drill-down' and 'refined'"),
        ("operator => 'incremental', step => 3", "'drill-down' and 'refined', not for 'incremental'"),
        ("step => 0", "step must be a whole number from 1 to 64, not 0"),
        ("step => 65", "step must be a whole number from 1 to 64, not 65"),
        ("step => 1.5", "step must be a whole number from 1 to 64, not 1.5"),
        ("fraction => 1.1", "fraction must be a number from 0 to 1, not 1.1"),
        ("fraction => 'all'", "fraction must be a number from 0 to 1, not 'all'"),
        ("chosen => 'drop'", "chosen is a hint for the operators 'drill-down' and 'refined'"),
        ("doubt => 0", "doubt must be a number above 0 and at most 10, not 0"),
        ("doubt => 'none'", "doubt must be a number above 0 and at most 10, not 'none'"),
        ("tau => 0", "tau must be a number above 0 and at most 1, not 0"),
        ("tau => 1.5", "tau must be a number above 0 and at most 1, not 1.5"),
        ("tau => 'half'", "tau must be a number above 0 and at most 1, not 'half'"),
        ("operator => 'full', tau => 0.6", "'thresholded', 'drill-down' and 'refined', not for 'full'"),
        ("precision => 'float8'", "precision must be one of 'float32', 'float64'"),
        ("batch => 0", "batch must be a whole number of positions from 1"),
        ("device => 'tpu'", "device must be 'auto', 'cpu', 'cuda' or 'cuda:0'"),
        ("device => 'cuda:99'", "device 'cuda:99' not found"),
    ],
)
def test_a_hint_that_means_nothing_here_is_refused(database: Database, hint: str, message: str) -> None:
    error = database.error(QUERY + hint)
    assert message in error
    assert error.startswith("line 1, column")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_reduced_precision_is_approximate_and_promises_nothing(database: Database, precision: str) -> None:
    plan = database.plan(QUERY + f"precision => '{precision}'")
    assert plan.quality.kind == "approximate"
    assert plan.occlude is not None and plan.occlude.precision == precision
    error = database.error(QUERY.replace("USING", "WITH SSIM >= 0.9 USING") + f"precision => '{precision}'")
    assert f"USING precision => '{precision}' breaks the promise" in error


@pytest.mark.parametrize("operator", ["drill-down", "refined"])
def test_staged_operators_are_told_what_their_recipe_is(operator: str) -> None:
    told = []

    class Told(FakeThresholded):
        name = operator

        @classmethod
        def candidates(cls, workload: Any, rates: Any, hints: Any) -> list[Any]:
            told.append(dict(hints))
            return [cls((7, 7))]

    database = Database(operators=(FakeIncremental, Told))
    plan = database.plan(QUERY + f"operator => '{operator}', step => 3, fraction => 0.1, tau => 0.6")
    assert plan.quality.kind == "approximate"
    assert {name: told[0][name] for name in ("step", "fraction", "tau")} == {"step": 3, "fraction": 0.1, "tau": 0.6}
    database.plan(QUERY + f"operator => '{operator}', doubt => 0.25")
    assert told[-1]["doubt"] == 0.25 and "fraction" not in told[-1]
    database.plan(QUERY + f"operator => '{operator}', chosen => 'drop'")
    assert told[-1]["chosen"] == "drop"
    assert 'Did you mean "drop"?' in database.error(QUERY + f"operator => '{operator}', chosen => 'drops'")
    for other in ("fraction => 0.1", "chosen => 'drop'"):
        both = database.error(QUERY + f"operator => '{operator}', {other}, doubt => 0.25")
        assert f"{other.split()[0]} and doubt are two ways to say which cells are computed afterwards" in both
    asked = QUERY.replace("USING", "WITH SSIM >= 0.9 USING") + f"operator => '{operator}', step => 3"
    assert f"USING operator => '{operator}' breaks the promise" in database.error(asked)


def test_an_operator_that_cannot_answer_says_why(database: Database) -> None:
    error = database.error("SELECT HEATMAP FROM occlude(opaque, 'a.png') USING operator => 'incremental'")
    assert "no operator can answer USING operator => 'incremental'" in error
    assert "The network could not be traced (data-dependent control flow)" in error


def test_redundancy_takes_neither_hints_nor_promises(database: Database) -> None:
    assert "USING has no meaning" in database.error("SELECT * FROM redundancy(chest) USING batch => 3")
    assert "WITH has no meaning" in database.error("SELECT * FROM redundancy(chest) WITH SSIM >= 0.9")
