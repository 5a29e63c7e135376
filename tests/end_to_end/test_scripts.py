"""Whole scripts through the command line, in this process: models, queries, files, bad pictures."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kryptondb.cli import main
from kryptondb.copy import rows
from kryptondb.images import sources

Answer = tuple[int, str, str]


@pytest.fixture
def database(work: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A database in the current folder that knows the model `net`."""
    create = f"CREATE MODEL net FROM '{exported}' WITH (size => 32, labels => ('a', 'b', 'c'))"
    assert main(["pets.krypton", "-c", create]) == 0
    assert capsys.readouterr().out.startswith("net: ")
    return "pets.krypton"


@pytest.fixture
def run(database: str, capsys: pytest.CaptureFixture[str]):
    """Runs the command line on the database; exit status, standard output, standard error."""

    def answer(*argv: str) -> Answer:
        status = main([database, *argv])
        out, err = capsys.readouterr()
        return status, out, err

    return answer


def test_a_heat_map_is_told_in_one_line(run):
    status, out, err = run("-c", "SELECT HEATMAP FROM occlude(net, 'scans/0.png', patch => 8)")
    assert (status, err) == (0, "")
    parts = out.rstrip("\n").split("   ")
    assert parts[0] == "scans/0.png" and parts[2].startswith("lowest ") and parts[3] == "exact"


def test_an_output_is_not_written_over_what_the_query_reads(run, work):
    before = Path("scans/0.png").read_bytes()
    query = "SELECT HEATMAP FROM occlude(net, 'scans/0.png', patch => 8)"
    for statement in (query, f"EXPLAIN {query}", f"COPY ({query}) TO 'map.png'"):
        status, out, err = run("-o", "scans/0.png", "-c", statement)
        assert (status, out) == (1, "") and "cannot write scans/0.png: the query reads its pictures from it" in err
    assert Path("scans/0.png").read_bytes() == before
    assert "it is the open database" in run("-o", "pets.krypton", "-c", "SHOW SETTINGS")[2]
    assert run("-c", "SHOW MODELS")[0] == 0


@pytest.mark.slow
def test_what_a_model_is_made_of_the_script_and_what_is_analyzed_are_not_written_over(run, work, exported):
    Path("names.txt").write_text("x\ny\nz\n")
    Path("link.csv").symlink_to(exported)
    query = "SELECT y, drop FROM occlude(net, 'scans/0.png', patch => 8)"
    assert run("-c", f"CREATE MODEL other FROM '{exported}' WITH (size => 32, labels => 'names.txt')")[0] == 0
    for path, name in ((str(exported), "net"), ("link.csv", "net"), ("no/../names.txt", "other")):
        before = Path(path).resolve().read_bytes()
        for arguments in (
            ("-c", f"COPY ({query}) TO '{path}' (FORMAT csv)"),
            ("-o", path, "--format", "csv", "-c", query),
        ):
            status, out, err = run(*arguments)
            assert (status, out) == (1, "") and f'cannot write {path}: it is a file of the model "' in err
            assert "other" in err or name != "other"
        assert Path(path).resolve().read_bytes() == before
    Path("script.sql").write_text(f"COPY ({query}) TO 'script.sql' (FORMAT csv)")
    for arguments in (("-f", "script.sql"), ("-o", "script.sql", "--format", "csv", "-f", "script.sql")):
        assert "cannot write script.sql: it is the running script" in run(*arguments)[2]
    assert Path("script.sql").read_text().startswith("COPY")
    weights = ("-o", "names.txt", "-c", "DROP MODEL other", "-c")
    create = f"CREATE MODEL third FROM '{exported}' WITH (size => 32, labels => 'names.txt')"
    assert "it is a file of the model" in run(*weights, create)[2] and Path("names.txt").read_text() == "x\ny\nz\n"
    said = run("-o", "scans/0.png", "-c", "ANALYZE net USING 'scans' WITH (patch => 8)")[2]
    assert "the query reads its pictures from it" in said


def test_predictions_are_told_below(run):
    _, out, _ = run("-c", "SELECT HEATMAP, PREDICTION FROM occlude(net, 'scans/0.png', patch => 8)")
    assert out.splitlines()[1].startswith("predicted ")
    assert out.splitlines()[1].count(",") == 2


@pytest.mark.slow
def test_every_format_holds_the_same_rows(run, work):
    query = "SELECT image, y, x, score FROM occlude(net, 'scans', patch => 8) ORDER BY image, y, x"
    status, as_json, _ = run("--format", "json", "-c", query)
    assert status == 0
    rows = [json.loads(line) for line in as_json.splitlines()]
    assert len(rows) == 3 * 49
    _, as_csv, _ = run("--format", "csv", "-c", query)
    assert [float(row["score"]) for row in csv.DictReader(io.StringIO(as_csv))] == [row["score"] for row in rows]
    assert run("-o", "cells.arrow", "-c", query) == (0, "", "")
    table = pa.ipc.open_file((work / "cells.arrow").read_bytes()).read_all()
    np.testing.assert_allclose(table["score"].to_numpy(), [row["score"] for row in rows], rtol=1e-6)
    assert b"kryptondb.version" in table.schema.metadata


def test_heat_maps_in_json_are_lists_of_rows_with_null_where_nothing_was_computed(run):
    _, out, _ = run("--format", "json", "-c", "SELECT HEATMAP FROM occlude(net, 'scans/*.png', patch => 8) WHERE y < 8")
    maps = [np.array(json.loads(line)["heatmap"], dtype=float) for line in out.splitlines()]
    assert [heatmap.shape for heatmap in maps] == [(7, 7)] * 3
    assert all(np.isfinite(heatmap[:2]).all() and np.isnan(heatmap[2:]).all() for heatmap in maps)


def test_a_bad_picture_is_left_out_and_reported_at_the_end(run, work):
    (work / "scans" / "1.png").write_bytes(b"not a picture")
    status, out, err = run("--format", "json", "-c", "SELECT HEATMAP FROM occlude(net, 'scans', patch => 8)")
    assert status == 1
    assert [json.loads(line)["image"] for line in out.splitlines()] == ["scans/0.png", "scans/2.png"]
    assert err.splitlines()[0] == "1 image skipped:" and "scans/1.png" in err
    assert "Traceback" not in err


def test_one_bad_picture_alone_is_an_error(run, work):
    (work / "scans" / "1.png").write_bytes(b"not a picture")
    status, out, err = run("-c", "SELECT HEATMAP FROM occlude(net, 'scans/1.png', patch => 8)")
    assert (status, out) == (1, "") and "scans/1.png" in err


def test_on_error_stop_ends_at_the_first_bad_picture(run, work):
    (work / "scans" / "1.png").write_bytes(b"not a picture")
    script = "SET on_error = 'stop'; SELECT HEATMAP FROM occlude(net, 'scans', patch => 8); SHOW MODELS"
    status, out, err = run("--format", "json", "-c", script)
    assert status == 1 and "scans/1.png" in err and len(out.splitlines()) <= 1


@pytest.mark.slow
def test_copy_leaves_out_bad_pictures_and_says_so(run, work):
    (work / "scans" / "1.png").write_bytes(b"not a picture")
    status, out, err = run("-c", "COPY (SELECT HEATMAP FROM occlude(net, 'scans', patch => 8)) TO 'maps/'")
    assert status == 1 and "scans/1.png" in err and "maps" in out
    assert len(list((work / "maps").glob("*.png"))) == 2


@pytest.mark.slow
def test_a_picture_of_a_heat_map_is_written(run, work):
    assert run("-c", "COPY (SELECT HEATMAP FROM occlude(net, 'scans/0.png', patch => 8)) TO 'map.png'")[0] == 0
    assert (work / "map.png").read_bytes().startswith(b"\x89PNG")


def test_parameters_from_the_command_line(run):
    query = "SELECT image, label FROM occlude(net, ?, patch => $patch, class => $class) LIMIT 1"
    argv = ("--param", "0=scans/2.png", "--param", "patch=(8, 16)", "--param", "class=b")
    assert run("--format", "csv", "-c", query, *argv) == (0, "image,label\nscans/2.png,b\n", "")


def test_scripts_commands_and_standard_input_see_the_same_database(run, work, monkeypatch):
    (work / "one.sql").write_text("-- the first\nSET on_error = 'stop';\nSHOW SETTINGS;\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("SHOW MODELS;"))
    status, out, _ = run("--format", "csv", "-f", "one.sql", "-f", "-", "-c", "DESCRIBE net")
    assert status == 0
    assert out.index("on_error,stop") < out.index("name,source") < out.index("property,value")


def test_explain_and_its_json(run):
    _, out, _ = run("-c", "EXPLAIN SELECT HEATMAP FROM occlude(net, 'scans/0.png', patch => 8)")
    assert "exact" in out and "Images" in out
    _, out, _ = run("--format", "json", "-c", "EXPLAIN FORMAT json SELECT HEATMAP FROM occlude(net, 'scans/0.png')")
    assert len(out.splitlines()) == 1 and isinstance(json.loads(out), dict)
    _, out, _ = run("-c", "EXPLAIN ANALYZE SELECT HEATMAP FROM occlude(net, 'scans/0.png', patch => 8)")
    assert "49" in out


def test_rows_stream_image_by_image(run, monkeypatch):
    opened: list[str] = []
    opened_when_written: list[int] = []
    find, dumps = sources.find_images, json.dumps

    def found(*reading: object, **named: object) -> Iterator[sources.ImageSource]:
        for source in find(*reading, **named):  # type: ignore[arg-type]
            opened.append(source.name)
            yield source

    def dumped(*args: object, **named: object) -> str:
        opened_when_written.append(len(opened))
        return dumps(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(sources, "find_images", found)
    monkeypatch.setattr(rows.json, "dumps", dumped)
    assert run("--format", "json", "-c", "SELECT HEATMAP FROM occlude(net, 'scans', patch => 8)")[0] == 0
    assert opened_when_written[0] < 3


def test_an_error_in_the_middle_leaves_no_output_file(run, work):
    script = (
        "SELECT HEATMAP FROM occlude(net, 'scans/0.png', patch => 8); SELECT HEATMAP FROM occlude(nte, 'scans/0.png')"
    )
    status, _, err = run("-o", "out.json", "-c", script)
    assert status == 1 and 'Did you mean "net"?' in err
    assert not (work / "out.json").exists()


MAP = "SELECT HEATMAP FROM occlude(net, 'scans/0.png', patch => 8)"


@pytest.mark.slow
def test_an_ending_is_written_as_what_it_says(run, work):
    for path, start in (
        ("map.png", b"\x89PNG"),
        ("map.parquet", b"PAR1"),
        ("map.pq", b"PAR1"),
        ("map.feather", b"ARROW1"),
        ("page.HTML", b"<!"),
        ("new/map.png", b"\x89PNG"),
        ("map.arrow", b"ARROW1"),
        ("map.ipc", b"ARROW1"),
        ("map.arrows", b"\xff\xff\xff\xff"),
        ("map.csv", b"image,class"),
        ("map.txt", b"scans/0.png"),
    ):
        assert run("-o", path, "-c", MAP) == (0, "", ""), path
        assert Path(path).read_bytes().startswith(start), path
    assert run("-o", "maps/", "-c", MAP.replace("scans/0.png", "scans"))[0] == 0
    assert len(list(Path("maps").glob("*.png"))) == 3


def test_an_ending_that_cannot_be_kept_is_refused_before_any_work(run, work, capsys):
    for statements in (("SHOW SETTINGS",), (MAP, MAP), (MAP, "DROP MODEL net"), (f"EXPLAIN {MAP}", MAP)):
        arguments = [argument for statement in statements for argument in ("-c", statement)]
        status, out, err = run("-o", "map.png", *arguments)
        assert (status, out) == (1, "") and "map.png holds the answer of one SELECT" in err
    status, _, err = run("-o", "cells.png", "-c", MAP.replace("HEATMAP", "y, drop"))
    assert status == 1 and "HEATMAP" in err
    for path in ("map.jpg", "map.xlsx", "map.npy"):
        status, _, err = run("-o", path, "-c", MAP)
        assert status == 1 and f"the format of '{path}' is not clear from its name" in err and ".parquet" in err
        assert not Path(path).exists()
    for path, format, says in (
        ("map.png", "csv", "--format csv contradicts -o map.png, which means png"),
        ("map.csv", "json", "which means csv"),
        ("map.json", "table", "which means json"),
        ("maps/", "csv", "which means a folder"),
    ):
        with pytest.raises(SystemExit) as ended:
            run("-o", path, "-c", MAP, "--format", format)
        assert ended.value.code == 2 and says in capsys.readouterr().err
        assert not Path(path).exists()
    assert run("--format", "json", "-o", "map.data", "-c", MAP)[0] == 0
    assert "heatmap" in json.loads(Path("map.data").read_text())


def test_failures_are_listed_and_counted_where_copy_writes_too(run, work):
    Path("scans/bad.png").write_bytes(b"junk")
    status, out, err = run("-o", "maps.parquet", "-c", MAP.replace("scans/0.png", "scans"))
    assert (status, out) == (1, "") and "bad.png" in err and Path("maps.parquet").is_file()


def test_formulas_may_be_kept(run, work, capsys):
    query = "SELECT '=1' AS \"+a\" FROM occlude(net, 'scans/0.png', patch => 32)"
    for arguments, start in (
        ((), "'+a\n'=1"),
        (("--formulas", "escape"), "'+a\n'=1"),
        (("--formulas", "keep"), "+a\n=1"),
    ):
        assert run("--format", "csv", *arguments, "-c", query) == (0, f"{start}\n", "")
        assert run("-o", "cells.csv", *arguments, "-c", query) == (0, "", "")
        assert Path("cells.csv").read_text() == f"{start}\n"
    with pytest.raises(SystemExit):
        run("--formulas", "keep", "-c", query)
    assert "--formulas is for --format csv" in capsys.readouterr().err
