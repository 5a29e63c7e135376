"""Results for programs: JSON lines, CSV, Arrow."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from kryptondb.copy.writers import write_arrow, write_csv, write_json
from kryptondb.result import Result
from kryptondb.show.values import plain_column
from tests.test_result import MAPS, FakeRun, maps_batch

PREDICTION = pa.array(
    [[{"class": 1, "label": "cat", "probability": 0.1}], [], None],
    pa.list_(pa.struct([("class", pa.int32()), ("label", pa.string()), ("probability", pa.float32())])),
)


def of(batch: pa.RecordBatch) -> Result:
    return Result(table=pa.Table.from_batches([batch]))


def json_rows(result: Result) -> list[dict[str, object]]:
    out = io.StringIO()
    write_json(result, out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def csv_rows(result: Result) -> list[list[str]]:
    out = io.StringIO()
    write_csv(result, out)
    return list(csv.reader(io.StringIO(out.getvalue())))


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


def test_a_document_is_written_as_it_is_on_one_line():
    out = io.StringIO()
    write_json(Result(lambda: FakeRun(MAPS), document='{\n "plan": 1\n}'), out)
    assert out.getvalue() == '{"plan": 1}\n'


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
    write_arrow(of(MAPS), out, stream=stream)
    table = (pa.ipc.open_stream if stream else pa.ipc.open_file)(out.getvalue()).read_all()
    assert table.schema.field("heatmap").type == MAPS.schema.field("heatmap").type
    assert table.num_rows == 2


def test_statements_without_rows_write_nothing():
    nothing = Result(message="done")
    text, data = io.StringIO(), io.BytesIO()
    write_csv(nothing, text)
    write_json(nothing, text)
    write_arrow(nothing, data)
    assert text.getvalue() == "" and data.getvalue() == b""


def test_a_query_that_fails_before_its_first_row_writes_nothing():
    @dataclass
    class Failing(FakeRun):
        def batches(self):
            raise ValueError
            yield

    text, data = io.StringIO(), io.BytesIO()
    for write, out in ((write_csv, text), (write_json, text), (write_arrow, data)):
        with pytest.raises(ValueError):
            write(Result(lambda: Failing(MAPS)), out)  # type: ignore[operator]
    assert text.getvalue() == "" and data.getvalue() == b""


def test_a_result_without_rows_still_has_its_columns():
    text, data = io.StringIO(), io.BytesIO()
    write_csv(of(MAPS.slice(0, 0)), text)
    write_arrow(of(MAPS.slice(0, 0)), data)
    assert text.getvalue() == "image,heatmap\n"
    assert pa.ipc.open_file(data.getvalue()).read_all().column_names == ["image", "heatmap"]
