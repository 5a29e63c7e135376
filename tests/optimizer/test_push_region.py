"""push_region_into_grid: positions outside the WHERE clause are never computed, and no other is left out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.executor.expressions import compile_predicate
from kryptondb.grammar import parse_expression
from kryptondb.grammar.statements import (
    Between,
    Binary,
    Call,
    Column,
    Expression,
    In,
    IsNull,
    Literal,
    Select,
    SelectItem,
    Star,
    TableFunction,
    Unary,
)
from kryptondb.optimizer import from_json, plan, to_json
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.grid_cells import CellsByKind
from kryptondb.optimizer.nodes import Filter
from kryptondb.optimizer.physical import Occlude, PhysicalPlan
from kryptondb.optimizer.rules import push_region_into_grid
from kryptondb.optimizer.workload import mask_of_runs
from tests.optimizer.conftest import Database

ROWS, COLS = 13, 9  # of patch 16, stride 4, on an input of 64 x 48


def positions(database: Database, where: str) -> int:
    occlude = database.plan(f"SELECT * FROM occlude(chest, 'a.png') WHERE {where}").occlude
    assert occlude is not None
    return occlude.experiment.positions


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("y BETWEEN 8 AND 20", 4 * COLS),
        ("row = 3 AND col IN (1, 2, 8)", 3),
        ("NOT (y > 8 OR x > 8)", 9),
        ("y % 8 = 0", 7 * COLS),
        ("y / 8 = 0.5", COLS),
        ("(y < 8 AND x < 8) OR (y >= 40 AND x >= 28)", 4 + 6),
        ("y < 20 AND drop > 0.1", 5 * COLS),
        ("y < 8 OR (y >= 44 AND drop > 0.1)", 2 * COLS + 2 * COLS),
        ("abs(y - x) < 4", 9),
        ("y > 1000", 0),
        ("y = NULL", 0),
        ("NOT (y < 8 AND NULL)", 11 * COLS),
        ("drop > 0.1", ROWS * COLS),
        ("height = 16", ROWS * COLS),
        ("1 = 0", 0),
        ("x / 0 = 1", 0),
        ("(y < 8) = TRUE", 2 * COLS),
        ("(y < 8) <> TRUE", 11 * COLS),
        ("NOT ((y < 8) = TRUE)", 11 * COLS),
        ("(y < 8) = (x < 8)", 2 * 2 + 11 * 7),
        ("(y < 8) IS NULL", 0),
        ("(y / x > 1) IS NULL", 0),
        ("(y % x > 1) IS NULL", ROWS),
        ("(y < 8) IN (FALSE, NULL)", 11 * COLS),
        ("(y < 8 AND drop > 0.1) IS NOT NULL", ROWS * COLS),
        ("round(y, -1) = 30", 2 * COLS),
    ],
)
def test_only_cells_that_can_be_kept_are_computed(database: Database, where: str, expected: int) -> None:
    assert positions(database, where) == expected


def test_a_condition_on_both_axes_is_evaluated_a_block_of_rows_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_region_into_grid, "_PLACES_AT_ONCE", 2 * COLS + 1)
    assert positions(database, "abs(y - x) < 4") == 9
    assert positions(database, "(y < 8 AND x < 8) OR (y >= 40 AND x >= 28)") == 4 + 6
    assert positions(database, "y < 20 AND y + x >= 0 AND x < 8") == 5 * 2


def test_what_is_pushed_leaves_the_filter_and_the_rest_stays(database: Database) -> None:
    tree = database.tree("SELECT * FROM occlude(chest, 'a.png') WHERE y < 20 AND drop > 0.1 AND (x < 8 OR base > 0.5)")
    assert tree.split("\n")[0] == "Filter  drop > 0.1 AND (x < 8 OR base > 0.5)"
    tree = database.tree("SELECT * FROM occlude(chest, 'a.png') WHERE y < 20 AND NOT x < 8")
    assert tree.startswith("Occlusion")


@pytest.mark.parametrize("where", ["(y < 8) = (drop > 0)", "(drop > 0) IS NULL", "NOT (x < 8) = exact"])
def test_a_condition_that_the_grid_does_not_decide_stays(database: Database, where: str) -> None:
    tree = database.tree(f"SELECT * FROM occlude(chest, 'a.png') WHERE {where} AND y < 20")
    assert tree.split("\n")[0] == f"Filter  {where}"


def test_runs_are_sorted_and_hold_both_ends(database: Database) -> None:
    occlude = database.plan(
        "SELECT * FROM occlude(chest, 'a.png') WHERE row IN (5, 2) AND (col < 2 OR col = 4)"
    ).occlude
    assert occlude is not None
    assert occlude.experiment.runs == ((2, 0, 1), (2, 4, 4), (5, 0, 1), (5, 4, 4))


def test_an_empty_region_makes_a_plan_that_computes_nothing(database: Database) -> None:
    for items in ("*", "HEATMAP"):
        plan = database.plan(f"SELECT {items} FROM occlude(chest, 'a.png') WHERE y > 1000")
        assert plan.occlude is not None and plan.occlude.experiment.runs == ()
        assert plan.reason == "no position is computed"
        assert plan.occlude.description == "float32, the unoccluded image alone"


def test_conditions_are_not_pushed_into_redundancy(database: Database) -> None:
    assert "Filter  height > 3" in str(database.plan("SELECT * FROM redundancy(chest) WHERE height > 3"))


# Any predicate at all, against the executor's own filter over every cell

KNOWN = ("y", "x", "row", "col")
integers = st.integers(-3, 50).map(Literal)


def numeric(columns: tuple[str, ...]) -> st.SearchStrategy[Expression]:
    leaves = st.one_of(integers, st.just(Literal(None)), st.sampled_from(columns).map(Column))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(Binary, st.sampled_from("+-*/%"), inner, inner),
            st.builds(lambda operand: Unary("-", operand), inner),
            st.builds(lambda operand: Call("abs", (operand,)), inner),
        ),
        max_leaves=3,
    )


def predicates(columns: tuple[str, ...]) -> st.SearchStrategy[Expression]:
    number = numeric(columns)
    leaves = st.one_of(
        st.builds(Binary, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), number, number),
        st.builds(Between, number, number, number, st.booleans()),
        st.builds(In, number, st.lists(number, min_size=1, max_size=3).map(tuple), st.booleans()),
        st.builds(IsNull, number, st.booleans()),
        st.sampled_from([Literal(True), Literal(False), Literal(None)]),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(Binary, st.sampled_from(["AND", "OR"]), inner, inner),
            st.builds(lambda operand: Unary("NOT", operand), inner),
            st.builds(Binary, st.sampled_from(["=", "<>", "<", ">="]), inner, inner),
            st.builds(IsNull, inner, st.booleans()),
        ),
        max_leaves=5,
    )


def planned(predicate: Expression) -> PhysicalPlan:
    database = Database()
    source = TableFunction("occlude", (Column("chest"), Literal("a.png")))
    return plan(
        Select((SelectItem(Star()),), source, where=predicate),
        models=database.models,  # type: ignore[arg-type]
        settings=database.settings,  # type: ignore[arg-type]
        bindings={},
        rates=lambda device: Rates(),
        operators=database.operators,
    )


def cells() -> pa.Table:
    row, col = (axis.ravel() for axis in np.meshgrid(np.arange(ROWS), np.arange(COLS), indexing="ij"))
    drop = np.random.default_rng(0).integers(-3, 50, ROWS * COLS)
    arrays = {"row": row, "col": col, "y": row * 4, "x": col * 4, "drop": drop}
    return pa.table({name: pa.array(array, pa.int32()) for name, array in arrays.items()})


def kept(table: pa.Table, predicate: Expression) -> set[tuple[int, int]]:
    found = table.filter(compile_predicate(predicate, table.schema))
    return set(zip(found["row"].to_pylist(), found["col"].to_pylist(), strict=True))


def computed(table: pa.Table, occlude: Occlude) -> pa.Table:
    mask = mask_of_runs(occlude.experiment.runs, ROWS, COLS)
    return table.filter(pc.field("row") * COLS + pc.field("col") >= 0).filter(pa.array(mask.ravel()))


@settings(max_examples=150, deadline=None)
@given(predicates(KNOWN))
def test_a_region_holds_exactly_the_cells_that_the_filter_would_keep(predicate: Expression) -> None:
    plan = planned(predicate)
    table = cells()
    assert isinstance(plan.root, Occlude), "nothing is left to filter"
    region = computed(table, plan.root)
    assert set(zip(region["row"].to_pylist(), region["col"].to_pylist(), strict=True)) == kept(table, predicate)


@settings(max_examples=150, deadline=None)
@given(predicates((*KNOWN, "drop")))
def test_a_region_and_what_is_left_of_the_filter_keep_what_the_filter_kept(predicate: Expression) -> None:
    plan = planned(predicate)
    table = cells()
    assert plan.occlude is not None
    region = computed(table, plan.occlude)
    if isinstance(plan.root, Filter):
        assert kept(region, plan.root.predicate) == kept(table, predicate)
    else:
        assert set(zip(region["row"].to_pylist(), region["col"].to_pylist(), strict=True)) == kept(table, predicate)


@pytest.mark.parametrize("where", [f"x % {step} {op} 0" for step in (0.1, 0.3, -0.7, 1.1) for op in ("=", ">")])
def test_a_remainder_of_fractions_is_the_one_that_is_selected(where: str) -> None:
    predicate = parse_expression(where)
    plan = planned(predicate)
    assert isinstance(plan.root, Occlude)
    region = computed(cells(), plan.root)
    kept_at = set(zip(region["row"].to_pylist(), region["col"].to_pylist(), strict=True))
    assert kept_at == kept(cells(), predicate)


def test_a_condition_with_a_null_in_its_list_keeps_sql_logic(database: Database) -> None:
    assert positions(database, "y NOT IN (0, NULL)") == 0
    assert positions(database, "y IN (0, NULL)") == COLS
    assert str(parse_expression("y NOT IN (0, NULL)")) == "y NOT IN (0, NULL)"


@pytest.mark.parametrize("where", ["(row + col) % 2 = 0", "row * col % 7 = 3", "row % 2 = 0 AND col % 2 = 0"])
def test_a_plan_holds_irregular_cells_of_a_large_grid_by_kind(
    database: Database, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    query = f"SELECT * FROM occlude(chest, 'a.png') WHERE {where}"
    runs = database.plan(query).occlude
    monkeypatch.setattr("kryptondb.optimizer.workload.MOST_RUNS", 3)
    by_kind = database.plan(query)
    assert runs is not None and by_kind.occlude is not None
    cells = by_kind.occlude.experiment.runs
    assert isinstance(runs.experiment.runs, tuple) and isinstance(cells, CellsByKind)
    assert by_kind.occlude.experiment.positions == runs.experiment.positions
    np.testing.assert_array_equal(mask_of_runs(cells, ROWS, COLS), mask_of_runs(runs.experiment.runs, ROWS, COLS))
    assert from_json(to_json(by_kind), tuple(database.operators)) == by_kind
