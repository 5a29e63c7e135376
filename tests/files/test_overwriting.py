"""What no answer is written over."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from kryptondb.errors import ExecutionError
from kryptondb.files.atomic import target_of
from kryptondb.files.overwriting import refuse_database, refuse_files, refuse_sources
from kryptondb.images.sources import reads


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
        refuse_sources(str(path), partial(reads, spec))
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


def test_a_path_through_a_folder_that_is_not_there_is_where_it_would_be_written(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    assert target_of("missing/../a.png") == pictures.resolve() / "a.png"
    for path in ("missing/../a.png", "./new/./../a.png", "../in/a.png", f"{pictures}/no/such/../../a.png"):
        assert refused(path, "a.png") and refused(path, str(pictures))


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege on Windows")
def test_what_links_in_a_folder_lead_to_is_read(pictures: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (pictures / "a.png").rename(store / "blob.data")
    (pictures / "deep").mkdir()
    (pictures / "deep" / "a.png").symlink_to(store / "blob.data")
    (tmp_path / "cells.csv").hardlink_to(pictures / "b.png")
    assert refused(store / "blob.data", str(pictures)) and refused(tmp_path / "cells.csv", str(pictures))
    (tmp_path / "again").symlink_to(pictures)
    assert refused(tmp_path / "again" / "b.png", str(pictures / "b.png"))


def test_a_mapped_array_is_read_from_its_file(tmp_path: Path) -> None:
    array = np.memmap(tmp_path / "scan.raw", np.uint8, "w+", shape=(4, 4))
    assert refused(tmp_path / "scan.raw", array) and refused(tmp_path / "scan.raw", [array[1:]])


def test_the_other_half_of_a_picture_in_two_files_is_read_too(tmp_path: Path) -> None:
    for name in ("brain.hdr", "brain.img"):
        (tmp_path / name).write_bytes(b"")
    assert refused(tmp_path / "brain.img", str(tmp_path / "brain.hdr"))
    assert refused(tmp_path / "brain.hdr", str(tmp_path / "brain.img"))


def test_names_that_differ_in_case_alone_are_one_where_neither_is_there(tmp_path: Path) -> None:
    database = tmp_path / "clinic.krypton"
    database.write_bytes(b"")
    with pytest.raises(ExecutionError, match="it belongs to the open database"):
        refuse_database(str(tmp_path / "CLINIC.krypton-WAL"), database)


def test_files_and_folders_that_are_kept_say_why(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat")
    (tmp_path / "cache").mkdir()
    kept = {str(tmp_path / "labels.txt"): "it is a list", str(tmp_path / "cache"): "it is a cache", "no/such": "never"}
    for path, why in (
        ("labels.txt", "list"),
        ("cache", "cache"),
        ("cache/new.csv", "cache"),
        ("x/../labels.txt", "list"),
    ):
        with pytest.raises(ExecutionError, match=f"it is a {why}\nName another file"):
            refuse_files(str(tmp_path / path), kept)
    refuse_files(str(tmp_path / "LABELS.txt"), kept)
