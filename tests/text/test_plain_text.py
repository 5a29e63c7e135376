"""Nothing that a terminal would obey, or that cannot be seen, reaches one raw."""

from __future__ import annotations

import csv
import io
import json
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryptondb.copy.rows import Utf8Text, write_result
from kryptondb.errors import BindError, Error, Position, did_you_mean
from kryptondb.executor import ImageFailure, Progress
from kryptondb.result import Failures, Result, write_text
from kryptondb.show.progress import ProgressLine, waiting
from kryptondb.show.terminal import TablePrinter, Terminal, caption, failures_text
from kryptondb.show.values import shown, table_of
from kryptondb.text.plain_text import MESSAGE, QUOTED, covered, message_line, plain, plain_json, plain_line, shortened

#: A window's title, a cleared screen, a control sequence of one byte, an override, no width, a separator, a surrogate.
EVIL = "a\x1b]0;b\x07\x1b[2J\x9b31m\u202ec\u2066d\u200be\u2028f\x7f\udcff\ufeff\r[red]"
FILE, SCREEN = Terminal(None, None, False), Terminal(80, 24, True)


def safe(text: str) -> bool:
    """Whether a text has no character of the categories that act on a terminal or cannot be seen."""
    return not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n" for c in text)


@given(st.text(st.characters()))
def test_whatever_acts_on_a_terminal_or_cannot_be_seen_is_written_out(text: str) -> None:
    assert safe(plain(text)) and safe(plain_json(text)) and safe(covered(text))
    assert "\n" not in plain_line(text) and plain(plain(text)) == plain(text)
    assert len(covered(text)) == len(text)


def test_every_unsafe_character_of_unicode_is_known() -> None:
    assert safe(plain("".join(map(chr, range(0x110000)))))


def test_names_as_people_write_them_stay() -> None:
    for text in ("Lunge, rechts (Ödem)", "肺　炎", "ישר", "résumé\u00a0é", "C:\\new\\tab", "🐈", "❤\ufe0f", "naïve"):
        assert plain_line(text) == text


def test_what_is_written_out_says_what_it_was() -> None:
    assert plain("a\x1b[2J\x9b\u202e\U000e0041\udcff\t.\r\n") == "a\\x1b[2J\\x9b\\u202e\\U000e0041\\xff .\n"


def test_json_means_the_same_text() -> None:
    for text in (EVIL, "\U000e0041\u2028"):
        assert json.loads(plain_json(json.dumps(text, ensure_ascii=False))) == text


def test_an_error_is_safe_and_on_one_line_wherever_it_is_shown() -> None:
    error = BindError(f'no label "{EVIL}\n"', hint=f'Did you mean "{EVIL}"?')
    assert safe(str(error)) and safe(str(error.args)) and str(error).count("\n") == 1
    placed = Error("wrong", position=Position(0, 3, 1, 1), text=f"{EVIL}\x1b[8m")
    assert safe(str(placed)) and "[red]" in str(placed)


@pytest.mark.parametrize("quoted", ["x" * 10**6, "two words " * 10**5, "a'b\"c" * 10**5, EVIL * 10**4, "\n" * 10**6])
def test_a_message_quotes_a_line_at_most_of_what_it_is_about(quoted: str) -> None:
    error = BindError(f'no model named "{quoted}"', hint=f"It is not '{quoted}'.")
    assert error.message.startswith('no model named "')
    assert len(str(error)) < 4 * MESSAGE  # what is written out takes more room
    assert did_you_mean(quoted, ["x", quoted]) is None


def test_a_message_keeps_both_ends_of_what_it_quotes() -> None:
    path = "/data/" + "x" * 300 + "/scan.png"
    message = message_line(f"{path}: no such file")
    assert message.startswith("/data/xxx") and message.endswith("xxx/scan.png: no such file")
    assert len(message) == QUOTED + len(" no such file") and "..." in message
    assert message_line("word " * 100) == "word " * 100
    assert shortened("abc", 3) == "abc" and len(shortened("a" * 50, 20)) == 20


def test_tables_are_safe_in_their_cells_and_their_headings() -> None:
    for terminal in (FILE, SCREEN, Terminal(20, 24, False)):
        written: list[str] = []
        batch = pa.RecordBatch.from_arrays(
            [pa.array([EVIL.replace("\udcff", "")]), pa.array([1.0]), pa.array([2])],
            names=[EVIL.replace("\udcff", ""), "\x1b[2Jb", "c\x07"],
        )
        printer = TablePrinter(batch.schema, terminal, written.append)
        printer.add(batch)
        printer.finish()
        text = "".join(written).replace("\x1b[1m", "").replace("\x1b[0m", "")  # rich's own, for a bold heading
        assert safe(text) and "\\x1b" in text
    assert safe(shown([{"label": EVIL, "probability": 0.5}]))
    assert safe(shown([{EVIL: EVIL}, EVIL]))


def test_captions_failures_and_messages_are_safe() -> None:
    import numpy as np

    row = {"image": EVIL, "label": EVIL, "base": 0.5}
    assert safe(caption(row, np.zeros((2, 2), np.float32), None, 1.0, "exact"))
    failures = [ImageFailure(EVIL + "\nforged", f"{EVIL}: not a picture\nforged"), ImageFailure("x" * 10**6, "big")]
    text = failures_text(failures)
    assert safe(text) and text.count("\n") == 2 and len(text) < 1000
    assert safe(Failures(failures)._repr_html_()) and "<td>" in Failures(failures)._repr_html_()
    result = Result(message=f"{EVIL}\nsecond line")
    out = io.StringIO()
    write_text(result, out, FILE, max_rows=None)
    assert safe(out.getvalue()) and safe(repr(result)) and safe(result._repr_html_())
    assert out.getvalue().endswith("\nsecond line\n")


def test_the_notebook_has_safe_cells_and_headings() -> None:
    name = EVIL.replace("\udcff", "")
    result = Result(table=table_of((f"<b>{name}",), [(f"<script>{name}",)]))
    html = result._repr_html_()
    assert safe(html) and "<script>" not in html and "<b>" not in html


def test_progress_is_safe() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    line = ProgressLine(screen, delay=0.0)
    line(Progress("b\x1b]0;c\x07\u202e", 1, 2, 1, 1))
    line.close()
    with waiting("building \x1b]0;d\x07\u202e", "on", screen, delay=0.0) as say:
        say("e\x1b]0;f\x07")
    text = screen.getvalue()
    assert "\x1b]0;" not in text and "\x07" not in text and "\u202e" not in text and "b\\x1b]0;c" in text


def test_csv_and_json_keep_the_data_and_spare_a_terminal() -> None:
    name = EVIL.replace("\udcff", "")
    result = Result(table=table_of((name, "n"), [(name, -1.5)]))
    data, screen, lines = io.StringIO(), io.StringIO(), io.StringIO()
    for text, terminal, kind in ((data, False, "csv"), (screen, True, "csv"), (lines, False, "json")):
        write_result(result, Utf8Text(text, terminal=terminal), kind)
    assert list(csv.reader(io.StringIO(data.getvalue(), newline=""))) == [[name, "n"], [name, "-1.5"]]
    assert safe(screen.getvalue()) and safe(lines.getvalue())
    assert json.loads(lines.getvalue()) == {name: name, "n": -1.5}


def test_text_that_a_spreadsheet_would_run_has_a_quote_before_it() -> None:
    cells = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a=1", " =1", "", None, "'=1"]
    rows = [(cell, -1.5, -3) for cell in cells]
    result = Result(table=table_of(("=cmd|' /C calc'!A0", "-score", "n"), rows))

    def fields(**options: str) -> list[list[str]]:
        out = io.StringIO()
        write_result(result, Utf8Text(out, terminal=False), "csv", options)
        return list(csv.reader(io.StringIO(out.getvalue(), newline="")))

    header, *found = fields()
    assert header == ["'=cmd|' /C calc'!A0", "'-score", "n"]
    assert [row[0] for row in found] == [
        *("'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'\r=1"),
        *("a=1", " =1", "", "", "'=1"),
    ]
    assert {tuple(row[1:]) for row in found} == {("-1.5", "-3")}
    assert [row[0] for row in fields(formulas="keep")] == ["=cmd|' /C calc'!A0", *(cell or "" for cell in cells)]
