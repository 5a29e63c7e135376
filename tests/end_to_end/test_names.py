r"""Names of pictures, models and columns that are not UTF-8, that are equal, or that are as long as a system takes."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import kryptondb
from kryptondb.cli import main
from kryptondb.images import find_images
from kryptondb.session import Session

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there"),
    pytest.mark.filterwarnings("ignore::kryptondb.SkippedImages"),
]

BYTE = "\udcff"  # 0xff in a path, as Python holds it
GRID = "patch => 8, stride => 8"


class Brightness(torch.nn.Module):
    """The mean of a picture, and its opposite."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            self.convolution.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
            torch.nn.init.zeros_(self.convolution.bias)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.convolution(pictures).mean((2, 3))


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with kryptondb.connect() as session:
        session.register("m", Brightness(), size=(16, 16), labels=["bright", f"dark{BYTE}"])
        yield session


def paint(path: str | Path, level: int = 0, size: int = 16) -> None:
    with open(path, "wb") as stream:  # noqa: PTH123  # Pillow's own way with such a name is another
        Image.new("RGB", (size, size), (level, level, level)).save(stream, "PNG")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures whose names look alike: two bytes that are not UTF-8, one spelled so, and a question mark."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").mkdir()
    for level, name in enumerate((f"b{BYTE}.png", "b\udcfe.png", "b\\xff.png", "b?.png")):
        paint(tmp_path / "s" / name, 60 * level)
    return tmp_path


NAMES = ["s/b?.png", "s/b\\xfe.png", "s/b\\xff.png", "s/b\\xff.png (2)"]


def test_names_are_bytes_written_out_and_no_two_pictures_have_one_name(folder: Path) -> None:
    found = list(find_images("s"))
    assert sorted(source.name for source in found) == NAMES
    assert sorted(round(float(source.load().pixels.max()) * 255) for source in found) == [0, 60, 120, 180]
    assert [source.name for source in find_images(["s", "s"])] == [source.name for source in found] * 2


def test_grouping_and_filters_tell_pictures_apart(session: Session, folder: Path) -> None:
    counted = session.sql(f"SELECT image, count(*) AS n, max(base) AS base FROM occlude(m, 's', {GRID}) GROUP BY image")
    rows = sorted(map(tuple, (row.values() for row in counted.arrow().to_pylist())))
    assert [row[:2] for row in rows] == [(name, 4) for name in NAMES]
    for condition in (f"image = 's/b{BYTE}.png'", f"image IN ('s/b{BYTE}.png', 'x')", "image = 's/b\\xff.png'"):
        found = session.sql(f"SELECT image FROM occlude(m, 's', {GRID}) WHERE {condition} LIMIT 1").arrow()
        assert found["image"].to_pylist() == ["s/b\\xff.png"], condition
    like = session.sql(f"SELECT image FROM occlude(m, 's', {GRID}) WHERE image LIKE '%b{BYTE}.p_g%' GROUP BY image")
    assert sorted(like.arrow()["image"].to_pylist()) == NAMES[2:]


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT image FROM occlude(m, 's/b{BYTE}.png', {GRID})",
        f"SELECT image FROM occlude(m, 's/*{BYTE}*', {GRID})",
        f"SELECT image FROM occlude(m, ('s/b{BYTE}.png', 's/missing{BYTE}.png'), {GRID})",
        f"EXPLAIN SELECT image FROM occlude(m, 's/b{BYTE}.png')",
        f"EXPLAIN FORMAT JSON SELECT image FROM occlude(m, 's/b{BYTE}.png')",
        f"EXPLAIN ANALYZE SELECT image FROM occlude(m, 's/b{BYTE}.png', {GRID})",
        f"SELECT y AS \"a{BYTE}\", '{BYTE}' AS x FROM occlude(m, 's', {GRID}) ORDER BY \"a{BYTE}\" LIMIT 3",
        f"SELECT label FROM occlude(m, 's', {GRID}, class => 'dark{BYTE}') WHERE label = 'dark{BYTE}'",
        f"COPY (SELECT * FROM occlude(m, 's', {GRID})) TO 'o{BYTE}/' (FORMAT parquet)",
        f"COPY (SELECT * FROM occlude(m, 's/b{BYTE}.png', {GRID})) TO 'o{BYTE}.csv'",
        f"COPY (SELECT HEATMAP FROM occlude(m, 's/b{BYTE}.png', {GRID})) TO 'o{BYTE}.html'",
        f"COPY (SELECT HEATMAP FROM occlude(m, 's/b{BYTE}.png', {GRID})) TO 'o{BYTE}.png'",
        f"ANALYZE m USING 's/b{BYTE}.png' WITH ({GRID})",
        "SHOW PROFILES",
        "DESCRIBE m",
    ],
    ids=lambda text: text.encode("ascii", "backslashreplace").decode(),
)
def test_statements_name_such_files_columns_and_labels(statement: str, session: Session, folder: Path) -> None:
    for format in ("table", "json", "csv"):
        from kryptondb.prompt.output import output_to

        result = session.sql(statement)
        with output_to(str(folder / "out.txt")) as output:
            output.write(result, format)
        assert BYTE not in (folder / "out.txt").read_text(encoding="utf-8")
    if statement.startswith("SELECT"):
        table = session.sql(statement).arrow()
        assert table.num_rows
        kept = json.loads(table.schema.metadata[b"kryptondb.plan"])
        assert BYTE in json.dumps(kept, ensure_ascii=False) or "'s'" in statement  # the plan can be run again


@pytest.mark.parametrize(
    "statement",
    [
        f'DESCRIBE "m{BYTE}"',
        f'DROP MODEL "m{BYTE}"',
        f"SELECT HEATMAP FROM occlude(\"m{BYTE}\", 's')",
        f"SELECT HEATMAP FROM occlude(m{BYTE}, 's')",
        f"SELECT \"y{BYTE}\" FROM occlude(m, 's')",
        f"SELECT y FROM occlude(m, 's', class => 'x{BYTE}')",
        f"SELECT y FROM occlude(m, 's', fill => '{BYTE}')",
        f"SELECT y FROM occlude(m, 's') USING operator => '{BYTE}'",
        f"SELECT y FROM occlude(m, 'missing{BYTE}.png')",
        f"SELECT y FROM occlude(m, 'sample:{BYTE}')",
        f"SELECT y FROM occlude(m, parquet('missing{BYTE}.parquet'))",
        f"CREATE MODEL z FROM 'missing{BYTE}.onnx'",
        f"CREATE MODEL z FROM torchvision('resnet{BYTE}')",
        f"SET device = '{BYTE}'",
        f"SHOW {BYTE}",
    ],
    ids=lambda text: text.encode("ascii", "backslashreplace").decode(),
)
def test_an_error_about_such_a_name_can_be_printed(statement: str, session: Session, folder: Path) -> None:
    with pytest.raises(kryptondb.Error) as raised:
        session.sql(statement).arrow()
    str(raised.value).encode()
    raised.value.message.encode()


@pytest.mark.parametrize("character", [BYTE, "\ud800"])
def test_a_model_and_its_labels_may_have_such_names(character: str, tmp_path: Path) -> None:
    shown = "\\xff" if character == BYTE else "\\ud800"
    with kryptondb.connect(tmp_path / "a.krypton") as other:
        create = "FROM torchvision('squeezenet1_1') WITH (weights => 'random', size => 64, classes => 2"
        other.sql(f"CREATE MODEL \"z{character}\" {create}, labels => ('a', 'b{character}'))")
        assert other.sql("SHOW MODELS").arrow()["name"].to_pylist() == [f"z{shown}"]
        assert other.database.models.get(f"z{shown}").labels == ("a", f"b{shown}")
        assert other.sql(f'DESCRIBE "z{character}"').arrow().num_rows


@pytest.mark.slow
def test_the_command_line_takes_the_bytes_of_its_arguments(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    create = "CREATE MODEL m FROM torchvision('squeezenet1_1') WITH (weights => 'random', size => 64)"
    query = f"SELECT image FROM occlude(m, 's/b{BYTE}.png', patch => 32, stride => 32) LIMIT 1"
    assert main(["-c", create, "--format", "csv", "-c", query]) == 0
    assert capfd.readouterr().out.endswith("image\ns/b\\xff.png\n")
    missing = query.replace("'s/b", "'t/b")
    assert main(["-c", create, "-c", missing]) == 1
    assert "t/b\\xff.png: no such file" in capfd.readouterr().err


def test_overlays_and_reports_show_each_picture_under_its_own_map(session: Session, folder: Path) -> None:
    query = f"SELECT HEATMAP FROM occlude(m, 's', {GRID})"
    session.sql(f"COPY ({query}) TO 'maps/' (FORMAT png, title false, colorbar false, opacity 0)")
    drawn = sorted((folder / "maps").iterdir())
    assert [path.name for path in drawn] == ["b-0.png", "b-xfe-0.png", "b-xff-0-2.png", "b-xff-0.png"]
    shades = [int(np.asarray(Image.open(path).convert("L"))[0, 0]) for path in drawn]
    assert shades[0] > max(shades[1:]) and len(set(shades)) == 4  # the question mark's is the brightest picture
    session.sql(f"COPY ({query} ORDER BY image DESC) TO 'page.html'")
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("b\\xff.png", "b\\xfe.png", "b?.png"))


def test_a_folder_of_rows_resumes_with_pictures_whose_names_look_alike(session: Session, folder: Path) -> None:
    hidden = folder / "s" / f"b{BYTE}.png"
    data = hidden.read_bytes()
    hidden.unlink()
    copy = f"COPY (SELECT * FROM occlude(m, 's', {GRID})) TO 'rows/'"
    assert ": 3 new" in str(session.sql(copy).message)
    hidden.write_bytes(data)
    (folder / "s" / "b\\xff.png").unlink()
    paint(folder / "s" / "c.png", 7)
    assert ": 1 new" in str(session.sql(copy).message)
    assert "2 already done" not in str(session.sql(copy).message)


def same_names(kind: str, folder: Path) -> Any:
    """Two pictures, of the levels 10 and 200, that are called alike."""
    if kind == "a sample and a file":
        paint("cat", 10)
        return ["cat", "sample:cat"]
    if kind == "an array and a file":
        paint("image[1]", 10)
        return ["image[1]", np.full((16, 16, 3), 200, np.uint8)]
    paint("a.png", 10)
    first, second = Image.open("a.png"), Image.open("a.png")
    second.load()
    second.paste((200, 200, 200), (0, 0, 16, 16))
    return [first, second]


@pytest.mark.parametrize("kind", ["a sample and a file", "an array and a file", "two images from one file"])
def test_pictures_that_would_be_called_alike_are_numbered(kind: str, session: Session, folder: Path) -> None:
    spec = same_names(kind, folder)
    query = f"SELECT image, max(base) AS base FROM occlude(m, ?, {GRID}, score => 'output', class => 0) GROUP BY image"
    rows = session.sql(query, [spec]).arrow().to_pylist()
    assert [row["image"] for row in rows] == [rows[0]["image"], rows[0]["image"] + " (2)"]
    assert rows[0]["base"] < rows[1]["base"]


def test_rows_of_a_table_that_name_one_file_are_one_picture_and_others_are_not(folder: Path) -> None:
    pq.write_table(pa.table({"image": ["s/b?.png", "s/b?.png", "./s/b?.png"]}), "a.parquet")
    assert [source.name for source in find_images("a.parquet")] == ["s/b?.png", "s/b?.png", "s/b?.png"]
    addresses = ["memory://one@host/a.png", "memory://two@host/a.png", "memory://one@host/a.png"]
    names = [source.name for source in find_images(addresses)]
    assert names == ["memory://host/a.png", "memory://host/a.png (2)", "memory://host/a.png"]


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "漢" * 83 + ".png", "é" * 125 + ".png"], ids=["x", "漢", "é"])
def test_names_of_255_bytes_are_read_and_written(name: str, session: Session, folder: Path) -> None:
    assert len(os.fsencode(name)) > 250
    paint(name)
    for target in ("maps/", name.replace(".png", ".csv"), name.replace(".png", ".htm")):
        what = "*" if target.endswith(".csv") else "HEATMAP"
        form = " (FORMAT html)" if target.endswith(".htm") else ""
        session.sql(f"COPY (SELECT {what} FROM occlude(m, '{name}', {GRID})) TO '{target}'{form}")
    assert len(list((folder / "maps").iterdir())) == 1
    assert (folder / name.replace(".png", ".csv")).stat().st_size
    assert not list(folder.glob(".*partial"))


def test_an_image_of_pil_may_have_been_opened_by_bytes(folder: Path) -> None:
    with open(os.fsencode(folder) + b"/s/b\xff.png", "rb") as stream:  # noqa: PTH123
        image = Image.open(io.BytesIO(stream.read()))
    image.filename = b"s/b\xff.png"  # type: ignore[attr-defined]
    assert [source.name for source in find_images([image])] == ["s/b\\xff.png"]
