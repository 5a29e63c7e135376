"""The options of CREATE MODEL, and class labels."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest

from kryptondb.catalog import options
from kryptondb.catalog.options import (
    ModelOptions,
    describe_preprocess,
    imagenet_labels,
    read_labels,
    resolve_labels,
    with_options,
)
from kryptondb.errors import BindError, ModelError
from kryptondb.images.preprocess import Preprocess
from kryptondb.options.tables import MODEL

DEFAULT = Preprocess(224, 224, mean=(0.5, 0.4, 0.3), std=(0.2,), resize=256, crop=True)


def test_a_model_has_the_options_of_the_rows_and_no_others() -> None:
    assert {field.name for field in dataclasses.fields(ModelOptions)} == set(MODEL)


def test_values_from_sql_become_plain_values() -> None:
    options = ModelOptions.parse(
        {"CLASSES": 4.0, "size": (64, 48.0), "mean": 0.5, "std": (1, 2, 3), "scale": 255, "channels": "l", "crop": True}
    )
    assert options.given() == {
        "classes": 4,
        "size": (64, 48),
        "mean": (0.5,),
        "std": (1.0, 2.0, 3.0),
        "scale": 255.0,
        "channels": "L",
        "crop": True,
    }


def test_options_survive_the_catalogs_json() -> None:
    options = ModelOptions.parse({"labels": ("a", "b", 3), "size": 32, "resize": (40, 50), "weights": "random"})
    assert ModelOptions.parse(json.loads(json.dumps(options.given()))) == options
    assert options.labels == ("a", "b", "3")


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ModelOptions.parse({"weights": "w/net.pth", "labels": Path("labels.txt")})
    assert options.weights == str(tmp_path / "w" / "net.pth")
    assert options.labels == str(tmp_path / "labels.txt")
    assert ModelOptions.parse({"weights": "Random"}).weights == "random"
    assert ModelOptions.parse({"weights": "~net.pth"}).weights == str(tmp_path / "~net.pth")
    with pytest.raises(BindError, match=r"'a\\x00' is not the name of a file: a path cannot hold a NUL"):
        ModelOptions.parse({"labels": "a\0"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", 0),
        ("classes", 10**9),
        ("classes", True),
        ("classes", "ten"),
        ("size", 10**6),
        ("size", (1, 2, 3)),
        ("size", (8, "x")),
        ("size", -4),
        ("mean", "grey"),
        ("mean", ()),
        ("mean", float("nan")),
        ("std", 0),
        ("std", (1, 1, -1)),
        ("scale", 0),
        ("scale", float("inf")),
        ("channels", "CMYK"),
        ("labels", ()),
        ("labels", (None,)),
        ("labels", 5),
        ("weights", ""),
        ("weights", 7),
        ("resize", 0),
        ("crop", "center"),
    ],
)
def test_other_values_are_refused_by_name_with_what_it_takes(name: str, value: object) -> None:
    with pytest.raises(BindError, match=f"^{name} must be .*, not "):
        ModelOptions.parse({name: value})


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(BindError, match='no model option named "lables"\nDid you mean "labels"'):
        ModelOptions.parse({"lables": "a.txt"})
    with pytest.raises(BindError, match=", ".join(MODEL)):
        ModelOptions.parse({"zzz": 1})


def test_an_option_that_a_source_does_not_take_is_refused() -> None:
    with pytest.raises(BindError, match='option "weights" does not apply to an exported program'):
        ModelOptions.parse({"weights": "random"}).only("an exported program", "labels")


def test_without_options_the_default_preprocessing_stays() -> None:
    assert with_options(DEFAULT, ModelOptions()) == DEFAULT


def test_a_new_size_keeps_the_proportion_of_resize_to_crop() -> None:
    changed = with_options(DEFAULT, ModelOptions.parse({"size": 112}))
    assert (changed.height, changed.width, changed.resize, changed.crop) == (112, 112, 128, True)


def test_grey_input_takes_the_average_of_the_colours_statistics() -> None:
    changed = with_options(DEFAULT, ModelOptions.parse({"channels": "L"}))
    assert changed.mean == (pytest.approx(0.4),) and changed.std == (pytest.approx(0.2),)


def test_crop_false_shows_the_whole_picture() -> None:
    changed = with_options(DEFAULT, ModelOptions.parse({"crop": False}))
    assert (changed.resize, changed.crop) == (None, False)


def test_resize_and_crop_may_be_said_as_in_torchvision() -> None:
    changed = with_options(replace(DEFAULT, resize=None, crop=False), ModelOptions.parse({"resize": 100, "crop": 90}))
    assert (changed.height, changed.width, changed.resize, changed.crop) == (90, 90, 100, True)
    whole = with_options(DEFAULT, ModelOptions.parse({"size": (30, 40), "resize": (30, 40)}))
    assert (whole.resize, whole.crop) == ((30, 40), False)
    with pytest.raises(BindError, match="crop is not the size"):
        ModelOptions.parse({"size": 80, "crop": 90})


def test_options_that_contradict_each_other_are_named() -> None:
    with pytest.raises(BindError, match="the options mean, channels do not go together: mean has 3"):
        with_options(DEFAULT, ModelOptions.parse({"channels": "L", "mean": (1, 2, 3)}))
    with pytest.raises(BindError, match="the options resize, crop do not go together"):
        with_options(DEFAULT, ModelOptions.parse({"resize": 300, "crop": False}))


def test_preprocessing_is_described_in_one_line() -> None:
    assert describe_preprocess(DEFAULT) == (
        "resized to short side 256, center 224 x 224, bilinear, scale 1, mean 0.5 0.4 0.3, std 0.2 0.2 0.2"
    )
    assert describe_preprocess(Preprocess(8, 9)).startswith("whole picture resized to 8 x 9, bilinear")


def test_a_labels_file_has_one_label_a_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffno finding\r\n pneumonia \nödem\n\n".encode())
    assert read_labels(str(file)) == ("no finding", "pneumonia", "ödem")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "holds no labels"), (b"a\n\nb", "empty line 2"), (b"\xff\xfe", "not UTF-8"), (b"a\0b", "holds no labels")],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_labels(str(file))


def test_a_labels_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nolabels\.txt does not exist"):
        read_labels(str(tmp_path / "nolabels.txt"))


def test_a_huge_labels_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    with file.open("wb") as out:
        out.truncate(1 << 40)  # sparse: a terabyte that takes no room
    with pytest.raises(ModelError, match="larger than 8 MiB"):
        read_labels(str(file))


def test_too_many_labels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "MAX_CLASSES", 2)
    file = tmp_path / "labels.txt"
    file.write_text("a\nb\nc")
    with pytest.raises(ModelError, match="3 labels, more than 2"):
        read_labels(str(file))


def test_labels_must_be_as_many_as_the_classes(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("a\nb")
    assert resolve_labels(str(file), 2, None) == ("a", "b")
    with pytest.raises(ModelError, match=r"labels\.txt has 2 labels, but the model has 3 classes"):
        resolve_labels(str(file), 3, None)
    with pytest.raises(ModelError, match="labels => has 1 labels"):
        resolve_labels(("a",), 3, None)


def test_without_labels_the_sources_names_or_numbers_are_used() -> None:
    assert resolve_labels(None, 2, ("x", "y")) == ("x", "y")
    assert resolve_labels(None, 3, ("x", "y")) == ("class 0", "class 1", "class 2")


def test_imagenet_has_a_thousand_names() -> None:
    names = imagenet_labels()
    assert len(names) == 1000 and names[285] == "Egyptian cat" and names[0] == "tench"
