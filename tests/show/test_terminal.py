"""Tables and heat maps as a person sees them."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from kryptondb.result import Result, write_text
from kryptondb.show.terminal import TablePrinter, Terminal, caption, failures_text
from kryptondb.show.values import shown, shown_float

PIPE = Terminal(None, None, False)


def printed(*batches: pa.RecordBatch, terminal: Terminal = PIPE, max_rows: int | None = None) -> str:
    out = io.StringIO()
    printer = TablePrinter(batches[0].schema, terminal, out.write, max_rows=max_rows)
    for batch in batches:
        printer.add(batch)
    printer.finish()
    return out.getvalue()


def batch(**columns: list[object]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def test_a_table_has_a_header_and_numbers_to_the_right():
    assert printed(batch(image=["a.png", "long.png"], y=[8, 120])).splitlines() == [
        "image       y",
        "─────────────",
        "a.png       8",
        "long.png  120",
    ]


def test_batches_continue_one_table():
    one = batch(n=[1, 2])
    assert printed(one, one) == printed(batch(n=[1, 2, 1, 2]))


def test_a_table_without_rows_shows_its_columns():
    assert printed(batch(a=[1], b=["x"]).slice(0, 0)).splitlines()[0] == "a  b"


def test_nothing_is_cut_in_a_pipe():
    name = "scans/" + "x" * 300 + ".png"
    assert name in printed(batch(image=["a"], n=[1]), batch(image=[name], n=[1]))


def test_a_long_table_says_how_many_rows_are_left():
    lines = printed(batch(n=list(range(2809))), max_rows=10).splitlines()
    assert len(lines) == 13
    assert lines[-1] == "... 2,799 more rows"


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_a_table_never_is_wider_than_the_terminal(width):
    wide = batch(**{f"column{i}": [i / 7] for i in range(13)}, image=["a folder/with a long name.png"])
    text = printed(wide, terminal=Terminal(width, 24, False))
    assert all(len(line) <= width or line.startswith("...") for line in text.splitlines())
    hidden = {name for name in wide.schema.names if name not in text.splitlines()[0]}
    assert all(name in text for name in hidden if name != "image")


def test_columns_that_say_the_same_everywhere_are_left_out_first():
    wide = batch(
        image=["a"] * 2, y=[1, 2], x=[3, 4], height=[16] * 2, width=[16] * 2, score=[0.1, 0.2], drop=[0.3, 0.4]
    )
    lines = printed(wide, terminal=Terminal(32, 24, False)).splitlines()
    assert lines[0].split() == ["image", "y", "x", "score", "drop"]
    assert lines[-1] == "... 2 more columns: height, width"


def test_missing_values_are_shown_plainly():
    lines = printed(pa.RecordBatch.from_arrays([pa.array([None, float("nan"), 0.25])], names=["drop"])).splitlines()
    assert [line.strip() for line in lines[2:]] == ["NULL", "NaN", "0.2500"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (0.77149, "0.7715"),
        (1e-5, "1.00e-05"),
        (-12.5, "-12.5000"),
        (31234.5, "31234.5"),
        (2e9, "2.00e+09"),
    ],
)
def test_floats_are_readable(value, text):
    assert shown_float(value) == text


def test_a_prediction_reads_as_names_and_probabilities():
    top = [
        {"class": 285, "label": "Egyptian cat", "probability": 0.771},
        {"class": 3, "label": None, "probability": 0.1},
    ]
    assert shown(top) == "Egyptian cat 0.771, class 3 0.100"


def test_a_heat_map_is_told_in_one_line():
    def covered(at, shape):
        return tuple((4 * place, 4 * place + 15) for place in at)

    plan = SimpleNamespace(occlude=SimpleNamespace(experiment=SimpleNamespace(covered=covered)))
    drops = np.zeros((53, 53), dtype=np.float32)
    drops[21, 30] = 0.081
    row = {"image": "cat", "class": 285, "label": "Egyptian cat", "base": 0.771}
    expected = "cat   Egyptian cat 0.771   lowest 0.690 at y 84, x 120   exact   6.8 s"
    assert caption(row, drops, plan, 6.8, "exact") == expected  # type: ignore[arg-type]


def test_a_heat_map_without_any_cell_is_told_too():
    row = {"image": "cat", "class": 7, "label": None, "base": 0.5}
    assert caption(row, np.full((2, 2), np.nan), None, None, None) == "cat   class 7 0.500   no position computed"


def test_images_left_out_are_listed_with_the_reason():
    failures = [
        SimpleNamespace(image="a.png", message="a.png is empty"),
        SimpleNamespace(image="b.png", message="broken"),
    ]
    assert failures_text(failures).splitlines() == [  # type: ignore[arg-type]
        "2 images skipped:",
        "  a.png is empty",
        "  b.png: broken",
    ]


def test_a_message_stands_for_the_rows():
    out = io.StringIO()
    write_text(Result(message="net: 3 classes"), out, PIPE, max_rows=None)
    assert out.getvalue() == "net: 3 classes\n"
    write_text(Result(message=""), out, PIPE, max_rows=None)
    assert out.getvalue() == "net: 3 classes\n"
