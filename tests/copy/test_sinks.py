"""COPY: files that are whole, that explain themselves, or that are not there."""

from __future__ import annotations

import csv
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from kryptondb.copy import sinks
from kryptondb.copy.sinks import CopyReport, copy_to
from kryptondb.errors import BindError, ExecutionError, ReaderLeftError
from kryptondb.executor import Progress
from kryptondb.files.atomic import atomic_file, writing
from kryptondb.optimizer import physical as p
from tests.fakes import FakeExperiment, expression, limit, occlude, select, start, table, where

TOP_2 = p.ClassChoice("top", 2)


def copied(root: p.PlanNode, path: str | Path, **options: Any) -> CopyReport:
    return copy_to(start(root), str(path), options)


def test_an_arrow_file_holds_the_rows_and_how_they_were_made(folder: Path, tmp_path: Path) -> None:
    root = p.HeatMaps(occlude(str(folder), classes=TOP_2), prediction=True)
    path = tmp_path / "maps.arrow"
    report = copied(root, path)
    assert report == CopyReport(str(path), "arrow", 6, path.stat().st_size)
    with pa.ipc.open_file(path) as reader:
        found = reader.read_all()
    assert found.equals(table(root), check_metadata=True)


@pytest.mark.parametrize("compression", ["none", "lz4", "ZSTD"])
def test_an_arrow_file_can_be_compressed(picture: str, tmp_path: Path, compression: str) -> None:
    copied(occlude(picture), tmp_path / "cells.feather", compression=compression)
    assert pa.feather.read_table(tmp_path / "cells.feather").num_rows == 12


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_an_arrow_stream_holds_what_the_file_holds(picture: str, tmp_path: Path, compression: str) -> None:
    copied(occlude(picture), tmp_path / "cells.arrows", compression=compression)
    with pa.ipc.open_stream((tmp_path / "cells.arrows").read_bytes()) as stream:
        assert stream.read_all().equals(table(occlude(picture)), check_metadata=True)


def test_the_address_of_a_file_here_is_its_path_and_no_other_is_written_to(picture: str, tmp_path: Path) -> None:
    copied(occlude(picture), f"file://{tmp_path}/new%20folder/a.csv")
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["a.csv"]
    before = Path(picture).read_bytes()
    with pytest.raises(ExecutionError, match="reads its pictures from it"):
        copied(occlude(picture), Path(picture).as_uri(), format="csv")
    assert Path(picture).read_bytes() == before
    for name in ("s3://bucket/a.csv", "gs://bucket/maps/", "file://host/a.parquet", "https://host/a.png"):
        with pytest.raises(ExecutionError, match="is not a place on this machine") as caught:
            copied(occlude(picture), name)
        assert caught.value.hint == "Write a file here, and copy it there."


def test_a_parquet_file_holds_heat_maps_as_tensors(folder: Path, tmp_path: Path) -> None:
    root = p.HeatMaps(occlude(str(folder)), prediction=True)
    copied(root, tmp_path / "maps.parquet", compression="zstd")
    found = pa.parquet.read_table(tmp_path / "maps.parquet")
    assert found.schema.field("heatmap").type == pa.fixed_shape_tensor(pa.float32(), (3, 4))
    assert found.schema.metadata[b"kryptondb.model"] == b"net"
    assert found.to_pylist() == table(root).to_pylist()


def test_rows_of_many_images_share_a_row_group(folder: Path, tmp_path: Path) -> None:
    copied(occlude(str(folder)), tmp_path / "cells.parquet")
    assert pa.parquet.ParquetFile(tmp_path / "cells.parquet").num_row_groups == 1


def test_large_answers_are_written_in_parts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_ROWS", 20)
    assert copied(occlude(str(folder)), tmp_path / "cells.parquet").rows == 36
    file = pa.parquet.ParquetFile(tmp_path / "cells.parquet")
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [24, 12]


def test_a_csv_file_has_a_header_and_an_empty_field_for_null(picture: str, tmp_path: Path) -> None:
    root = limit(select(occlude(picture), y="y", drop="drop", nothing="1 % 0", label="label"), 2)
    copied(root, tmp_path / "cells.csv")
    assert (tmp_path / "cells.csv").read_text().splitlines() == [
        "y,drop,nothing,label",
        "0,0,,tabby",
        "0,0.001,,tabby",
    ]
    copied(root, tmp_path / "cells.tsv", format="csv", header=False, delimiter="\t")
    assert (tmp_path / "cells.tsv").read_text().splitlines()[0] == "0\t0\t\ttabby"


def test_a_csv_file_has_json_for_heat_maps_and_predictions(picture: str, tmp_path: Path) -> None:
    copied(p.HeatMaps(where(occlude(picture), "x < 12"), prediction=True), tmp_path / "maps.csv")
    with (tmp_path / "maps.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert json.loads(row["heatmap"]) == [
        [0.0, 0.001, 0.002, None],
        [0.01, 0.011, 0.012, None],
        [0.02, 0.021, 0.022, None],
    ]
    assert json.loads(row["prediction"])[1] == {"class": 2, "label": "lynx", "probability": 0.3}


@pytest.mark.parametrize("name", ["cells.arrow", "cells.parquet", "cells.csv"])
def test_an_answer_without_rows_is_a_file_with_a_schema(picture: str, tmp_path: Path, name: str) -> None:
    assert copied(where(occlude(picture), "y < 0"), tmp_path / name).rows == 0
    assert (tmp_path / name).stat().st_size > 0


def test_missing_folders_are_made_and_a_file_that_is_there_is_replaced(picture: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "cells.csv"
    copied(occlude(picture), path)
    assert len(path.read_text().splitlines()) == 13
    path.chmod(0o640)
    copied(limit(occlude(picture), 1), path)
    assert len(path.read_text().splitlines()) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in path.parent.iterdir()] == ["cells.csv"]


def test_a_new_file_has_the_permissions_that_files_have(picture: str, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    copied(occlude(picture), tmp_path / "cells.csv")
    assert (tmp_path / "cells.csv").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_is_followed_and_stays_a_link(picture: str, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    copied(occlude(picture), tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").is_file()


def test_a_device_is_written_to_and_not_replaced(picture: str) -> None:
    copied(occlude(picture), Path(os.devnull), format="csv")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ExecutionError("out of memory"), RuntimeError])
@pytest.mark.parametrize("name", ["cells.arrow", "cells.parquet", "cells.csv", "map.png", "report.html"])
def test_a_query_that_fails_leaves_what_was_there(
    folder: Path,
    tmp_path: Path,
    name: str,
    failure: BaseException | type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(progress: Progress) -> None:
        if progress.image_number == 2:
            raise failure

    monkeypatch.setattr(sinks, "_ROWS", 1)
    target = tmp_path / "out" / name
    target.parent.mkdir()
    target.write_text("precious")
    run = start(p.HeatMaps(occlude(str(folder))), progress=fail)
    with pytest.raises(failure if isinstance(failure, type) else type(failure)):
        copy_to(run, str(target), {})
    assert [entry.name for entry in target.parent.iterdir()] == [name]
    assert target.read_text() == "precious"


def test_a_disk_that_is_full_is_an_error_that_names_the_path(
    picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kryptondb.files.atomic.os.fsync", full)
    with pytest.raises(ExecutionError, match=r"cannot write .*cells\.csv: No space left on device"):
        copied(occlude(picture), tmp_path / "cells.csv")
    assert not [entry for entry in tmp_path.iterdir() if entry.is_file()]


def test_what_cannot_be_written_is_said_before_any_work(folder: Path, tmp_path: Path) -> None:
    experiment = FakeExperiment()
    (tmp_path / "file").write_text("")
    run = start(occlude(str(folder)), experiment)
    with pytest.raises(ExecutionError, match=r"cannot write .*file/cells\.csv"):
        copy_to(run, str(tmp_path / "file" / "cells.csv"), {})
    with pytest.raises(ExecutionError, match="is a folder"):
        copy_to(start(occlude(str(folder)), experiment), str(folder), {"format": "csv"})
    (tmp_path / "circle.csv").symlink_to("circle.csv")
    with pytest.raises(ExecutionError, match=r"cannot write .*circle\.csv"):
        copy_to(start(occlude(str(folder)), experiment), str(tmp_path / "circle.csv"), {})
    assert experiment.log == []


@pytest.mark.parametrize(("path", "why"), [("a\0b.csv", "a path cannot hold a NUL character"), ("a\0/", "NUL")])
def test_a_path_that_no_file_can_have_is_refused_before_any_work(picture: str, path: str, why: str) -> None:
    experiment = FakeExperiment()
    for root, kind in ((occlude(picture), "parquet"), (p.HeatMaps(occlude(picture)), "png")):
        with pytest.raises(ExecutionError, match=rf"cannot write 'a\\x00.*': .*{why}"):
            copy_to(start(root, experiment), path, {"format": kind})
    assert experiment.log == []


def test_a_name_that_begins_like_a_home_is_a_name(
    picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert copy_to(start(occlude(picture)), "~scratch.csv", {}).rows == 12
    assert (tmp_path / "~scratch.csv").is_file()
    assert copy_to(start(p.HeatMaps(occlude(picture))), "~scratch/", {}).rows == 1
    assert (tmp_path / "~scratch" / "a-0.png").is_file()


@pytest.mark.parametrize("kind", ["arrow", "parquet", "csv", "png", "html"])
def test_a_picture_of_the_query_is_never_written_over(folder: Path, kind: str) -> None:
    experiment = FakeExperiment()
    before = (folder / "a.png").read_bytes()
    for images in (str(folder / "a.png"), str(folder), [str(folder / "b.png"), str(folder / "a.png")]):
        run = start(p.HeatMaps(occlude(binding="0")), experiment, bindings={"0": images})
        with pytest.raises(ExecutionError, match=r"cannot write .*a\.png: the query reads its pictures from it"):
            copy_to(run, str(folder / "a.png"), {"format": kind})
    assert experiment.log == [] and (folder / "a.png").read_bytes() == before


def test_the_open_database_is_never_written_over(picture: str, tmp_path: Path) -> None:
    database = tmp_path / "clinic.krypton"
    database.write_bytes(b"precious")
    with pytest.raises(ExecutionError, match="it is the open database"):
        copy_to(start(occlude(picture)), str(database), {"format": "csv"}, database=database)
    assert database.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["csv", "arrow", "html"])
def test_a_format_of_one_file_takes_no_folder(picture: str, tmp_path: Path, kind: str) -> None:
    with pytest.raises(BindError, match=f"names a folder, and {kind} is one file") as caught:
        copied(p.HeatMaps(occlude(picture)), f"{tmp_path}/out/", format=kind)
    assert f"'{tmp_path}/out/out.{kind}'" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error_that_names_the_path(picture: str, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ExecutionError, match=r"cannot write .*cells\.csv: Permission denied"):
        copied(occlude(picture), tmp_path / "locked" / "cells.csv")


@pytest.mark.parametrize(
    ("name", "options", "message", "hint"),
    [
        ("cells", {}, "format of .* not clear", "FORMAT arrow"),
        (".csv", {}, "the name of .* is only an ending", "result.csv"),
        ("cells.json", {}, "COPY does not write json files", "arrow, arrows, parquet"),
        ("cells.parqet", {}, "format of .* not clear", '".parquet"'),
        (
            "cells.arrow",
            {"format": "parqet"},
            "format must be one of 'arrow', 'arrows', 'parquet', 'csv',",
            '"parquet"',
        ),
        ("cells.arrow", {"compresion": "lz4"}, 'no arrow option named "compresion"', '"compression"'),
        ("cells.arrow", {"compression": "gzip"}, "compression must be one of 'none', 'lz4', 'zstd', not 'gzip'", None),
        ("cells.arrows", {"compression": "gzip"}, "compression must be one of 'none', 'lz4', 'zstd', not 'gzip'", None),
        ("cells.csv", {"delimiter": "ab"}, "delimiter must be one character", None),
        *(("cells.csv", {"delimiter": sign}, "one character that cannot be part", None) for sign in '1e.-+"'),
        ("cells.csv", {"header": 3}, "header must be TRUE or FALSE", None),
        ("cells.csv", {"compression": "zstd"}, 'no csv option named "compression"', "header"),
        ("map.png", {"opacty": 1}, 'no png option named "opacty"', '"opacity"'),
        ("map.png", {"opacity": 2}, "opacity must be a number from 0 to 1", None),
        ("map.png", {"values": "dorp"}, "values must be 'drop' or 'score', not 'dorp'", '"drop"'),
        ("map.png", {"scale": [1, 0]}, "scale must be two numbers", None),
        (
            "map.png",
            {"colormap": "viridsi"},
            "matplotlib color map, not 'viridsi'",
            '"viridis"',
        ),
        ("map.png", {"colormap": 3}, "colormap must be the name", None),
        ("map.png", {"size": 0.5}, "size must be a whole number of pixels from 16 to 4,096", None),
        ("map.png", {"size": 100_000}, "size must be a whole number of pixels from 16 to 4,096", None),
        ("map.png", {"contours": "half"}, "contours must be a number, or a percentage such as '50%'", None),
        ("map.png", {"contours": ["120%"]}, "contours must be a number", None),
        ("map.png", {"contours": [0.1] * 17}, "or a list of at most 16 of these", None),
        ("map.png", {"side_by_side": "yes"}, "side_by_side must be TRUE or FALSE", None),
        ("map.html", {"contours": 0.1}, 'no html option named "contours"', "colormap"),
        ("map.html", {"opacity": -1}, "opacity must be a number from 0 to 1", None),
        ("map.dcm", {"opacty": 1}, 'no dicom option named "opacty"', '"opacity"'),
    ],
)
def test_options_are_checked_before_any_work(
    picture: str, tmp_path: Path, name: str, options: dict[str, Any], message: str, hint: str | None
) -> None:
    experiment = FakeExperiment()
    run = start(p.HeatMaps(occlude(picture)), experiment)
    with pytest.raises(BindError, match=message) as caught:
        copy_to(run, str(tmp_path / "out" / name), options)
    assert hint is None or hint in str(caught.value)
    assert experiment.log == [] and not (tmp_path / "out").exists()


def test_a_file_needs_names_that_differ(picture: str, tmp_path: Path) -> None:
    root = p.Project(occlude(picture), ((expression("y"), "a"), (expression("x"), "a")))
    with pytest.raises(BindError, match='two columns are named "a"'):
        copied(root, tmp_path / "cells.parquet")


def test_the_values_of_a_float_column_survive_csv(picture: str, tmp_path: Path) -> None:
    copied(select(occlude(picture), drop="drop"), tmp_path / "cells.csv")
    read = np.loadtxt(tmp_path / "cells.csv", skiprows=1, dtype=np.float32)
    assert (read == table(select(occlude(picture), drop="drop"))["drop"].to_numpy()).all()


def test_csv_cells_that_a_spreadsheet_would_run_are_text(picture: str, tmp_path: Path) -> None:
    texts = {"=a": "'=1+1'", "b": "'-label'", "c": "'plain'", "n": "-drop"}
    root = limit(select(occlude(picture), **texts), 1)
    for formulas, quote in ((None, "'"), ("escape", "'"), ("keep", "")):
        options = {} if formulas is None else {"formulas": formulas}
        copied(root, tmp_path / "cells.csv", **options)
        with (tmp_path / "cells.csv").open(newline="") as file:
            header, row = csv.reader(file)
        assert header == [f"{quote}=a", "b", "c", "n"]
        assert row[:3] == [f"{quote}=1+1", f"{quote}-label", "plain"] and float(row[3]) <= 0
    with pytest.raises(BindError, match="formulas must be 'escape' or 'keep', not 'maybe'"):
        copied(root, tmp_path / "cells.csv", formulas="maybe")
    with pytest.raises(BindError, match='no parquet option named "formulas"'):
        copied(root, tmp_path / "cells.parquet", formulas="keep")


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
def test_a_terminal_gets_csv_alone_and_no_control_characters(picture: str) -> None:
    import pty

    controller, terminal = pty.openpty()
    try:
        path = os.ttyname(terminal)
        copied(limit(select(occlude(picture), **{"\x1b]0;a\x07": "'\x1b[2J\u202e'"}), 1), path, format="csv")
        shown = os.read(controller, 1000).decode()
        assert shown.splitlines() == ["\\x1b]0;a\\x07", "\\x1b[2J\\u202e"]
        for kind in ("arrow", "parquet", "html", "png"):
            with pytest.raises(ExecutionError, match="is a terminal") as caught:
                copied(p.HeatMaps(occlude(picture)), path, format=kind)
            assert caught.value.hint == "Name a file, or use (FORMAT csv)."
    finally:
        os.close(terminal)
        os.close(controller)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_pipe_that_is_not_read_any_more_ends_what_is_written_quietly(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: path.open("rb").close())
    reader.start()
    says = "cannot write .*pipe: its reader has closed it"
    with pytest.raises(ReaderLeftError, match=says) as caught, writing("other"), atomic_file(path) as stream:
        reader.join()
        stream.write(b"rows")
    assert isinstance(caught.value, BrokenPipeError)  # which the command line ends on as Unix programs do
