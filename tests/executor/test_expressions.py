"""Expressions mean what SQL says, whatever Arrow's own habit is."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from kryptondb.errors import BindError
from kryptondb.executor.expressions import compile_expression, compile_predicate
from kryptondb.executor.stages import evaluate, run_node
from kryptondb.grammar.statements import In, Literal
from tests.fakes import expression

ROWS = pa.RecordBatch.from_pydict(
    {
        "y": pa.array([4, -7, 0, None], pa.int32()),
        "x": pa.array([0, 2, 3, 1], pa.int32()),
        "drop": pa.array([0.1, float("nan"), -2.5, None], pa.float32()),
        "label": pa.array(["Egyptian cat", "100% fox", "a_b", None]),
        "exact": pa.array([True, False, True, None]),
    }
)


def values(text: str) -> list[Any]:
    typed = compile_expression(expression(text), ROWS.schema)
    (found,) = evaluate(ROWS, [typed.expression])
    assert found.type == typed.type
    return list(found.to_pylist())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y + x", [4, -5, 3, None]),
        ("y - 1", [3, -8, -1, None]),
        ("-y * 2", [-8, 14, 0, None]),
        ("y / 2", [2.0, -3.5, 0.0, None]),
        ("y / x", [math.inf, -3.5, 0.0, None]),
        ("-y / x", [-math.inf, 3.5, 0.0, None]),
        ("1.5 / 0", [math.inf] * 4),
        ("1 / -0.0", [-math.inf] * 4),
        ("y % 0", [None] * 4),
        ("y % x", [None, -1, 0, None]),
        ("y % 2.5", [1.5, -2.0, 0.0, None]),
        ("y + NULL", [None] * 4),
        ("abs(y)", [4, 7, 0, None]),
        ("round(y)", [4, -7, 0, None]),
        ("round(2.5)", [3.0] * 4),
        ("round(-2.5)", [-3.0] * 4),
        ("round(x / 3, 2)", [0.0, 0.67, 1.0, 0.33]),
        ("y", [4, -7, 0, None]),
        ("'a'", ["a"] * 4),
        ("NULL", [None] * 4),
    ],
)
def test_arithmetic_follows_sql(text: str, expected: list[Any]) -> None:
    assert values(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["0 / 0", "y * 0 / 0", "1.5 % 0", "x % 0.0", "0.0 % 0.0"])
def test_what_is_no_number_is_nan_and_null_stays_null(text: str) -> None:
    assert all(
        value is None if "y" in text and row == 3 else math.isnan(value) for row, value in enumerate(values(text))
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y = 4", [True, False, False, None]),
        ("y <> 4", [False, True, True, None]),
        ("y > 3.5", [True, False, False, None]),
        ("y >= x", [True, False, False, None]),
        ("drop = 0.1", [True, False, False, None]),  # a literal beside a float32 column is a float32
        ("drop > 0", [True, False, False, None]),
        ("drop <= 0", [False, False, True, None]),  # NaN is neither above nor below
        ("drop = drop", [True, False, True, None]),
        ("y = NULL", [None] * 4),
        ("NULL = NULL", [None] * 4),
        ("y IS NULL", [False, False, False, True]),
        ("drop IS NOT NULL", [True, True, True, False]),  # NaN is a value
        ("y > 0 AND x > 1", [False, False, False, False]),
        ("y > 0 OR x > 0", [True, True, True, True]),
        ("y > 0 AND NULL", [None, False, False, None]),
        ("NOT y > 0", [False, True, True, None]),
        ("exact", [True, False, True, None]),
        ("exact = TRUE", [True, False, True, None]),
        ("y BETWEEN 0 AND 4", [True, False, True, None]),
        ("y NOT BETWEEN 0 AND 3", [True, True, False, None]),
        ("y BETWEEN 0 AND NULL", [None, False, None, None]),
        ("y IN (4, 0)", [True, False, True, None]),
        ("y NOT IN (4, 0)", [False, True, False, None]),
        ("y IN (4, NULL)", [True, None, None, None]),
        ("y NOT IN (4, NULL)", [False, None, None, None]),
        ("y IN (-7, 0.5, -0.0)", [False, True, True, None]),
        ("-drop * 0 IN (0)", [True, False, True, None]),
        ("drop IN (0.1, -2.5, 9)", [True, False, True, None]),
        ("NULL IN (1, 2)", [None] * 4),
        ("exact IN (TRUE)", [True, False, True, None]),
        ("y IN (4.0, x)", [True, False, False, None]),
        ("label = 'a_b'", [False, False, True, None]),
        ("label < 'B'", [False, True, False, None]),
        ("label LIKE '%cat'", [True, False, False, None]),
        ("label LIKE 'a_b'", [False, False, True, None]),
        ("label LIKE '___'", [False, False, True, None]),
        ("label NOT LIKE '%f%'", [True, False, True, None]),
        ("'a\\b' LIKE 'a\\%'", [True] * 4),  # a backslash is a backslash
        ("'a%' LIKE 'a\\%'", [False] * 4),
        ("label LIKE NULL", [None] * 4),
        ("label LIKE '100!%%' ESCAPE '!'", [False, True, False, None]),
        ("label LIKE 'a!_b' ESCAPE '!'", [False, False, True, None]),
        ("label NOT LIKE '%!_%' ESCAPE '!'", [True, True, False, None]),
        ("'a!b' LIKE 'a!!b' ESCAPE '!'", [True] * 4),
        ("'ab' LIKE 'a!b' ESCAPE '!'", [True] * 4),
        ("'a%' LIKE 'a\\%' ESCAPE '\\'", [True] * 4),
        ("'ab' LIKE 'a\\%' ESCAPE '\\'", [False] * 4),
        ("label LIKE 'a_b' ESCAPE ''", [False, False, True, None]),
        ("label LIKE 'a_b' ESCAPE NULL", [None] * 4),
        ("label ILIKE 'egyptian%'", [True, False, False, None]),
        ("label NOT ILIKE '%FOX'", [True, False, True, None]),
        ("label IN ('a_b', 'z')", [False, False, True, None]),
        ("CASE WHEN y > 0 THEN 1 WHEN x > 2 THEN 2 END", [1, None, 2, None]),
        ("CASE WHEN y > 0 THEN 1 ELSE 0.5 END", [1.0, 0.5, 0.5, 0.5]),
        ("CASE y WHEN 4 THEN 'four' WHEN NULL THEN 'never' ELSE label END", ["four", "100% fox", "a_b", None]),
        ("CASE WHEN NULL THEN 1 ELSE NULL END", [None] * 4),
        ("CASE WHEN exact THEN y > 0 ELSE exact END", [True, False, False, None]),
        ("CASE WHEN label = 'a_b' THEN 0 WHEN label IS NULL THEN CAST(label AS INTEGER) END", [None, None, 0, None]),
        ("CAST(y / 8 AS INTEGER)", [0, -1, 0, None]),
        ("CAST(2.5 AS INTEGER)", [2] * 4),
        ("CAST(y AS BOOLEAN)", [True, True, False, None]),
        ("exact::INTEGER", [1, 0, 1, None]),
        ("CAST(y AS VARCHAR)", ["4", "-7", "0", None]),
        ("CAST(y / 2 AS VARCHAR)", ["2.0", "-3.5", "0.0", None]),
        ("exact::VARCHAR", ["true", "false", "true", None]),
        ("' 12 '::BIGINT + 1", [13] * 4),
        ("' 2.5 '::DOUBLE", [2.5] * 4),
        ("'TRUE'::BOOLEAN", [True] * 4),
        ("CAST(NULL AS INTEGER)", [None] * 4),
        ("y::DOUBLE / 8", [0.5, -0.875, 0.0, None]),
    ],
)
def test_conditions_have_three_values(text: str, expected: list[Any]) -> None:
    assert values(text) == expected


def test_a_branch_that_is_not_taken_does_not_fail() -> None:
    numbers = "CASE WHEN label LIKE '%x' THEN 1 WHEN y IS NULL THEN 2 WHEN x < 3 THEN 3 ELSE CAST(label AS INTEGER) END"
    with pytest.raises(pa.ArrowInvalid, match="Failed to parse string: 'a_b'"):
        values(numbers)
    assert values(numbers.replace("x < 3", "x < 4")) == [3, 1, 3, 2]


@pytest.mark.parametrize("text", ["CAST(1e10 AS INTEGER)", "CAST(drop AS INTEGER)", "CAST(1e5 AS SMALLINT)"])
def test_a_value_that_does_not_fit_its_type_is_an_error(text: str) -> None:
    with pytest.raises(pa.ArrowInvalid):
        values(text)


def test_a_case_may_have_many_branches() -> None:
    branches = " ".join(f"WHEN {number} THEN {number * 2}" for number in range(1_000))
    assert values(f"CASE y {branches} END") == [8, None, 0, None]


def test_the_type_of_a_case_is_the_one_that_its_columns_have() -> None:
    def kind(text: str) -> pa.DataType:
        return compile_expression(expression(text), ROWS.schema).type

    assert kind("CASE WHEN exact THEN drop ELSE 0.5 END") == pa.float32()
    assert kind("CASE WHEN exact THEN drop ELSE y END") == pa.float32()
    assert kind("CASE WHEN exact THEN y ELSE x END") == pa.int32()
    assert kind("CASE WHEN exact THEN y / 2 ELSE drop END") == pa.float64()


def test_a_list_may_be_long() -> None:
    items = tuple(Literal(number) for number in range(4, 20_000))
    typed = compile_expression(In(expression("y"), items), ROWS.schema)
    assert evaluate(ROWS, [typed.expression])[0].to_pylist() == [True, False, False, None]


def test_an_item_of_another_type_is_a_bind_error() -> None:
    with pytest.raises(BindError, match="a number and a string cannot be compared"):
        values("y IN (1, 'a')")


def test_a_condition_keeps_rows_where_it_is_true_and_no_others() -> None:
    from pyarrow import acero

    condition = compile_predicate(expression("y > 0 OR NULL"), ROWS.schema)
    assert run_node(pa.Table.from_batches([ROWS]), "filter", acero.FilterNodeOptions(condition)).num_rows == 1


def test_rounding_keeps_nan_and_infinity() -> None:
    assert values("round(drop, 1)")[0] == pytest.approx(0.1)
    assert math.isnan(values("round(drop, 1)")[1])


def test_an_integer_that_overflows_is_an_error_and_not_a_wrapped_number() -> None:
    with pytest.raises(pa.ArrowInvalid, match="overflow"):
        values("(y + 9000000000000000000) * 4")


def test_a_column_is_found_in_any_case() -> None:
    assert values("Y") == [4, -7, 0, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dorp", 'no column named "dorp"'),
        ("label + 1", "+ takes numbers, and label is a string"),
        ("y = 'a'", "a number and a string cannot be compared"),
        ("label LIKE 3", "LIKE takes a string"),
        ("NOT y", "NOT takes a condition, and y is a number"),
        ("y AND exact", "AND takes a condition"),
        ("abs(label)", "abs takes numbers"),
        ("round(y, x)", "whole number of digits"),
        ("max(y)", "is an aggregate"),
        ("CASE WHEN y THEN 1 END", "WHEN takes a condition, and y is a number"),
        ("CASE WHEN exact THEN 1 ELSE 'a' END", "CASE gives a number and a string in different branches"),
        ("HEATMAP", 'no column named "heatmap"'),
    ],
)
def test_what_has_no_meaning_is_a_bind_error_at_its_place(text: str, message: str) -> None:
    with pytest.raises(BindError) as caught:
        compile_expression(expression(text), ROWS.schema)
    assert message in caught.value.message
    assert caught.value.position is not None


def test_a_bound_integer_that_is_too_large_is_a_bind_error() -> None:
    with pytest.raises(BindError, match="does not fit a 64-bit integer"):
        compile_expression(Literal(10**20), ROWS.schema)


def test_a_where_clause_is_a_condition() -> None:
    with pytest.raises(BindError, match="WHERE takes a condition, and y is a number"):
        compile_predicate(expression("y"), ROWS.schema)


def test_an_unknown_column_is_answered_with_the_nearest() -> None:
    with pytest.raises(BindError, match='Did you mean "drop"'):
        compile_expression(expression("dorp"), ROWS.schema)
