"""The command line, in this process: arguments, sources in order, formats, exit statuses. No model runs here."""

from __future__ import annotations

import csv
import io
import json
import sys

import pyarrow as pa
import pytest

import kryptondb
from kryptondb.cli import arguments, main
from kryptondb.errors import ReaderLeftError


def run(capsys, *argv: str) -> tuple[int, str, str]:
    status = main(argv)
    out, err = capsys.readouterr()
    return status, out, err


def usage(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    return capsys.readouterr().err


def test_the_version_is_one_line(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"kryptondb {kryptondb.__version__}\n"


def test_help_shows_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(option in text for option in ("-c", "-f", "--format", "-o", "--param", "--version", "DATABASE"))


def test_commands_and_files_run_in_the_order_given(capsys, tmp_path):
    script = tmp_path / "second.sql"
    script.write_text("SET on_error = 'stop';\nSHOW SETTINGS;", encoding="utf-8")
    argv = ("-c", "SHOW SETTINGS", "-f", str(script), "-c", "SET on_error = 'continue'; SHOW SETTINGS")
    status, out, _ = run(capsys, "--format", "csv", *argv)
    values = [row[1] for row in csv.reader(io.StringIO(out)) if row[0] == "on_error"]
    assert (status, values) == (0, ["continue", "stop", "continue"])


def test_a_script_may_begin_with_a_byte_order_mark(capsys, tmp_path):
    script = tmp_path / "windows.sql"
    script.write_bytes("\ufeffSHOW SETTINGS;\r\n".encode())
    assert run(capsys, "-f", str(script))[0] == 0


def test_without_a_source_standard_input_runs(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("SHOW SETTINGS;"))
    status, out, err = run(capsys)
    assert status == 0 and "memory_limit" in out and err == ""


def test_nothing_to_run_is_no_error(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("-- nothing\n"))
    assert run(capsys) == (0, "", "")


def test_the_message_alone_goes_to_standard_error(capsys):
    status, out, err = run(capsys, "-c", "SHOW\n  MODLES")
    assert (status, out) == (1, "")
    assert err.splitlines()[:3] == ['line 2, column 3: unexpected "MODLES"', "      MODLES", "      ^^^^^^"]
    assert "Traceback" not in err


def test_a_text_with_a_mistake_anywhere_does_nothing(capsys, tmp_path):
    database = tmp_path / "a.krypton"
    assert run(capsys, str(database), "-c", "SET on_error = 'stop'", "-c", "SHOW SETINGS")[0] == 1
    assert not database.exists()


def test_a_failing_statement_ends_the_script(capsys):
    status, out, err = run(capsys, "-c", "SHOW SETTINGS; DROP MODEL nothing; SHOW SAMPLES")
    assert status == 1 and "on_error" in out and "chelsea" not in out.lower()
    assert 'no model named "nothing"' in err


def test_a_database_remembers_settings(capsys, tmp_path):
    database = str(tmp_path / "clinic.krypton")
    assert run(capsys, database, "-c", "SET on_error = 'stop'") == (0, "", "")
    _, out, _ = run(capsys, database, "--format", "json", "-c", "SHOW SETTINGS")
    assert {"on_error": "stop"}.items() <= {
        row["name"]: row["value"] for row in map(json.loads, out.splitlines())
    }.items()


def test_a_file_that_is_no_database_is_refused(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("milk, bread and other things\n" * 10)
    status, _, err = run(capsys, str(tmp_path / "notes.txt"), "-c", "SHOW MODELS")
    assert status == 1 and "notes.txt" in err and "Traceback" not in err


def test_a_query_given_as_the_database_is_a_usage_error(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for query in ("SELECT HEATMAP FROM occlude(a, 'b')", "calibrate;"):
        assert "give it with -c" in usage(capsys, query)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv", [["--nonsense"], ["--format", "xml"], ["--param", "novalue"], ["--param", "a b=1"], ["-c"], ["a", "b"]]
)
def test_a_command_line_that_makes_no_sense_exits_with_2(capsys, argv):
    assert "usage: kryptondb" in usage(capsys, *argv)


def test_a_script_that_is_not_there_is_named(capsys):
    status, _, err = run(capsys, "-f", "no/such.sql")
    assert status == 1 and "no/such.sql" in err and "No such file" in err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("-3", -3),
        ("0.25", 0.25),
        ("1e-3", 0.001),
        ("cat.png", "cat.png"),
        ("'16'", "16"),
        ("'it''s'", "it's"),
        ("TRUE", True),
        ("null", None),
        ("", ""),
        ("a=b", "a=b"),
        ("(8, 16)", [8, 16]),
        ("('a, b', c.png)", ["a, b", "c.png"]),
        ("(a,,b)", "(a,,b)"),
        ("(-1, +2, .5, ('x', NULL))", [-1, 2, 0.5, ["x", None]]),
        ("(a, (1, 2), d (1).png)", ["a", [1, 2], "d (1).png"]),
        ("()", []),
        ("scan (1).png", "scan (1).png"),
    ],
)
def test_parameters_are_read_as_the_language_reads_them(text, value):
    [(_, found)] = arguments().parse_args(["--param", f"x={text}"]).param
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "('" + "''" * 30 + "x)",
        "('" + "''" * 100_000,
        "(" * 100_000,
        "(a," * 30_000,
        "('a'," * 30_000 + "b",
        "1" * 100_000 + "x",
        "(" + "1, " * 30_000 + "'",
        "/*" * 50_000,
        "'a' -- b",
        "1; 2",
        "1 2",
        "+'a'",
        "1e5x",
    ],
)
def test_a_parameter_that_is_not_a_literal_is_the_text_itself_however_long(text):
    assert arguments().parse_args(["--param", f"x={text}"]).param == [("x", text)]


def test_a_parameter_that_is_too_large_a_number_is_a_mistake(capsys):
    with pytest.raises(SystemExit):
        arguments().parse_args(["--param", "n=99999999999999999999"])
    assert "n: this whole number is too large" in capsys.readouterr().err


def test_parameters_reach_the_statements_that_use_them(capsys):
    argv = ("-c", "SET on_error = ?; SET threads = $n; SHOW SETTINGS", "--param", "0=stop", "--param", "n=3")
    status, out, _ = run(capsys, "--format", "csv", *argv)
    values = {row[0]: row[1] for row in csv.reader(io.StringIO(out))}
    assert (status, values["on_error"], values["threads"]) == (0, "stop", "3")


def test_a_parameter_that_nobody_uses_is_a_mistake(capsys):
    status, _, err = run(capsys, "-c", "SET threads = $count", "--param", "count=3", "--param", "cuont=4")
    assert status == 1 and "$cuont" in err and '"count"' in err


def test_a_parameter_without_a_value_is_shown_in_its_place(capsys):
    status, _, err = run(capsys, "-c", "SET threads = $count")
    assert status == 1 and "line 1, column 15" in err and "^^^^^^" in err


def test_results_go_to_a_file_whose_ending_chooses_the_format(capsys, tmp_path):
    for ending, first in ((".csv", "name,value"), (".json", '{"name"'), (".txt", "name   ")):
        path = tmp_path / f"settings{ending}"
        assert run(capsys, "-o", str(path), "-c", "SHOW SETTINGS") == (0, "", "")
        assert path.read_text(encoding="utf-8").startswith(first)


def test_an_arrow_file_reads_back(capsys, tmp_path):
    path = tmp_path / "settings.arrow"
    assert run(capsys, "-o", str(path), "-c", "SHOW SETTINGS")[0] == 0
    assert pa.ipc.open_file(path.read_bytes()).read_all().column_names == ["name", "value", "default", "description"]


def test_arrow_holds_one_result(capsys, tmp_path):
    path = tmp_path / "two.arrow"
    status, _, err = run(capsys, "-o", str(path), "-c", "SHOW SETTINGS; SHOW SAMPLES")
    assert status == 1 and "one result" in err and not path.exists()


def test_an_output_file_appears_whole_or_not_at_all(capsys, tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("as it was")
    assert run(capsys, "-o", str(path), "-c", "SHOW SETTINGS; DROP MODEL nothing")[0] == 1
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_written_is_named(capsys, tmp_path):
    status, _, err = run(capsys, "-o", str(tmp_path), "-c", "SHOW SETTINGS")
    assert status == 1 and str(tmp_path) in err and "Traceback" not in err


def test_tables_of_one_script_are_told_apart_by_an_empty_line(capsys):
    _, out, _ = run(capsys, "-c", "SHOW PROFILES; SHOW MODELS")
    assert out.split("\n\n")[1].startswith("name  source")


def test_ctrl_c_ends_with_130(capsys, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kryptondb.session.Session.run", interrupted)
    assert run(capsys, "-c", "SHOW SETTINGS") == (130, "", "")


def test_a_reader_that_leaves_is_no_drama(capsys, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("kryptondb.prompt.output.Output.write", broken)
    monkeypatch.setattr("kryptondb.cli._abandon_output", lambda: None)
    assert run(capsys, "-c", "SHOW SETTINGS") == (141, "", "")


def test_a_pipe_that_is_not_read_any_more_ends_copy_as_it_ends_other_programs(capsys, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ReaderLeftError("cannot write /dev/stdout: its reader has closed it")

    monkeypatch.setattr("kryptondb.session.Session.run", broken)
    monkeypatch.setattr("kryptondb.cli._abandon_output", lambda: None)
    assert run(capsys, "-c", "SHOW SETTINGS") == (141, "", "")


def test_what_was_typed_is_quoted_without_control_characters(capsys):
    for argv in (["--\x1b]0;a\x07"], ["-c", "SHOW \x1b[2J\u202e"], ["-f", "\x1b[2J.sql"], ["\x1b[2J/no/database"]):
        try:
            main(argv)
        except SystemExit as ended:
            assert ended.code == 2
        said = capsys.readouterr().err
        assert said and "\x1b" not in said and "\u202e" not in said


def test_a_mistake_of_ours_is_shown_without_control_characters(capsys, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("\x1b]0;a\x07")

    monkeypatch.setattr("kryptondb.session.Session.run", broken)
    status, _, err = run(capsys, "-c", "SHOW SETTINGS")
    assert status == 1 and "Traceback" in err and "RuntimeError: \\x1b]0;a\\x07" in err


def test_an_arrow_file_or_stream_is_chosen_by_the_ending_and_a_pipe_gets_a_stream(capsysbinary, tmp_path):
    for name, options, read in (
        ("a.arrow", (), pa.ipc.open_file),
        ("a.feather", (), pa.ipc.open_file),
        ("a.IPC", ("--format", "arrow"), pa.ipc.open_file),
        ("plain", ("--format", "arrow"), pa.ipc.open_file),
        ("a.arrows", (), pa.ipc.open_stream),
        ("b.arrows", ("--format", "arrow"), pa.ipc.open_stream),
    ):
        assert main(["-o", str(tmp_path / name), *options, "-c", "SHOW SETTINGS"]) == 0
        assert read((tmp_path / name).read_bytes()).read_all().column_names[0] == "name"
    capsysbinary.readouterr()
    assert main(["--format", "arrow", "-c", "SHOW SETTINGS"]) == 0
    assert pa.ipc.open_stream(capsysbinary.readouterr().out).read_all().column_names[0] == "name"


@pytest.mark.parametrize("name", [".csv", ".arrow", ".TXT", ".png"])
def test_a_name_that_is_only_an_ending_is_refused_with_one_that_is_not(capsys, tmp_path, name):
    status, out, err = run(capsys, "-o", str(tmp_path / name), "-c", "SHOW SETTINGS")
    assert (status, out) == (1, "") and "is only an ending" in err and f"result{name}" in err
    assert list(tmp_path.iterdir()) == []


def test_a_hidden_file_is_written_where_that_is_meant(capsys, tmp_path):
    assert run(capsys, "-o", str(tmp_path / ".csv"), "--format", "csv", "-c", "SHOW SETTINGS")[0] == 0
    assert run(capsys, "-o", str(tmp_path / ".settings"), "-c", "SHOW SETTINGS")[0] == 0
    assert (tmp_path / ".csv").read_text().startswith("name,value") and (tmp_path / ".settings").stat().st_size


def test_the_address_of_a_file_is_its_path_and_other_addresses_are_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script, database = tmp_path / "a b.sql", f"file://{tmp_path}/a.krypton"
    script.write_text("SHOW SETTINGS")
    assert run(capsys, database, "-o", f"file://{tmp_path}/a.csv", "-f", f"file://{tmp_path}/a%20b.sql")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b.sql", "a.csv", "a.krypton"]
    assert "it is the running script" in run(capsys, "-f", script.as_uri(), "-o", str(script), "--format", "csv")[2]
    for address in ("s3://bucket/a.csv", "https://host/a.csv", "file://host/a.csv"):
        status, _, err = run(capsys, "-o", address, "-c", "SHOW SETTINGS")
        assert status == 1 and f"cannot write '{address}': {address.partition(':')[0]}:// is not a place" in err
        assert "copy it there" in err
    assert "'s3://bucket/a.krypton' cannot be a catalog" in run(capsys, "s3://bucket/a.krypton", "-c", "SHOW MODELS")[2]
    assert len(list(tmp_path.iterdir())) == 3
