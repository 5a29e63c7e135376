"""`%occlude` and `%%occlude` in a shell of IPython's."""

from __future__ import annotations

import pytest

import kryptondb
from tests.networks import small_network

MAP = "SELECT HEATMAP FROM occlude(net, $image, patch => 8, stride => 8)"


def run(shell, text: str):
    return shell.run_cell(text)


@pytest.mark.slow
def test_a_line_gives_a_result_that_python_can_use(shell, db):
    run(shell, f"maps = %occlude {MAP}")
    assert shell.user_ns["maps"].heatmaps().shape == (1, 3, 3)


@pytest.mark.slow
def test_a_cell_shows_its_last_result_and_leaves_it_under_a_name(shell, db):
    done = run(shell, f"%%occlude found\n{MAP}")
    assert done.result is shell.user_ns["found"] and done.result.kept
    assert "<img" in done.result._repr_html_()
    assert done.result._repr_png_().startswith(b"\x89PNG")


def test_every_result_of_a_cell_is_shown(shell, db, capsys):
    done = run(shell, "%%occlude\nSHOW MODELS;\nSET threads = 1;\nDESCRIBE net")
    assert "bright" in done.result._repr_html_()
    assert "net" in capsys.readouterr().out  # the first one; SET has nothing to show


def test_dollars_and_braces_are_left_to_the_language(shell, db):
    shell.user_ns["fill"] = "white"
    run(shell, "%occlude SELECT max(drop) AS most FROM occlude(net, $image, patch => 8, stride => 8, fill => $fill)")
    run(shell, "braced = %occlude SELECT '{image}' AS it FROM occlude(net, $image, patch => 24, stride => 24)")
    assert shell.user_ns["braced"].arrow()["it"].to_pylist() == ["{image}"]


def test_a_models_name_can_be_a_variable(shell, db):
    shell.user_ns["which"] = "net"
    run(shell, "cells = %occlude SELECT * FROM occlude($which, $image, patch => 8, stride => 8)")
    assert shell.user_ns["cells"].arrow().num_rows == 9


def test_a_module_in_a_models_place_is_told_how_it_becomes_one(shell, db, capsys):
    shell.user_ns["module"] = small_network()
    done = run(shell, "%occlude SELECT HEATMAP FROM occlude($module, $image)")
    assert isinstance(done.error_in_exec, kryptondb.BindError)
    assert 'db.register("module", module, size=224)' in capsys.readouterr().out


@pytest.mark.parametrize("cell", ["%occlude SELEC 1", f"%%occlude\n{MAP.replace('$image', '$imgae')}"])
def test_an_error_is_its_message_and_no_traceback(shell, db, cell, capsys):
    done = run(shell, cell)
    shown = capsys.readouterr().out
    assert isinstance(done.error_in_exec, kryptondb.Error)
    assert "Did you mean" in shown and "^" in shown and "Traceback" not in shown


def test_without_a_session_one_is_opened_and_left_as_db(shell):
    run(shell, "%occlude SHOW SETTINGS")
    assert isinstance(shell.user_ns["db"], kryptondb.Session)


def test_a_variable_db_that_is_something_else_stays(shell):
    shell.user_ns["db"] = "my own"
    done = run(shell, "%occlude SHOW SETTINGS")
    assert done.success and shell.user_ns["db"] == "my own"


def test_stopping_a_cell_leaves_the_session_usable(shell, db, monkeypatch, capsys):
    from kryptondb.executor.run import Execution

    whole, stops = Execution.batches, [True]

    def batches(self):
        if stops.pop():
            raise KeyboardInterrupt
        yield from whole(self)

    with monkeypatch.context() as patched:
        patched.setattr(Execution, "batches", batches)
        done = run(shell, f"%%occlude\n{MAP}")
    assert isinstance(done.error_in_exec, KeyboardInterrupt)
    assert "the statement was stopped" in capsys.readouterr().out
    assert run(shell, f"%%occlude\n{MAP}").result.heatmaps().shape == (1, 3, 3)


def test_the_name_of_a_cells_result_has_to_be_one(shell, db, capsys):
    done = run(shell, "%%occlude 1st\nSHOW MODELS")
    assert not done.success
    assert "the name of a variable" in capsys.readouterr().err


def test_rows_that_were_read_are_the_plain_text(shell, db):
    found = db.sql(
        "SELECT row, col FROM occlude(net, $image, patch => 24, stride => 24)", {"image": shell.user_ns["image"]}
    )
    plain = shell.display_formatter.format(found, include={"text/plain"})[0]["text/plain"]
    assert "not read yet" in plain
    found.arrow()
    assert "row  col" in shell.display_formatter.format(found, include={"text/plain"})[0]["text/plain"]


def test_unloading_takes_the_magics_away(shell):
    shell.run_line_magic("unload_ext", "kryptondb")
    assert "occlude" not in shell.magics_manager.magics["cell"]
    shell.run_line_magic("load_ext", "kryptondb")
