"""Filter, Project, Sort and Limit over streamed rows."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pyarrow as pa
import pytest

from kryptondb.errors import BindError
from kryptondb.executor.stages import Piece, Stage, limited, sorted_rows
from kryptondb.optimizer import physical as p
from tests.fakes import FakeExperiment, expression, limit, occlude, order, rows, select, start, table, where


def stage(batches: list[pa.RecordBatch], log: list[str] | None = None) -> Stage:
    def begin() -> Generator[Piece, None, None]:
        try:
            for number, batch in enumerate(batches):
                if log is not None:
                    log.append(f"batch {number}")
                yield Piece(batch, last=True)
        finally:
            if log is not None:
                log.append("closed")

    return Stage(batches[0].schema, begin)


def test_where_keeps_cells_and_select_computes_columns(picture: str) -> None:
    cells = where(occlude(picture), "y >= 2 AND x = 4")
    assert rows(select(cells, y="y", twice="y * 2", name="label")) == [
        {"y": 2, "twice": 4, "name": "tabby"},
        {"y": 4, "twice": 8, "name": "tabby"},
    ]


def test_columns_that_are_only_renamed_keep_their_type_and_cannot_be_null(picture: str) -> None:
    schema = start(select(occlude(picture), a="class", b="class + 1")).schema
    assert schema.field("a").type == pa.int32() and not schema.field("a").nullable
    assert schema.field("b").type == pa.int64() and schema.field("b").nullable


def test_two_output_columns_may_have_one_name(picture: str) -> None:
    root = p.Project(limit(occlude(picture), 2), ((expression("y"), "a"), (expression("x"), "a")))
    found = table(root)
    assert found.schema.names == ["a", "a"]
    assert found.column(1).to_pylist() == [0, 4]


def test_a_constant_is_repeated_for_each_row(picture: str) -> None:
    assert rows(select(limit(occlude(picture), 2), one="1", nothing="NULL")) == [{"one": 1, "nothing": None}] * 2


def test_order_by_sorts_all_images_together(folder: Path) -> None:
    root = select(order(occlude(str(folder)), "drop DESC", "image"), drop="drop", image="image")
    found = rows(root)
    assert len(found) == 36
    assert [row["image"][-5] for row in found[:3]] == ["a", "b", "c"]
    assert [row["drop"] for row in found] == sorted((row["drop"] for row in found), reverse=True)


def test_order_by_takes_expressions(picture: str) -> None:
    root = select(order(occlude(picture), "y * -1", "x % 8 DESC", "x"), y="y", x="x")
    assert [(row["y"], row["x"]) for row in rows(root)][:5] == [(4, 4), (4, 12), (4, 0), (4, 8), (2, 4)]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("v", ["one", "two", "nan", "null"]),
        ("v DESC", ["two", "one", "nan", "null"]),
        ("v NULLS FIRST", ["null", "one", "two", "nan"]),
        ("v DESC NULLS FIRST", ["null", "two", "one", "nan"]),
        ("v DESC NULLS LAST", ["two", "one", "nan", "null"]),
        ("name DESC", ["two", "one", "null", "nan"]),
        ("NULL", ["nan", "two", "null", "one"]),
    ],
)
def test_nulls_are_last_unless_the_key_says_otherwise(key: str, expected: list[str]) -> None:
    batch = pa.RecordBatch.from_pydict(
        {"v": [float("nan"), 2.0, None, 1.0], "name": ["nan", "two", "null", "one"]},
    )
    keys = order(p.Images("x"), key).keys
    (piece,) = sorted_rows(stage([batch]), keys).start()
    assert piece.batch.column("name").to_pylist() == expected


def test_equal_rows_keep_their_order() -> None:
    batches = [pa.RecordBatch.from_pydict({"k": [1, 0], "n": [2 * i, 2 * i + 1]}) for i in range(50)]
    (piece,) = sorted_rows(stage(batches), order(p.Images("x"), "k").keys).start()
    assert piece.batch.column("n").to_pylist() == [*range(1, 100, 2), *range(0, 100, 2)]


def test_a_limit_on_a_sort_keeps_only_the_first_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryptondb.executor.stages.BATCH_ROWS", 10)
    batches = [pa.RecordBatch.from_pydict({"k": [(i * 37) % 101]}) for i in range(101)]
    keys = order(p.Images("x"), "k DESC").keys
    first = sorted_rows(stage(batches), keys, first=3).start()
    assert [value for piece in first for value in piece.batch.column("k").to_pylist()] == [100, 99, 98]
    assert list(sorted_rows(stage(batches), keys, first=0).start()) == []


def test_a_long_sorted_answer_comes_in_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryptondb.executor.stages.BATCH_ROWS", 10)
    batches = [pa.RecordBatch.from_pydict({"k": list(range(25, 0, -1))})]
    pieces = list(sorted_rows(stage(batches), order(p.Images("x"), "k").keys).start())
    assert [piece.batch.num_rows for piece in pieces] == [10, 10, 5]
    assert [value for piece in pieces for value in piece.batch.column("k").to_pylist()] == list(range(1, 26))


def test_heat_maps_can_be_sorted(folder: Path) -> None:
    found = rows(order(p.HeatMaps(occlude(str(folder))), "image DESC"))
    assert [row["image"][-5] for row in found] == ["c", "b", "a"]
    assert found[0]["heatmap"][:2] == pytest.approx([0.0, 0.001])


def test_rows_have_no_order_by_a_heat_map(picture: str) -> None:
    with pytest.raises(BindError, match='no order by "heatmap", which is a heat map'):
        start(order(p.HeatMaps(occlude(picture)), "heatmap"))


def test_a_limit_stops_what_is_below_it() -> None:
    log: list[str] = []
    batches = [pa.RecordBatch.from_pydict({"k": [1, 2, 3]}) for _ in range(5)]
    pieces = limited(stage(batches, log), 4).start()
    assert [piece.batch.num_rows for piece in pieces] == [3, 1]
    assert log == ["batch 0", "batch 1", "closed"]


def test_a_limit_that_ends_with_a_batch_does_not_ask_for_another() -> None:
    log: list[str] = []
    batches = [pa.RecordBatch.from_pydict({"k": [1, 2, 3]}) for _ in range(5)]
    assert sum(piece.batch.num_rows for piece in limited(stage(batches, log), 3).start()) == 3
    assert log == ["batch 0", "closed"]


def test_images_after_a_limit_are_never_opened_and_the_rest_of_the_grid_is_not_computed(folder: Path) -> None:
    experiment = FakeExperiment()
    assert len(rows(select(limit(occlude(str(folder)), 5), y="y"), experiment)) == 5
    assert experiment.log == ["open a.png", "set up"][::-1] + [
        "begin a.png",
        "tile a.png 0",
        "tile a.png 1",
        "end a.png",
    ]


def test_limit_0_opens_nothing(folder: Path) -> None:
    experiment = FakeExperiment()
    assert rows(limit(occlude(str(folder)), 0), experiment) == []
    assert experiment.log == []


def test_an_offset_leaves_out_the_first_rows_of_any_batch_and_stops_what_is_below(picture: str) -> None:
    batches = [pa.RecordBatch.from_pydict({"k": [3 * i, 3 * i + 1, 3 * i + 2]}) for i in range(5)]
    for count, offset in ((2, 0), (4, 2), (3, 3), (None, 4), (None, 15), (1, 14), (0, 3), (99, 7)):
        found = [
            value for piece in limited(stage(batches), count, offset).start() for value in piece.batch["k"].to_pylist()
        ]
        assert found == list(range(15))[offset : None if count is None else offset + count]
    log: list[str] = []
    assert sum(piece.batch.num_rows for piece in limited(stage(batches, log), 2, 3).start()) == 2
    assert log == ["batch 0", "batch 1", "closed"]
    top = select(p.Limit(order(occlude(picture), "y DESC", "x DESC"), 2, 1), y="y", x="x")
    assert rows(top) == [{"y": 4, "x": 8}, {"y": 4, "x": 4}]
