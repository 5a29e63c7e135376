"""What no answer is written over."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from kryptondb.errors import ExecutionError
from kryptondb.overwriting import refuse_database, refuse_sources


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a.png and b.png."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


def refused(path: Path | str, spec: object) -> bool:
    try:
        refuse_sources(str(path), spec)
    except ExecutionError as error:
        assert error.message == f"cannot write {path}: the query reads its pictures from it"
        assert error.hint == "Name another file."
        return True
    return False


def test_a_picture_of_the_query_is_known_however_it_is_named(pictures: Path) -> None:
    picture = pictures / "a.png"
    for spec in (str(picture), picture, [str(pictures / "b.png"), picture], str(pictures), f"{pictures}/*.png"):
        assert refused(picture, spec)
    assert refused(picture, [f"{picture}#frame=1"])
    with Image.open(picture) as opened:
        assert refused(picture, [opened])


def test_other_files_may_be_written(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "map.png").write_bytes(b"old")
    others: tuple[object, ...] = (str(pictures / "b.png"), [], "sample:cat", "https://example.org/a.png", "no/such.png")
    for spec in others:
        assert not refused(pictures / "a.png", spec)
    for name in ("map.png", "new.png", "in"):
        assert not refused(tmp_path / name, str(pictures))


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege on Windows")
def test_a_link_is_the_file_that_it_leads_to(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "soft.csv").symlink_to(pictures / "a.png")
    (tmp_path / "hard.csv").hardlink_to(pictures / "a.png")
    for name in ("soft.csv", "hard.csv"):
        assert refused(tmp_path / name, str(pictures / "a.png"))
    assert refused(tmp_path / "soft.csv", str(pictures))


def test_a_table_of_pictures_and_what_it_names_are_read(pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "scans.parquet"
    pa.parquet.write_table(pa.table({"image": [str(pictures / "a.png")]}), table)
    assert refused(table, str(table)) and refused(table, f"{table}#column=image")
    assert refused(pictures / "a.png", str(table))
    assert not refused(pictures / "b.png", str(table))


def test_a_folder_is_not_walked_through_for_a_file_that_is_no_picture(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kryptondb.images.sources.walk", lambda *_: pytest.fail("walked"))
    (tmp_path / "cells.csv").write_text("old")
    assert not refused(tmp_path / "cells.csv", str(pictures))


def test_the_open_database_and_what_lies_beside_it_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    database = tmp_path / "clinic.krypton"
    database.write_bytes(b"")
    for path in ("clinic.krypton", "./clinic.krypton", str(database)):
        with pytest.raises(ExecutionError, match="it is the open database\nName another file"):
            refuse_database(path, database)
    for ending in ("-wal", "-shm", "-journal"):
        with pytest.raises(ExecutionError, match="it belongs to the open database"):
            refuse_database(f"clinic.krypton{ending}", database)
    for path, opened in (("clinic.krypton.csv", database), ("clinic.krypton", None)):
        refuse_database(path, opened)
