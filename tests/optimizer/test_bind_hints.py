"""bind_hints: USING, and what this version does not do yet."""

from __future__ import annotations

import pytest

from tests.optimizer.conftest import Database, FakeFull

QUERY = "SELECT HEATMAP FROM occlude(chest, 'a.png') USING "


def test_hints_reach_the_plan(database: Database) -> None:
    plan = database.plan(QUERY + "operator => 'FULL', precision => 'float64', batch => 3, device => 'cpu'")
    assert plan.occlude is not None
    assert plan.occlude.operator == FakeFull(3)
    assert (plan.occlude.precision, plan.occlude.device) == ("float64", "cpu")
    assert plan.reason == "USING asks for full"


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        ("oprator => 'full'", 'Did you mean "operator"?'),
        ("operator => 'ful'", 'Did you mean "full"?'),
        ("operator => 'drill-down'", "operator => 'drill-down' is not available in this version yet"),
        ("operator => 'DrillDown'", "operator => 'drill-down' is not available in this version yet"),
        ("operator => 'thresholded'", "operator => 'thresholded' is not available in this version yet"),
        ("operator => 'refined'", "operator => 'refined' is not available in this version yet"),
        ("tau => 0.6", "tau => 0.6 is not available in this version yet"),
        ("precision => 'bfloat16'", "precision => 'bfloat16' is not available in this version yet"),
        ("precision => 'float16'", "precision => 'float16' is not available in this version yet"),
        ("precision => 'float8'", "precision must be one of 'float32', 'float64'"),
        ("batch => 0", "batch must be a whole number of positions from 1"),
        ("device => 'tpu'", "device must be 'auto', 'cpu', 'cuda' or 'cuda:0'"),
        ("device => 'cuda:99'", "device 'cuda:99' is not there"),
    ],
)
def test_a_hint_that_means_nothing_here_is_refused(database: Database, hint: str, message: str) -> None:
    error = database.error(QUERY + hint)
    assert message in error
    assert error.startswith("line 1, column")


def test_an_operator_that_cannot_answer_says_why(database: Database) -> None:
    error = database.error("SELECT HEATMAP FROM occlude(opaque, 'a.png') USING operator => 'incremental'")
    assert "no operator can answer USING operator => 'incremental'" in error
    assert "The network could not be traced: data-dependent control flow" in error


def test_redundancy_takes_neither_hints_nor_promises(database: Database) -> None:
    assert "USING has no meaning" in database.error("SELECT * FROM redundancy(chest) USING batch => 3")
    assert "WITH has no meaning" in database.error("SELECT * FROM redundancy(chest) WITH SSIM >= 0.9")
