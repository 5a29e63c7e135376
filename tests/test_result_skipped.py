"""Images that cannot be read: one warning for a result, NaN maps where they are asked for, and names for each map."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kryptondb
from tests.networks import small_network

QUERY = "SELECT HEATMAP FROM occlude(m, ?, patch => 8, stride => 8{})"


@pytest.fixture
def db() -> Iterator[kryptondb.Session]:
    with kryptondb.connect() as session:
        session.register("m", small_network(), size=16)
        yield session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """b and d of a to e are no pictures."""
    random = np.random.default_rng(0)
    for name in "ace":
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    for name in "bd":
        (tmp_path / f"{name}.png").write_text("no picture")
    return tmp_path


@pytest.mark.parametrize("read", ["arrow", "df", "heatmaps", "batches"])
def test_one_warning_names_the_images_that_were_skipped(db: kryptondb.Session, folder: Path, read: str) -> None:
    result = db.sql(QUERY.format(", class => 0"), [str(folder)])
    with pytest.warns(kryptondb.SkippedImages, match=r"^2 images skipped: .*b\.png, .*d\.png") as warned:
        for _ in list(result.batches()) if read == "batches" else [getattr(result, read)()]:
            pass
    assert len(warned) == 1 and warned[0].filename == __file__
    message = warned[0].message
    assert isinstance(message, kryptondb.SkippedImages)
    assert [Path(image).name for image in message.images] == ["b.png", "d.png"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result.arrow(), result.heatmaps(), result.df(), result.names, result.errors


def test_many_names_are_cut_in_the_text_and_whole_in_the_warning() -> None:
    warning = kryptondb.SkippedImages(f"{number}.png" for number in range(1000))
    assert "19.png and 980 more" in str(warning) and len(warning.images) == 1000
    assert "\n" not in str(kryptondb.SkippedImages(["a\nb"]))


@pytest.mark.filterwarnings("ignore::kryptondb.SkippedImages")
class TestMaps:
    @pytest.mark.parametrize(("classes", "count"), [("TOP 2", 2), ("(2, 0)", 2), ("1", 1), ("TOP 3", 3)])
    def test_are_nan_for_skipped_images_as_many_as_classes(
        self, db: kryptondb.Session, folder: Path, classes: str, count: int
    ) -> None:
        result = db.sql(QUERY.format(f", class => {classes}"), [str(folder)])
        good = result.heatmaps()
        assert len(good) == 3 * count == len(result.names)
        np.testing.assert_array_equal(result.heatmaps(skipped="drop"), good)
        all_maps = result.heatmaps(skipped="nan").reshape(5, count, *good.shape[1:])
        assert np.isnan(all_maps[[1, 3]]).all()
        np.testing.assert_array_equal(all_maps[[0, 2, 4]].reshape(good.shape), good)

    def test_are_one_where_all_classes_are_asked_for(self, db: kryptondb.Session, folder: Path) -> None:
        maps = db.sql(QUERY.format(", class => ALL"), [str(folder)]).heatmaps(skipped="nan")
        assert np.isnan(maps).all(axis=(1, 2)).tolist() == [False] * 3 + [True] + [False] * 3 + [True] + [False] * 3

    def test_stand_behind_the_others_where_rows_are_sorted(self, db: kryptondb.Session, folder: Path) -> None:
        query = QUERY.format(", class => 0") + " ORDER BY image DESC"
        result = db.sql(query, [str(folder)])
        assert np.isnan(result.heatmaps(skipped="nan")).all(axis=(1, 2)).tolist() == [False] * 3 + [True] * 2
        assert [Path(image).name for image, _ in result.names] == ["e.png", "c.png", "a.png"]

    def test_are_of_each_that_cannot_be_read_where_none_can(self, db: kryptondb.Session, folder: Path) -> None:
        result = db.sql(QUERY.format(", class => (0, 1)"), [[str(folder / "b.png"), str(folder / "d.png")]])
        assert len(result.heatmaps()) == 0 and result.names == []
        assert np.isnan(result.heatmaps(skipped="nan")).all() and len(result.heatmaps(skipped="nan")) == 4

    def test_are_named_by_image_and_class_in_their_order(self, db: kryptondb.Session, folder: Path) -> None:
        result = db.sql(QUERY.format(", class => (2, 0)"), [str(folder)])
        table = result.arrow()
        assert result.names == list(zip(table["image"].to_pylist(), table["class"].to_pylist(), strict=True))
        assert [(Path(image).name, number) for image, number in result.names][:2] in (
            [("a.png", 2), ("a.png", 0)],
            [("a.png", 0), ("a.png", 2)],
        )

    def test_take_no_other_way(self, db: kryptondb.Session, folder: Path) -> None:
        result = db.sql(QUERY.format(""), [str(folder)])
        with pytest.raises(kryptondb.BindError, match="skipped cannot be 'zero'"):
            result.heatmaps(skipped="zero")
        with pytest.raises(kryptondb.BindError, match="no column class"):
            _ = db.sql("SELECT image FROM occlude(m, ?, patch => 8) LIMIT 1", [str(folder / "a.png")]).names


@pytest.mark.slow
def test_the_command_line_reports_skipped_images_once(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    database = tmp_path_factory.mktemp("db") / "d.krypton"
    statements = (
        "CREATE MODEL m FROM torchvision('squeezenet1_1') WITH (weights => 'random', size => 32, classes => 2);"
        f"SELECT HEATMAP FROM occlude(m, '{folder}', patch => 16, stride => 16) USING operator => 'full'"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-m", "kryptondb", str(database), "--format", "json", "-c", statements],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.count("b.png") == 1 and "SkippedImages" not in ran.stderr


@pytest.mark.parametrize(
    "warning", [kryptondb.SkippedImages(["a.png", "b.png"]), kryptondb.NondeterministicModel("net", "it draws noise")]
)
def test_a_warning_is_the_same_when_it_is_made_again_from_its_arguments(warning: Warning) -> None:
    again = pickle.loads(pickle.dumps(warning))
    assert type(again) is type(warning)
    assert str(again) == str(warning) == str(type(warning)(*warning.args))
    assert "2 images skipped: a.png, b.png" in str(again) or 'model "net"' in str(again)
