"""Session: every statement does what the language says, and errors show where."""

from __future__ import annotations

import gc
import importlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import kryptondb
from kryptondb.executor import calibrate
from kryptondb.optimizer.cost import Rates
from kryptondb.result import Result, json_document
from tests.networks import export, small_network

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
CELLS = ["image", "class", "label", "row", "col", "y", "x", "height", "width", "base", "score", "drop", "exact"]


@pytest.fixture
def db() -> Iterator[kryptondb.Session]:
    """A session with the network `net` of classes a, b and c."""
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=32, labels=["a", "b", "c"])
        yield session


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as a .pt2 file."""
    path = tmp_path_factory.mktemp("models") / "small.pt2"
    export(small_network(), path)
    return path


def column(result: kryptondb.Result, name: str) -> list[object]:
    values: list[object] = result.arrow().column(name).to_pylist()
    return values


# SELECT


def test_a_query_answers_heat_maps(db):
    result = db.sql("SELECT HEATMAP FROM occlude(net, ?, patch => 8, stride => 4)", [PICTURE])
    assert result.heatmaps().shape == (1, 7, 7)
    assert result.schema.names == ["image", "class", "label", "base", "heatmap"]
    assert result.stats.positions == 49 and result.stats.seconds > 0
    assert result.errors == []
    assert result.plan is not None and result.plan.quality.kind == "exact"


def test_the_hint_chooses_the_operator_and_both_agree(db):
    text = "SELECT HEATMAP FROM occlude(net, $image, patch => 8, class => ALL) USING operator => "
    maps = [db.sql(text + f"'{name}'", {"image": PICTURE}).heatmaps() for name in ("full", "incremental")]
    assert maps[0].shape == (3, 7, 7)
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-5)


def test_cells_come_in_the_columns_of_the_language(db):
    table = db.sql("SELECT * FROM occlude(net, ?, patch => 8)", [PICTURE]).arrow()
    assert table.column_names == CELLS
    assert table.num_rows == 49
    assert b"kryptondb.operator" in table.schema.metadata


def test_predicates_order_and_limit_hold(db):
    text = "SELECT y, drop FROM occlude(net, ?, patch => 8) WHERE y BETWEEN 8 AND 16 ORDER BY drop DESC LIMIT 5"
    result = db.sql(text, [PICTURE])
    drops = column(result, "drop")
    assert len(drops) == 5 and drops == sorted(drops, reverse=True)
    assert set(column(result, "y")) <= {8, 12, 16}
    assert result.stats.positions == 21


def test_a_query_does_not_run_before_its_rows_are_read(db, monkeypatch):
    result = db.sql("SELECT HEATMAP FROM occlude(net, ?)", [PICTURE])
    assert "not read yet" in repr(result)
    assert result.schema.field("heatmap").type.shape == [5, 5]


def test_images_may_be_bound_as_arrays_pictures_and_lists(db):
    for bound in (PICTURE, Image.fromarray(PICTURE), [PICTURE, PICTURE[:16, :16]]):
        count = len(bound) if isinstance(bound, list) else 1
        assert len(db.sql("SELECT HEATMAP FROM occlude(net, ?, patch => 8)", [bound]).heatmaps()) == count


def test_any_arrow_reader_takes_a_query(db):
    assert pa.table(db.sql("SELECT y, x FROM occlude(net, ?, patch => 8)", [PICTURE])).num_rows == 49


def test_redundancy_is_a_table_with_a_total(db):
    result = db.sql("SELECT * FROM redundancy(net, patch => 8, stride => 4)")
    assert result.schema.names[:2] == ["layer", "operator"]
    assert result.arrow().num_rows >= 4


@pytest.mark.slow
def test_a_result_shows_itself_in_a_notebook(db):
    result = db.sql("SELECT HEATMAP FROM occlude(net, ?, patch => 8)", [PICTURE])
    assert "data:image/png;base64," in result._repr_html_() and "lowest" in result._repr_html_()
    assert (result._repr_png_() or b"").startswith(b"\x89PNG")
    table = db.sql('SELECT label AS "<b>" FROM occlude(net, ?, patch => 8)', [PICTURE])
    assert "<th>&lt;b&gt;</th>" in table._repr_html_() and "... 29 more rows" in table._repr_html_()
    assert table._repr_png_() is None


# The public face


def public(owner: type) -> set[str]:
    """The names that `dir()` and `help()` show of a class's objects."""
    return {name for name in dir(owner) if not name.startswith("_")}


def test_a_session_shows_what_users_need_and_little_else(db):
    methods = {"close", "execute_script", "rates", "register", "run", "sql"}
    assert public(type(db)) == methods
    assert {name for name in vars(db) if not name.startswith("_")} == {"database"}


def test_a_result_shows_what_users_need_and_nothing_else(db):
    reading = {"arrow", "batches", "df", "heatmaps", "names", "show"}
    about = {"errors", "kept", "schema", "stats"}
    assert public(Result) == {*reading, *about, "close"}
    assert {name for name in vars(db.sql("SHOW MODELS")) if not name.startswith("_")} == {"message", "note", "plan"}


def test_every_statement_has_a_function(db):
    from kryptondb.grammar import statements
    from kryptondb.statements import FUNCTIONS

    assert set(FUNCTIONS) == set(statements.Statement.__subclasses__())
    for module, function in FUNCTIONS.values():
        assert callable(getattr(importlib.import_module(f"kryptondb.statements.{module}"), function))


# EXPLAIN, COPY


def test_explain_tells_the_plan_without_running_it(db):
    result = db.sql("EXPLAIN SELECT HEATMAP FROM occlude(net, 'there/is/no/such.png', patch => 8)")
    assert "Incremental" in repr(result) or "Full" in repr(result)
    assert result.arrow().column_names == ["plan"]


def test_explain_analyze_runs_the_query(db):
    result = db.sql("EXPLAIN ANALYZE SELECT HEATMAP FROM occlude(net, ?, patch => 8)", [PICTURE])
    assert result.stats.positions == 49


def test_explain_in_json_is_a_document(db):
    import json

    result = db.sql("EXPLAIN FORMAT json SELECT HEATMAP FROM occlude(net, ?, patch => 8)", [PICTURE])
    assert json.loads(json_document(result) or "") == json.loads(result.message or "")
    with pytest.raises(kryptondb.BindError, match="format must be 'text' or 'json', not 'yaml'") as caught:
        db.sql("EXPLAIN FORMAT yaml SELECT HEATMAP FROM occlude(net, ?, patch => 8)", [PICTURE])
    assert caught.value.position is not None and caught.value.position.column == 16


def test_copy_writes_at_once_and_says_what(db, tmp_path):
    path = tmp_path / "cells.csv"
    result = db.sql("COPY (SELECT y, x, drop FROM occlude(net, $p, patch => 8)) TO $to", {"p": PICTURE, "to": path})
    assert path.read_text().splitlines()[0].replace('"', "") == "y,x,drop"
    assert "49 rows" in (result.message or "")
    assert result.arrow().num_rows == 0


@pytest.mark.skipif(os.name != "posix", reason="a device by its path")
def test_copy_to_a_device_says_nothing_behind_the_rows(db):
    query = "COPY (SELECT y FROM occlude(net, ?, patch => 8)) TO '/dev/null' (FORMAT csv)"
    assert db.sql(query, [PICTURE]).message == ""


def test_copy_does_not_write_over_the_open_database(tmp_path):
    path = tmp_path / "a.krypton"
    with kryptondb.connect(path) as session:
        session.register("net", small_network(), size=32)
        for ending in ("", "-wal"):
            with pytest.raises(kryptondb.ExecutionError, match="the open database"):
                session.sql(f"COPY (SELECT y FROM occlude(net, ?)) TO '{path}{ending}' (FORMAT csv)", [PICTURE])
    with kryptondb.connect(path) as session:
        assert session.database.settings.get("on_error") == "continue"


def test_copy_draws_a_picture(db, tmp_path):
    db.sql("COPY (SELECT HEATMAP FROM occlude(net, ?, patch => 8)) TO ?", [PICTURE, str(tmp_path / "map.png")])
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


# Models


def test_a_model_is_created_listed_described_and_dropped(db, exported):
    created = db.sql(f"CREATE MODEL small FROM '{exported}' WITH (size => 32, labels => ('a', 'b', 'c'))")
    assert "small:" in (created.message or "") and "3 classes" in (created.message or "")
    assert column(db.sql("SHOW MODELS"), "name") == ["net", "small"]
    assert "fingerprint" in column(db.sql("DESCRIBE small"), "property")
    db.sql("DROP MODEL small; DROP MODEL IF EXISTS small")
    assert column(db.sql("SHOW MODELS"), "name") == ["net"]


@pytest.mark.slow
def test_a_dropped_model_takes_its_weights_with_it(db):
    network = weakref.ref(db.database.models.network("net"))
    db.sql("SELECT HEATMAP FROM occlude(net, ?, patch => 8)", [PICTURE]).heatmaps()
    db.sql("DROP MODEL net")
    gc.collect()
    assert network() is None


def test_a_created_model_is_remembered_by_its_file(tmp_path, exported):
    with kryptondb.connect(tmp_path / "a.krypton") as first:
        first.sql(f"CREATE MODEL small FROM '{exported}' WITH (size => 32)")
        expected = first.sql("SELECT HEATMAP FROM occlude(small, ?, patch => 8)", [PICTURE]).heatmaps()
    with kryptondb.connect(tmp_path / "a.krypton") as second:
        again = second.sql("SELECT HEATMAP FROM occlude(small, ?, patch => 8)", [PICTURE]).heatmaps()
    np.testing.assert_array_equal(again, expected)


def test_a_wrong_option_of_a_model_is_shown_in_its_place(db, exported):
    with pytest.raises(kryptondb.BindError) as caught:
        db.sql(f"CREATE MODEL m FROM '{exported}' WITH (szie => 32)")
    assert caught.value.line == 1 and '"size"' in str(caught.value) and "^^^^" in str(caught.value)
    with pytest.raises(kryptondb.BindError) as caught:
        db.sql(f"CREATE MODEL m FROM '{exported}' WITH (size => 'big')")
    assert caught.value.position is not None


# Settings, lists, and what is not there yet


def test_settings_are_set_with_a_word_a_string_or_a_parameter(db):
    for text, parameters in (
        ("SET on_error = stop", None),
        ("SET on_error = 'stop'", None),
        ("SET on_error = ?", ["stop"]),
    ):
        db.sql("SET on_error = 'continue'")
        db.sql(text, parameters)
        assert db.database.settings.get("on_error") == "stop"


def test_the_setting_of_threads_holds_while_a_query_runs_only(db):
    import torch

    before = torch.get_num_threads()
    db.sql("SET threads = 3")
    stream = db.sql("SELECT y FROM occlude(net, ?, patch => 8)", [PICTURE]).batches()
    next(stream)
    assert torch.get_num_threads() == 3
    stream.close()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("what", ["MODELS", "SETTINGS", "SAMPLES", "PROFILES", "CALIBRATION"])
def test_every_list_has_columns_and_rows_of_text(db, what):
    table = db.sql(f"SHOW {what}").arrow()
    assert table.num_columns > 2
    assert table.num_rows > 0 or what in ("PROFILES", "CALIBRATION")


# Texts and parameters


def test_the_last_of_several_statements_answers(db):
    assert column(db.sql("SET threads = 1; SHOW MODELS;"), "name") == ["net"]
    assert db.sql("-- nothing").arrow().num_rows == 0


def test_a_script_answers_each_of_its_statements(db):
    results = db.execute_script("SHOW MODELS; SELECT y FROM occlude(net, ?, patch => 8); SET threads = 1", [PICTURE])
    assert [result.arrow().num_rows for result in results] == [1, 49, 0]


def test_errors_show_the_line_and_a_caret(db):
    with pytest.raises(kryptondb.BindError) as caught:
        db.sql("SHOW MODELS;\nSELECT HEATMAP FROM occlude(nte, 'a.png')")
    assert (caught.value.line, caught.value.column) == (2, 29)
    assert "^^^" in str(caught.value) and 'Did you mean "net"?' in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (None, "first \\? has no value"),
        ([PICTURE], "second \\? has no value"),
        ([PICTURE, 8, 9], "3 values are given for 2"),
        (PICTURE, "a list or a mapping, not a ndarray"),
        ("cat.png", "a list or a mapping, not a str"),
        ({"0": PICTURE, "1": 8, "nothing": 1}, "no statement has a parameter \\$nothing"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(db, parameters, message):
    with pytest.raises(kryptondb.BindError, match=message):
        db.sql("SELECT HEATMAP FROM occlude(net, ?, patch => ?)", parameters)


def test_names_of_parameters_may_have_their_dollar(db):
    assert db.sql("SELECT y FROM occlude(net, $a, patch => 8)", {"$a": PICTURE}).arrow().num_rows == 49


# Rates, closing


def test_rates_are_measured_once_and_remembered(tmp_path, monkeypatch):
    measured: list[str] = []

    def measure(device: str) -> Rates:
        measured.append(device)
        return Rates(1e9, 2e9, 3e-5)

    monkeypatch.setattr(calibrate, "measure", measure)
    for _ in range(2):
        with kryptondb.connect(tmp_path / "a.krypton") as session:
            assert session.rates("cpu") == Rates(1e9, 2e9, 3e-5)
            session.rates("cpu")
    assert measured == ["cpu"]


def test_a_closed_session_says_so(db):
    db.close()
    db.close()
    with pytest.raises(kryptondb.ExecutionError, match="closed"):
        db.sql("SHOW MODELS")
