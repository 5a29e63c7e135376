"""bind_source: the model, the images and the options of the table function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kryptondb.errors import BindError
from kryptondb.optimizer.experiment import Images
from kryptondb.optimizer.physical import from_json, to_json
from tests.optimizer.conftest import Database, FakeFull, FakeIncremental, FakeThresholded


def test_defaults_are_those_of_the_language(database: Database) -> None:
    occlude = database.plan("SELECT * FROM occlude(imagenet, 'a.png')").occlude
    assert occlude is not None
    assert (
        occlude.experiment.patch,
        occlude.experiment.stride,
        occlude.experiment.fill,
        str(occlude.experiment.classes),
        occlude.experiment.score,
    ) == (
        (16, 16),
        (4, 4),
        "gray",
        "TOP 1",
        "probability",
    )
    assert (occlude.experiment.channels, occlude.experiment.height, occlude.experiment.width) == (3, 64, 48)


def test_a_model_is_found_in_any_case_and_keeps_its_own_name(database: Database) -> None:
    occlude = database.plan("SELECT * FROM occlude(CHEST, 'a.png')").occlude
    assert occlude is not None and occlude.experiment.model == "Chest"


def test_an_unknown_model_is_underlined_and_the_nearest_named(database: Database) -> None:
    assert database.error("SELECT HEATMAP FROM occlude(chset, 'scan.png')") == (
        'line 1, column 29: no model named "chset"\n'
        "    SELECT HEATMAP FROM occlude(chset, 'scan.png')\n"
        "                                ^^^^^\n"
        'Did you mean "chest"? SHOW MODELS lists what this database knows.'
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("pach => 16", 'Did you mean "patch"?'),
        ("patch => 'a'", "patch must be a whole number of pixels"),
        ("patch => 0", "patch must be a whole number of pixels, at least 1"),
        ("patch => 1.5", "not 1.5"),
        ("patch => (1, 2, 3)", "a pair (height, width)"),
        ("patch => TRUE", "not TRUE"),
        ("patch => 49", "a patch of 49 x 49 does not fit the 64 x 48 input of imagenet"),
        ("patch => (65, 8)", "a patch of 65 x 8 does not fit"),
        ("stride => 0", "stride must be a whole number of pixels, at least 1"),
        ("stride => -4", "not -4"),
        ("stride => 9223372036854775807", "a stride of 9223372036854775807"),
        ("patch => ALL", "not ALL"),
        ("fill => TOP 3", "not TOP 3"),
        ("score => 'logits'", 'Did you mean "logit"?'),
        ("score => probability", "Did you mean 'probability'? Quote it."),
        ("fill => 'grat'", "gray"),
        ("fill => 2", "a number from 0 to 1, or a color (r, g, b)"),
        ("fill => (0.1, 0.2)", "not (0.1, 0.2)"),
        ("fill => gray", "Did you mean 'gray'? Quote it."),
    ],
)
def test_a_wrong_option_is_explained_at_its_place(database: Database, option: str, message: str) -> None:
    error = database.error(f"SELECT HEATMAP FROM occlude(imagenet, 'a.png', {option})")
    assert message in error
    assert error.startswith("line 1, column")


@pytest.mark.parametrize(
    ("fill", "canonical"),
    [("'GREY'", "gray"), ("0.25", "0.25"), ("(1, 0, 0.5)", "(1, 0, 0.5)"), ("'patch_mean'", "patch_mean")],
)
def test_a_fill_is_kept_as_canonical_text(database: Database, fill: str, canonical: str) -> None:
    occlude = database.plan(f"SELECT * FROM occlude(imagenet, 'a.png', fill => {fill})").occlude
    assert occlude is not None and occlude.experiment.fill == canonical


def test_a_pair_is_height_and_width(database: Database) -> None:
    occlude = database.plan("SELECT * FROM occlude(imagenet, 'a.png', patch => (8, 16), stride => (2, 8))").occlude
    assert occlude is not None
    assert (occlude.experiment.rows, occlude.experiment.cols, occlude.experiment.positions) == (29, 5, 145)


def test_images_may_be_a_path_or_a_list_of_paths(database: Database) -> None:
    def images(argument: str, values: object = ()) -> Images:
        occlude = database.plan(f"SELECT * FROM occlude(imagenet, {argument})", values).occlude
        assert occlude is not None
        return occlude.experiment.images

    assert images("'a.png'") == Images("a.png", count=1)
    assert images("'scans/**/*.png'") == Images("scans/**/*.png")
    assert images("('a.png', 'b.png')") == Images(("a.png", "b.png"), count=2)
    assert images("?", [Path("a.png")]) == Images("a.png", count=1)
    assert images("?", [["a.png", Path("b.png")]]) == Images(("a.png", "b.png"), count=2)


def test_a_picture_stays_in_the_bindings(database: Database) -> None:
    picture = np.zeros((8, 8), dtype=np.uint8)
    for text, values, expected in [
        ("?", [picture], Images(None, "0", 1)),
        ("$scan", {"scan": picture}, Images(None, "scan", 1)),
        ("?", [[picture, "b.png"]], Images(None, "0", 2)),
    ]:
        plan = database.plan(f"SELECT HEATMAP FROM occlude(imagenet, {text})", values)
        assert plan.occlude is not None and plan.occlude.experiment.images == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("occlude(imagenet, a)", "Did you mean 'a'? Quote it."),
        ("occlude(imagenet, 3)", "images must be a path in quotes"),
        ("occlude(imagenet, ())", "images must be a path in quotes"),
        ("occlude(3, 'a.png')", "the first argument must be the name of a model, not 3"),
        ("redundancy(imagenet, fill => 'gray')", 'no redundancy option named "fill"'),
    ],
)
def test_wrong_arguments_are_explained(database: Database, source: str, message: str) -> None:
    assert message in database.error(f"SELECT * FROM {source}")


@pytest.mark.parametrize(
    ("images", "spec"),
    [
        ("parquet('a.pq', column => 'scan')", "a.pq#column=scan"),
        ("arrow('a.arrow')", "a.arrow#column=image"),
        ("images => parquet('a.pq', column => 'my = #1')", "a.pq#column=my%20%3D%20%231"),
        ("('b.png', parquet('a.pq'))", ("b.png", "a.pq#column=image")),
        ("'study.dcm#frame=3'", "study.dcm#frame=3"),
    ],
)
def test_a_table_is_its_path_and_column(images: str, spec: str | tuple[str, ...], database: Database) -> None:
    occlude = database.plan(f"SELECT HEATMAP FROM occlude(imagenet, {images})").occlude
    assert occlude is not None and occlude.experiment.images.spec == spec


def test_a_tables_path_and_column_may_be_parameters(database: Database) -> None:
    query = "SELECT HEATMAP FROM occlude(imagenet, parquet($path, column => $column))"
    occlude = database.plan(query, {"path": "a.pq", "column": "scan"}).occlude
    assert occlude is not None and occlude.experiment.images.spec == "a.pq#column=scan"
    with pytest.raises(BindError, match="column must be the name of a column in quotes, not 3"):
        database.plan(query, {"path": "a.pq", "column": 3})
    with pytest.raises(BindError, match='no table option named "colum"'):
        database.plan("SELECT HEATMAP FROM occlude(imagenet, parquet('a.pq', colum => 'scan'))")


def test_a_window_belongs_to_the_images_and_shows_in_the_plan(database: Database) -> None:
    plan = database.plan("SELECT HEATMAP FROM occlude(imagenet, 'ct.dcm', window => (-600, 1500))")
    assert plan.occlude is not None
    assert plan.occlude.experiment.images == Images("ct.dcm", count=1, window=(-600.0, 1500.0))
    assert "Images  ct.dcm  window -600, 1500" in str(plan.root)
    assert from_json(to_json(plan), (FakeFull, FakeIncremental, FakeThresholded)) == plan


@pytest.mark.parametrize("window", ["40", "(40)", "(40, 0)", "(40, -1)", "('a', 1)", "(1, 2, 3)", "ALL"])
def test_a_window_is_a_center_and_a_width(window: str, database: Database) -> None:
    message = database.error(f"SELECT HEATMAP FROM occlude(imagenet, 'ct.dcm', window => {window})")
    assert "window must be (center, width) in the units of the image files, such as (40, 400)" in message
