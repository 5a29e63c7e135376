"""The cheapest exact operator is taken; the others are told of with their cost and the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kryptondb.optimizer.cost import Cost, Rates
from kryptondb.optimizer.workload import Workload
from tests.optimizer.conftest import Database, FakeFull, FakeIncremental

QUERY = "SELECT HEATMAP FROM occlude(chest, 'a.png')"


def test_the_cheapest_runs_and_the_rest_are_rejected_in_order_of_cost(database: Database) -> None:
    plan = database.plan(QUERY)
    assert plan.occlude is not None and plan.occlude.operator == FakeIncremental((7, 7))
    assert [loser.operator for loser in plan.rejected] == [FakeIncremental((1, 1)), FakeFull(16)]
    assert [loser.reason for loser in plan.rejected] == ["7.0 x the time", "10.5 x the time"]
    assert plan.reason.startswith("incremental is the cheapest exact operator")
    assert plan.quality.kind == "exact"


def test_an_approximate_operator_is_no_candidate(database: Database) -> None:
    @dataclass(frozen=True)
    class Guess(FakeFull):
        name: ClassVar[str] = "guess"
        exact: ClassVar[bool] = False
        rounded: ClassVar[bool] = False

        def estimate(self, workload: Workload, rates: Rates) -> Cost:
            return Cost(0, 0, 0)

    database.operators = (Guess, *database.operators)
    plan = database.plan(QUERY)
    assert plan.occlude is not None and plan.occlude.operator.name == "incremental"
    assert "guess" not in str(plan.rejected)


def test_where_only_differences_are_rounded_an_operator_that_rounds_everything_is_no_candidate(
    database: Database,
) -> None:
    @dataclass(frozen=True)
    class OnDifferences(FakeIncremental):
        rounded: ClassVar[bool] = True

        def estimate(self, workload: Workload, rates: Rates) -> Cost:
            return Cost(1e6, 0, 0)

    database.operators = (OnDifferences, FakeFull)
    plan = database.plan(QUERY + " USING precision => 'bfloat16'")
    assert plan.occlude is not None and plan.occlude.operator.name == "incremental"
    assert "full" not in str(plan.rejected)
    plan = database.plan(QUERY + " USING precision => 'bfloat16', operator => 'full'")
    assert plan.occlude is not None and plan.occlude.operator == FakeFull(16)


def test_a_hint_forces_an_operator(database: Database) -> None:
    plan = database.plan(QUERY + " USING operator => 'full'")
    assert plan.occlude is not None and plan.occlude.operator == FakeFull(16)
    assert {loser.reason for loser in plan.rejected} == {"USING asks for full"}


def test_a_model_that_cannot_be_traced_runs_full_and_says_why(database: Database) -> None:
    plan = database.plan("SELECT HEATMAP FROM occlude(opaque, 'a.png')")
    assert plan.occlude is not None and plan.occlude.operator.name == "full"
    assert plan.reason == "only full can answer: the network could not be traced (data-dependent control flow)"
    assert plan.occlude.tail == "the whole network: data-dependent control flow"


def test_what_does_not_fit_in_memory_is_rejected(database: Database) -> None:
    database.settings.memory = 150_000_000
    plan = database.plan(QUERY)
    assert plan.rejected[-1].reason == "needs more than the memory limit of 150 MB"
    database.settings.memory = 50_000_000
    error = database.error(QUERY)
    assert "no plan fits in memory: incremental needs 100 MB, and the limit is 50 MB" in error
    assert "SET memory_limit" in error


def test_an_ssim_promise_is_kept_by_the_exact_plan(database: Database) -> None:
    quality = database.plan(QUERY + " WITH SSIM >= 0.9 CONFIDENCE 0.95").quality
    assert quality.kind == "exact"
    assert quality.note == "no profile: the exact plan keeps SSIM >= 0.9"
    assert quality.promise is not None and quality.promise.confidence == 0.95


def test_redundancy_of_a_model_that_cannot_be_traced_is_refused(database: Database) -> None:
    error = database.error("SELECT * FROM redundancy(opaque)")
    assert "could not be traced (data-dependent control flow)" in error
