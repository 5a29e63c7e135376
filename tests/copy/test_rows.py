"""Rows for programs: JSON lines, CSV, Arrow."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import kryptondb
from kryptondb.copy.rows import write_result
from kryptondb.prompt.output import output_to
from kryptondb.result import Result
from kryptondb.show.values import plain_column
from tests.networks import small_network
from tests.test_result import MAPS, FakeRun, maps_batch

#: An empty field is NULL, `""` an empty text.
KEEPS_EMPTY = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)

PREDICTION = pa.array(
    [[{"class": 1, "label": "cat", "probability": 0.1}], [], None],
    pa.list_(pa.struct([("class", pa.int32()), ("label", pa.string()), ("probability", pa.float32())])),
)


def of(batch: pa.RecordBatch) -> Result:
    return Result(table=pa.Table.from_batches([batch]))


def written(result: Result, kind: str, **options: object) -> str:
    out = io.BytesIO()
    write_result(result, out, kind, options)
    return out.getvalue().decode()


def json_rows(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in written(result, "json").splitlines()]


def csv_rows(result: Result) -> list[list[str]]:
    return list(csv.reader(io.StringIO(written(result, "csv"))))


def test_float32_keeps_its_own_spelling():
    rows = json_rows(of(pa.RecordBatch.from_arrays([pa.array([0.1, 0.77], pa.float32())], names=["score"])))
    assert rows == [{"score": 0.1}, {"score": 0.77}]


def test_json_has_no_word_for_nan_so_it_is_null():
    values = pa.array([float("nan"), float("inf"), None, 1.5])
    assert [row["v"] for row in json_rows(of(pa.RecordBatch.from_arrays([values], names=["v"])))] == [
        None,
        None,
        None,
        1.5,
    ]


def test_a_heat_map_in_json_is_a_list_of_rows():
    heatmap = np.array([[[0.5, np.nan], [0.25, 1.0]]])
    (row,) = json_rows(of(maps_batch(heatmap, image=["a.png"])))
    assert row == {"image": "a.png", "heatmap": [[0.5, None], [0.25, 1.0]]}


def test_rows_stream_one_line_each():
    assert len(json_rows(Result(lambda: FakeRun(MAPS)))) == 4


def test_csv_has_a_header_and_says_null_nan_and_booleans():
    table = pa.RecordBatch.from_arrays(
        [pa.array(["a, b", None]), pa.array([float("nan"), 0.5]), pa.array([True, None])], names=["s", "f", "b"]
    )
    assert csv_rows(of(table)) == [["s", "f", "b"], ["a, b", "NaN", "true"], ["", "0.5", ""]]


def test_csv_holds_maps_and_predictions_as_json():
    table = pa.RecordBatch.from_arrays([PREDICTION], names=["prediction"])
    rows = csv_rows(of(table))
    assert json.loads(rows[1][0]) == [{"class": 1, "label": "cat", "probability": 0.1}]
    assert rows[3] == [""] or rows[3] == []
    assert json.loads(csv_rows(of(maps_batch(np.ones((1, 1, 2)))))[1][0]) == [[1.0, 1.0]]


def test_nested_columns_that_are_slices_keep_their_rows():
    assert plain_column(PREDICTION.slice(1)) == [[], None]
    assert plain_column(MAPS.slice(1).column(1))[0][0] == [6.0, 7.0, 8.0]


@pytest.mark.parametrize("stream", [False, True])
def test_arrow_is_an_ipc_file_or_stream_with_the_maps_as_tensors(stream):
    out = io.BytesIO()
    write_result(of(MAPS), out, "arrows" if stream else "arrow")
    table = (pa.ipc.open_stream if stream else pa.ipc.open_file)(out.getvalue()).read_all()
    assert table.schema.field("heatmap").type == MAPS.schema.field("heatmap").type
    assert table.num_rows == 2


def test_statements_without_rows_write_nothing():
    nothing = Result(message="done")
    for kind in ("csv", "json", "arrow", "arrows"):
        assert written(nothing, kind) == ""


def test_a_query_that_fails_before_its_first_row_writes_nothing():
    @dataclass
    class Failing(FakeRun):
        def batches(self):
            raise ValueError
            yield

    for kind in ("csv", "json", "arrow", "arrows"):
        out = io.BytesIO()
        with pytest.raises(ValueError):
            write_result(Result(lambda: Failing(MAPS)), out, kind)
        assert out.getvalue() == b""


def test_a_result_without_rows_still_has_its_columns():
    data = io.BytesIO()
    write_result(of(MAPS.slice(0, 0)), data, "arrow")
    assert written(of(MAPS.slice(0, 0)), "csv") == "image,heatmap\n"
    assert pa.ipc.open_file(data.getvalue()).read_all().column_names == ["image", "heatmap"]


def test_csv_keeps_null_apart_from_an_empty_text_and_quotes_what_needs_it() -> None:
    texts = pa.array(["", None, "a,b", 'say "a"', "two\nlines", "a\r", " plain "])
    numbers = pa.array([float("nan"), None, float("inf"), -float("inf"), 0.1, 1e-8, 3.0], pa.float32())
    rows = of(pa.RecordBatch.from_arrays([texts, numbers], names=["s", "f"]))
    assert written(rows, "csv").split("\n", 2)[:2] == ["s,f", '"",NaN']
    assert written(rows, "csv") == (
        's,f\n"",NaN\n,\n"a,b",inf\n"say ""a""",-inf\n"two\nlines",0.1\n"a\r",1e-8\n plain ,3\n'
    )
    found = pyarrow.csv.read_csv(io.BytesIO(written(rows, "csv").encode()), convert_options=KEEPS_EMPTY)
    assert found["s"].to_pylist()[:3] == ["", None, "a,b"]
    assert written(rows, "csv", header=False, delimiter=";").startswith('"";NaN\n;\na,b;inf\n')


def test_a_row_that_is_one_null_is_no_empty_line_in_csv() -> None:
    nulls = of(pa.RecordBatch.from_arrays([pa.array([1.5, None, 2.5])], names=["f"]))
    assert written(nulls, "csv") == 'f\n1.5\n""\n2.5\n'


def test_every_kind_of_csv_row_is_what_copy_writes(tmp_path: Path) -> None:
    """One writer: `-o a.csv`, standard output and COPY give the same bytes."""
    db = kryptondb.connect()
    db.register("net", small_network())
    query = "SELECT y, x, drop, class, label, 0.0 / (y - y) AS nothing FROM occlude(net, 'sample:cat', patch => 16)"
    db.sql(f"COPY ({query}) TO '{tmp_path}/a.csv'")
    with output_to(str(tmp_path / "b.csv")) as output:
        output.write(db.sql(query), "csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes() != b""
