"""What lines typed at the prompt do, without a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

import kryptondb
from kryptondb.options.tables import SETTINGS
from kryptondb.process.termination import Termination
from kryptondb.prompt.output import Output
from kryptondb.prompt.shell import Shell, is_ready
from kryptondb.show.terminal import Terminal


@pytest.fixture
def shell() -> Iterator[Shell]:
    with kryptondb.connect() as session:
        output = Output(io.StringIO(), None, Terminal(100, 30, False))
        yield Shell(session, output, errors=io.StringIO(), max_rows=5)


def typed(shell: Shell, *lines: str) -> str:
    """What the last line printed, with its complaints."""
    said = ""
    for line in lines:
        streams = (shell.output.text, shell.errors)
        for stream in streams:
            assert isinstance(stream, io.StringIO)
            stream.seek(0)
            stream.truncate()
        shell.execute(line)
        said = "".join(stream.getvalue() for stream in streams if isinstance(stream, io.StringIO))
    return said


def test_a_statement_shows_its_rows_and_nothing_else(shell):
    lines = typed(shell, "SHOW SETTINGS;").splitlines()
    assert lines[0].split() == ["name", "value", "default", "description"]
    assert len(lines) == 2 + len(SETTINGS)


def test_a_statement_without_rows_is_silent(shell):
    assert typed(shell, "SET on_error = 'stop';") == ""


def test_several_statements_run_in_order(shell):
    assert typed(shell, "SHOW PROFILES; SHOW MODELS;").count("───") > 2


def test_an_error_is_shown_with_its_class_and_the_prompt_goes_on(shell):
    said = typed(shell, "SHOW MODLES;")
    assert said.startswith('ParseError: line 1, column 6: unexpected "MODLES"')
    assert typed(shell, "SHOW MODELS;").startswith("name")


def test_a_long_table_is_cut_and_says_so(shell):
    lines = typed(shell, "SHOW SAMPLES;").splitlines()
    assert len(lines) == 8 and lines[-1].startswith("... ") and lines[-1].endswith(" more rows")


def test_the_mode_changes_how_rows_are_shown(shell):
    assert typed(shell, ".mode json", "SHOW SETTINGS;").startswith('{"name": "device"')
    assert typed(shell, ".mode CSV", "SHOW SETTINGS;").startswith("name,value")
    assert typed(shell, ".mode") == "csv\n"
    assert "table, json, csv" in typed(shell, ".mode xml")


def test_a_mode_for_programs_is_never_cut(shell):
    assert len(typed(shell, ".mode csv", "SHOW SAMPLES;").splitlines()) > 10


def test_the_timer_adds_the_seconds(shell):
    assert typed(shell, ".timer on", "SET on_error = 'stop';").rstrip().endswith("ms")
    assert typed(shell, ".timer off", "SET on_error = 'stop';") == ""
    assert "one of on, off" in typed(shell, ".timer maybe")


def test_help_names_every_command(shell):
    said = typed(shell, ".help")
    assert all(command in said for command in (".help", ".mode", ".timer", ".quit"))


@pytest.mark.parametrize("line", [".quit", ".exit", "  .quit ;"])
def test_quit_leaves(shell, line):
    typed(shell, line)
    assert shell.leaving


def test_an_unknown_command_has_a_nearest_one(shell):
    assert 'Did you mean ".timer"?' in typed(shell, ".tmier on")
    assert ".help lists" in typed(shell, ".xyzzy")
    assert "takes no value" in typed(shell, ".quit now") and not shell.leaving


def test_ctrl_c_stops_the_statement_and_keeps_the_prompt(shell, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shell.session, "run", interrupted)
        assert typed(shell, "SHOW SETTINGS; SHOW MODELS;") == "interrupted\n"
    assert typed(shell, "SHOW MODELS;").startswith("name")


def test_a_process_that_is_termination_signals_leaves_the_prompt(shell, monkeypatch):
    def ended(*_: object) -> None:
        raise Termination(15)

    monkeypatch.setattr(shell.session, "run", ended)
    with pytest.raises(Termination):
        typed(shell, "SHOW SETTINGS;")


def test_a_mistake_of_ours_does_not_end_the_prompt(shell, monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(shell.session, "run", broken)
        assert "bug in KryptonDB" in typed(shell, "SHOW SETTINGS;")
    assert not shell.leaving


def test_parameters_from_the_command_line_can_be_used(shell):
    shell.parameters = {"n": 3, "unused": 4}
    assert ",3," in typed(shell, ".mode csv", "SET threads = $n; SHOW SETTINGS;")


def test_nothing_typed_does_nothing(shell):
    assert typed(shell, "", "  \n", "-- a remark;") == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n ",
        "SHOW MODELS;",
        "SHOW MODELS; -- all of them",
        "SET device = 'cpu'; SHOW SETTINGS;",
        ".help",
        "-- why",
        ";",
    ],
)
def test_enter_runs_what_is_complete(text):
    assert is_ready(text)


@pytest.mark.parametrize(
    "text", ["SHOW", "SELECT ';", "SELECT ';'", "SHOW MODELS; SELECT", "/* ;", 'SELECT "a;', "a -- ;"]
)
def test_enter_begins_a_new_line_where_something_is_open(text):
    assert not is_ready(text)
