"""GROUP BY and the aggregates, fed image by image."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.errors import BindError, ExecutionError
from kryptondb.executor import aggregates
from kryptondb.executor.stages import Piece, Stage
from kryptondb.optimizer import physical as p
from kryptondb.optimizer.nodes import column_name
from tests.fakes import group, occlude, rows, where


def answer(batches: list[pa.RecordBatch], *keys: str, **calls: str) -> list[dict[str, Any]]:
    """The groups of rows that come in so many batches."""

    def begin() -> Generator[Piece, None, None]:
        for batch in batches:
            yield Piece(batch, last=True)

    node = group(p.Images("x"), *keys, **calls)
    named = [(key, column_name(key)) for key in node.keys]
    stage = aggregates.aggregated(Stage(batches[0].schema, begin), named, node.aggregates)
    pieces = list(stage.start())
    assert all(piece.batch.schema == stage.schema for piece in pieces)
    return [row for piece in pieces for row in piece.batch.to_pylist()]


def batch(**columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def test_each_image_is_a_group_of_its_cells(folder: Path) -> None:
    found = rows(group(occlude(str(folder)), "image", n="count(*)", most="max(drop)", mean="avg(y)", total="sum(x)"))
    assert [row["image"][-5:] for row in found] == ["a.png", "b.png", "c.png"]
    assert found[0]["n"] == 12
    assert found[0]["most"] == pytest.approx(0.023)
    assert found[0]["mean"] == 2.0
    assert found[0]["total"] == 72


def test_an_average_over_images_of_unequal_size_is_not_the_average_of_averages(folder: Path) -> None:
    cells = where(occlude(str(folder)), "image LIKE '%a.png' OR y = 0")
    (found,) = rows(group(cells, mean="avg(y)"))
    assert found["mean"] == pytest.approx(24 / 20)


def test_without_rows_count_is_0_and_the_others_are_null(picture: str) -> None:
    nothing = where(occlude(picture), "y < 0")
    one = group(nothing, n="count(*)", c="count(y)", d="count(DISTINCT y)", s="sum(y)", a="avg(y)", m="max(label)")
    assert rows(one) == [{"n": 0, "c": 0, "d": 0, "s": None, "a": None, "m": None}]
    assert rows(group(nothing, "label", n="count(*)")) == []


def test_groups_are_keys_alone_when_no_aggregate_is_asked_for(folder: Path) -> None:
    assert rows(group(occlude(str(folder)), "y")) == [{"y": 0}, {"y": 2}, {"y": 4}]


def test_rows_are_grouped_by_expressions(picture: str) -> None:
    found = rows(group(occlude(picture), "y > 0", "x % 8", n="count(*)"))
    assert [tuple(row.values()) for row in found] == [(False, 0, 2), (False, 4, 2), (True, 0, 4), (True, 4, 4)]


def test_minimum_and_maximum_take_strings_and_booleans() -> None:
    batches = [batch(s=["b", None], b=[True, None]), batch(s=["a", "c"], b=[False, True])]
    assert answer(batches, low="min(s)", high="max(s)", least="min(b)") == [{"low": "a", "high": "c", "least": False}]


def test_nulls_are_left_out_and_make_a_group_of_their_own() -> None:
    batches = [batch(k=["a", None], v=[1, None]), batch(k=[None, "a"], v=[5, None])]
    assert answer(batches, "k", n="count(*)", c="count(v)", d="count(DISTINCT v)", s="sum(v)", a="avg(v)") == [
        {"k": "a", "n": 2, "c": 1, "d": 1, "s": 1, "a": 1.0},
        {"k": None, "n": 2, "c": 1, "d": 1, "s": 5, "a": 5.0},
    ]


def test_nan_spoils_sums_and_is_left_out_by_extremes() -> None:
    batches = [batch(v=pa.array([math.nan, 1.0], pa.float32())), batch(v=pa.array([3.0], pa.float32()))]
    (found,) = answer(batches, s="sum(v)", a="avg(v)", low="min(v)", high="max(v)", n="count(v)")
    assert math.isnan(found["s"]) and math.isnan(found["a"])
    assert (found["low"], found["high"], found["n"]) == (1.0, 3.0, 3)


def test_zero_and_minus_zero_are_one_group() -> None:
    assert answer([batch(k=[0.0, -0.0]), batch(k=[-0.0])], "k", n="count(*)") == [{"k": 0.0, "n": 3}]
    assert answer([batch(k=[0.0, -0.0])], n="count(DISTINCT k)") == [{"n": 1}]


def test_count_distinct_counts_a_value_of_two_images_once() -> None:
    batches = [batch(k=[1, 1], v=["a", "b"]), batch(k=[1, 2], v=["a", "a"])]
    assert answer(batches, "k", d="count(DISTINCT v)", n="count(*)") == [
        {"k": 1, "d": 2, "n": 3},
        {"k": 2, "d": 1, "n": 1},
    ]
    assert answer(batches, d="count(DISTINCT v)", e="count(DISTINCT k)") == [{"d": 2, "e": 2}]


def test_the_null_literal_can_be_a_key_and_an_argument() -> None:
    assert answer([batch(v=[1, 2])], "NULL", n="count(NULL)", s="sum(NULL)") == [{"NULL": None, "n": 0, "s": None}]


def test_a_sum_of_integers_is_an_integer_and_never_wraps() -> None:
    (found,) = answer([batch(v=[2**53, 1])], s="sum(v)", a="avg(v)")
    assert found == {"s": 2**53 + 1, "a": (2**53 + 1) / 2}
    with pytest.raises(ExecutionError, match="does not fit a 64-bit integer"):
        answer([batch(v=[2**62]), batch(v=[2**62])], s="sum(v)")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("sum(label)", "sum takes numbers, and label is a string"),
        ("avg(exact)", "avg takes numbers, and exact is a boolean"),
        ("max(dorp)", 'no column named "dorp"'),
    ],
)
def test_an_aggregate_that_a_type_does_not_have_is_a_bind_error(picture: str, call: str, message: str) -> None:
    with pytest.raises(BindError) as caught:
        rows(group(occlude(picture), v=call))
    assert message in caught.value.message


values = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.one_of(st.none(), st.integers(-50, 50)),
        st.one_of(st.none(), st.integers(-8, 8).map(lambda n: n / 4)),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(data=values, cuts=st.lists(st.integers(0, 40), max_size=5), small=st.booleans())
def test_any_way_to_cut_rows_into_images_gives_the_same_groups(
    data: list[tuple[Any, ...]], cuts: list[int], small: bool
) -> None:
    schema = pa.schema([("k", pa.string()), ("i", pa.int32()), ("f", pa.float32())])
    whole = pa.RecordBatch.from_pylist([dict(zip("kif", row, strict=True)) for row in data], schema=schema)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [whole.slice(first, last - first) for first, last in zip(edges, edges[1:], strict=False)]
    with pytest.MonkeyPatch.context() as patch:
        if small:  # so that partial aggregates are put together again and again
            patch.setattr(aggregates, "BATCH_ROWS", 2)
        found = answer(
            parts, "k", n="count(*)", c="count(i)", s="sum(i)", a="avg(f)", m="min(f)", d="count(DISTINCT i)"
        )
    expected: dict[Any, dict[str, Any]] = {}
    for key in dict.fromkeys(row[0] for row in data):
        i = [row[1] for row in data if row[0] == key and row[1] is not None]
        f = [row[2] for row in data if row[0] == key and row[2] is not None]
        expected[key] = {
            **{"k": key, "n": sum(row[0] == key for row in data), "c": len(i), "s": sum(i) if i else None},
            **{"a": sum(f) / len(f) if f else None, "m": min(f, default=None), "d": len(set(i))},
        }
    assert found == list(expected.values())
