"""A folder is counted as far as that is found out at once."""

from __future__ import annotations

from pathlib import Path

import pytest

import kryptondb
from kryptondb.images import sources
from kryptondb.images.sources import ImageCount, count_images
from tests.networks import small_network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve names of pictures in two folders, and what is none."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for index in range(9):
        (tmp_path / "in" / f"{index}.png").touch()
    for name in ("a.png", "b.jpg", "c.tif", "notes.txt", ".hidden.png"):
        (tmp_path / "in" / "deep" / name).touch()
    return tmp_path / "in"


def test_folders_globs_and_lists_are_counted_without_opening_a_picture(folder: Path) -> None:
    assert count_images(str(folder)) == ImageCount(12, complete=True)
    assert count_images(folder / "*.png") == ImageCount(9, complete=True)
    assert count_images(f"{folder}/**/*.png") == ImageCount(10, complete=True)
    assert count_images([str(folder), "sample:cat", folder / "1.png"]) == ImageCount(14, complete=True)
    assert count_images(str(folder), lambda names: sum("deep" in name for name in names)) == ImageCount(3, True)


def test_counting_ends_at_a_number_of_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST", 12)
    assert count_images(str(folder)) == ImageCount(12, complete=True)
    monkeypatch.setattr(sources, "MOST", 11)
    assert count_images(str(folder)) == ImageCount(11, complete=False)
    monkeypatch.setattr(sources, "_AT_ONCE", 2)
    assert count_images(str(folder), lambda names: sum("deep" in name for name in names)) is not None


def test_counting_ends_after_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SECONDS", -1.0)
    assert count_images(str(folder)) == ImageCount(0, complete=False)


def test_what_cannot_be_found_or_is_elsewhere_is_not_counted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert count_images(str(tmp_path / "no such folder")) is None
    assert count_images(str(tmp_path / "empty" / "*.png")) is None
    assert count_images("s3://bucket/*.png") is None
    assert count_images([str(folder), "s3://bucket/*.png"]) is None


def test_explain_says_how_many_images_a_folder_holds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kryptondb.connect() as db:
        db.register("net", small_network(), size=32)

        def images(where: str = "") -> str:
            query = f"EXPLAIN SELECT HEATMAP FROM occlude(net, '{folder}', patch => 8) {where}"
            lines = str(db.sql(query).arrow()["plan"][0].as_py()).split("\n")
            return next(line for line in lines if line.startswith("images"))

        assert images().startswith("images      12, about ")
        assert images("WHERE image LIKE '%.png'").startswith("images      10, about ")
        assert images("WHERE image LIKE '%nothing%'").startswith("images      0, about ")
        monkeypatch.setattr(sources, "MOST", 5)
        assert images().startswith("images      at least 5, about ") and "or more in all" in images()
        document = db.sql(f"EXPLAIN FORMAT json SELECT HEATMAP FROM occlude(net, '{folder}', patch => 8)").arrow()
        assert '"complete": false' in document["plan"][0].as_py()
