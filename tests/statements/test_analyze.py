"""ANALYZE: measures what recipes are worth on sample images, goes on where it stopped, and says what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import kryptondb
from kryptondb.cli import main
from kryptondb.executor import calibrate
from kryptondb.executor.profiling import Profiler, RecipeMeasurement, Sample, StoredAnswer
from kryptondb.images.picture import Picture, content_hash
from kryptondb.images.sources import find_images, sampling_order
from kryptondb.optimizer import recipe as recipes
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.recipe import EXACT, Recipe, maps_beside, worthwhile
from kryptondb.statements import analyze as analysis
from tests.networks import export, small_network

RANDOM = np.random.default_rng(0)
PICTURES = [RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(12)]
ANALYZE = "ANALYZE net USING ? WITH (patch => 8, stride => 8)"
GOOD, POOR = Recipe("refined", 0.45, 0.45, step=2), Recipe("thresholded", 0.2, 0.2)


def nothing() -> StoredAnswer:
    """The exact map that nobody looks at."""
    return StoredAnswer(np.ones(3) / 3, [0], np.ones(1), np.zeros((1, 4, 4)), 0.0)


class Laboratory:
    """Measures nothing: every image takes `seconds` on a clock of its own, and recipes do as told."""

    def __init__(self) -> None:
        self.seconds = 10.0
        self.now = 0.0
        self.asked: list[tuple[str, list[Recipe]]] = []
        self.stop_after: int | None = None
        self.ssims: dict[Recipe, float] = {GOOD: 0.97, POOR: 0.3}

    def measure(
        self, _: Profiler, picture: Picture, recipes: Sequence[Recipe], progress: Callable[[int, int], None]
    ) -> Sample:
        if len(self.asked) == self.stop_after:
            raise KeyboardInterrupt
        self.asked.append((picture.name, list(recipes)))
        self.now += self.seconds
        measured = tuple(RecipeMeasurement(recipe, self.ssims[recipe], 2.0) for recipe in recipes)
        return Sample(8.0, measured, nothing())

    @property
    def images(self) -> list[str]:
        return [name for name, _ in self.asked]


@pytest.fixture
def laboratory(monkeypatch: pytest.MonkeyPatch) -> Laboratory:
    laboratory = Laboratory()
    monkeypatch.setattr(recipes, "RECIPES", (GOOD, POOR))
    monkeypatch.setattr(Profiler, "measure", lambda *arguments: laboratory.measure(*arguments))
    monkeypatch.setattr(time, "monotonic", lambda: laboratory.now)
    monkeypatch.setattr(calibrate, "measure", lambda _: Rates())
    return laboratory


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[kryptondb.Session]:
    monkeypatch.setattr(calibrate, "measure", lambda _: Rates())
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=32, labels=["a", "b", "c"])
        session.sql("SET threads = 1")
        yield session


def rows(result: kryptondb.Result) -> list[dict[str, Any]]:
    return result.arrow().to_pylist()


# What comes out


@pytest.mark.slow
def test_recipes_are_measured_and_told_beside_the_exact_map(db):
    result = db.sql(ANALYZE, [PICTURES[:3]])
    answers = rows(result)
    assert result.schema.names == [
        *("recipe", "images", "median_ssim", "worst_ssim", "bound_0.9", "seconds", "times_exact")
    ]
    assert [row["recipe"] for row in answers][0] == "exact"
    assert {row["recipe"] for row in answers[1:]} == {str(recipe) for recipe in recipes.RECIPES}
    assert all(row["images"] == 3 and row["seconds"] > 0 for row in answers)
    by_recipe = {row["recipe"]: row for row in answers}
    low, high = by_recipe["thresholded, tau 0.3"], by_recipe["thresholded, tau 0.8"]
    assert low["bound_0.9"] is None and low["worst_ssim"] <= low["median_ssim"] < high["median_ssim"] <= 1
    assert result.note is not None and result.note.startswith("net: 3 images analyzed in ")


def test_the_bound_is_kept_with_the_confidence_asked_for(db, laboratory):
    few = rows(db.sql(ANALYZE, [PICTURES]))[1]
    assert few["bound_0.9"] == few["worst_ssim"]
    strict = rows(db.sql(ANALYZE.replace("stride => 8", "stride => 8, confidence => 0.95"), [PICTURES]))[1]
    assert strict["bound_0.95"] is None


def test_the_profile_is_shown_and_dropped(db, laboratory):
    db.sql(ANALYZE, [PICTURES])
    (row,) = rows(db.sql("SHOW PROFILES"))
    assert (row["model"], row["patch"], row["stride"], row["class"], row["images"]) == (
        "net",
        "8 x 8",
        "8 x 8",
        "TOP 1",
        12,
    )
    assert row["device"] == "cpu, 1 thread" and row["exact_seconds"] == 8.0 and row["recipes"] == 2
    assert row["ssim_0.9"] == f"4.0 x: {GOOD}"
    assert (db.sql("DROP PROFILES Net").message or "") == "Net: 12 profiled images forgotten"
    assert rows(db.sql("SHOW PROFILES")) == []
    assert (db.sql("DROP PROFILES net").message or "") == "net: no profile"


def test_what_no_recipe_keeps_runs_exactly_and_too_few_images_say_how_many(db, laboratory):
    laboratory.ssims = {GOOD: 0.85, POOR: 0.3}
    db.sql(ANALYZE, [PICTURES[:9]])
    assert rows(db.sql("SHOW PROFILES"))[0]["ssim_0.8"] == "needs 10 images"
    db.sql(ANALYZE, [PICTURES])
    (row,) = rows(db.sql("SHOW PROFILES"))
    assert (row["ssim_0.8"], row["ssim_0.9"]) == (f"4.0 x: {GOOD}", "exact")


def test_each_shape_of_query_has_its_profile(db, laboratory):
    for options in ("patch => 8", "patch => 8, class => ('a', 'b')", "patch => 8, score => 'logit', fill => 'black'"):
        db.sql(f"ANALYZE net USING ? WITH ({options})", [PICTURES[:2]])
    shown = [(row["class"], row["score"], row["fill"]) for row in rows(db.sql("SHOW PROFILES"))]
    assert shown == [("TOP 1", "probability", "gray"), ("(0, 1)", "probability", "gray"), ("TOP 1", "logit", "black")]


def test_pictures_seen_through_another_window_are_other_pictures(db, laboratory):
    grey = [picture[..., 0].astype(np.int16) for picture in PICTURES[:2]]
    for window in ("100, 50", "100, 80"):
        db.sql(f"ANALYZE net USING ? WITH (patch => 8, stride => 8, window => ({window}))", [grey])
    shown = [(row["stride"], row["images"]) for row in rows(db.sql("SHOW PROFILES"))]
    assert shown == [("8 x 8, window 100, 50", 2), ("8 x 8, window 100, 80", 2)]


def test_profiles_outlive_the_session_and_the_model(tmp_path: Path, laboratory):
    export(small_network(), tmp_path / "net.pt2")
    create = f"CREATE MODEL net FROM '{tmp_path / 'net.pt2'}' WITH (size => 32)"
    with kryptondb.connect(tmp_path / "a.krypton") as session:
        session.sql(create)
        session.sql(ANALYZE, [PICTURES[:3]])
        session.sql("DROP MODEL net")
    with kryptondb.connect(tmp_path / "a.krypton") as session:
        assert rows(session.sql("SHOW PROFILES"))[0]["images"] == 3
        session.sql(create)
        assert (session.sql(ANALYZE, [PICTURES[:4]]).note or "").endswith("3 already known")
        session.sql("DROP MODEL net")
        assert "4 profiled images forgotten" in (session.sql("DROP PROFILES net").message or "")
        with pytest.raises(kryptondb.BindError, match="no model named"):
            session.sql("DROP PROFILES net")


# Which images, and when it ends


def test_images_that_are_known_are_not_measured_again(db, laboratory):
    db.sql(ANALYZE, [PICTURES[:5]])
    again = db.sql(ANALYZE, [PICTURES[3:8]])
    assert len(laboratory.asked) == 8
    assert again.note == "net: 3 images analyzed in 30 s, 2 already known"
    assert rows(again)[0]["images"] == 8


def test_an_image_is_measured_again_for_a_recipe_it_lacks(db, laboratory, monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", (GOOD,))
    db.sql(ANALYZE, [PICTURES[:2]])
    monkeypatch.setattr(recipes, "RECIPES", (GOOD, POOR))
    result = db.sql(ANALYZE, [PICTURES[:2]])
    assert len(laboratory.asked) == 4
    assert [row["images"] for row in rows(result)] == [2, 2, 2]


def test_what_recipes_made_of_cells_in_another_version_counts_for_nothing(db, laboratory, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(recipes, "RECONSTRUCTION", recipes.RECONSTRUCTION - 1)
        db.sql(ANALYZE, [PICTURES[:3]])
    assert rows(db.sql("SHOW PROFILES")) == []
    again = db.sql(ANALYZE, [PICTURES[2:5]])
    assert len(laboratory.asked) == 6 and "already known" not in (again.note or "")
    assert rows(again)[0]["images"] == rows(db.sql("SHOW PROFILES"))[0]["images"] == 3


def test_what_was_measured_before_an_interruption_is_kept(db, laboratory):
    laboratory.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        db.sql(ANALYZE, [PICTURES])
    assert rows(db.sql("SHOW PROFILES"))[0]["images"] == 3
    laboratory.stop_after = None
    db.sql(ANALYZE, [PICTURES])
    assert len(laboratory.asked) == len(set(laboratory.images)) == 12


def test_a_budget_ends_before_the_image_that_would_exceed_it(db, laboratory):
    text = ANALYZE.replace("stride => 8", "stride => 8, budget => '45 seconds'")
    result = db.sql(text, [PICTURES])
    assert len(laboratory.asked) == 4
    assert result.note == ("net: 4 images analyzed in 40 s, budget reached with 8 left; run again to continue")
    db.sql(text, [PICTURES])
    assert len(set(laboratory.images)) == 8


def test_a_profile_that_is_large_enough_grows_no_more(db, laboratory, monkeypatch):
    monkeypatch.setattr(analysis, "MOST_SAMPLES", 5)
    result = db.sql(ANALYZE, [PICTURES])
    assert len(laboratory.asked) == 5
    assert (result.note or "").endswith(", 7 skipped: a profile of 5 images is large enough")


def test_with_a_budget_guides_that_nothing_comes_of_are_left_out_after_the_first_image(db, laboratory):
    db.sql(ANALYZE.replace("stride => 8", "stride => 8, budget => 1000"), [PICTURES[:3]])
    assert [recipes for _, recipes in laboratory.asked] == [[GOOD, POOR], [GOOD], [GOOD]]
    db.sql(ANALYZE, [PICTURES[:3]])
    assert [recipes for _, recipes in laboratory.asked[3:]] == [[GOOD, POOR]] * 2


def test_a_budget_that_is_too_short_for_one_image_is_refused_with_the_estimate(db, laboratory):
    with pytest.raises(kryptondb.PlanError, match="too short for a single image") as caught:
        db.sql(ANALYZE.replace("stride => 8", "stride => 8, budget => 1e-9"), [PICTURES])
    assert "One is estimated to take" in str(caught.value) and caught.value.column == 52
    assert laboratory.asked == []
    db.sql(ANALYZE, [PICTURES])
    done = db.sql(ANALYZE.replace("stride => 8", "stride => 8, budget => 1e-9"), [PICTURES])
    assert (done.note or "").endswith("12 already known")  # nothing is left to do that a budget could be too short for


def test_a_budget_needs_to_be_enough_for_the_maps_that_are_still_made(db, laboratory, monkeypatch):
    takes = {EXACT: 10.0, **dict.fromkeys(maps_beside((GOOD, POOR)), 100.0)}
    profiler_of = analysis._profiler
    monkeypatch.setattr(analysis, "_profiler", lambda *arguments: (profiler_of(*arguments)[0], takes))
    db.sql(ANALYZE, [PICTURES[:1]])
    with_budget = ANALYZE.replace("stride => 8", "stride => 8, budget => 150")
    assert (db.sql(with_budget, [PICTURES[:2]]).note or "").startswith("net: 1 image analyzed")
    assert [recipes for _, recipes in laboratory.asked] == [[GOOD, POOR], [GOOD]]
    db.sql("DROP PROFILES net")
    with pytest.raises(kryptondb.PlanError, match="One is estimated to take 3 min 30 s"):
        db.sql(with_budget, [PICTURES[:2]])


@pytest.mark.parametrize(
    ("ssims", "seconds", "kept"),
    [
        ((0.9, 0.7), (4.0, 2.0), [GOOD, POOR]),
        ((0.9, 0.49), (4.0, 2.0), [GOOD]),
        ((0.9, 0.7), (4.0, 4.0), [GOOD]),
        ((0.9, 0.88), (4.0, 4.0), [GOOD, POOR]),
        ((0.9, 0.85), (4.0, 4.0), [GOOD]),
        ((0.99, 0.9), (5.9, 2.0), [GOOD, POOR]),
        ((0.99, 0.9), (6.1, 2.0), [POOR]),
        ((0.1, 0.1), (4.0, 2.0), []),
    ],
)
def test_a_guide_is_worth_its_time_when_one_of_its_recipes_is(ssims, seconds, kept):
    first = {each[0]: RecipeMeasurement(*each) for each in zip((GOOD, POOR), ssims, seconds, strict=True)}
    assert worthwhile(first, 8.0, [GOOD, POOR]) == kept
    assert worthwhile({GOOD: first[GOOD]}, 8.0, [GOOD, POOR]) == [GOOD, POOR]


def test_recipes_of_one_guide_stand_and_fall_together_and_those_without_stay():
    other, alone = Recipe("refined", 0.2, 0.2, step=4), Recipe("drill-down", step=8)
    values = ((POOR, 0.4, 2.0), (other, 0.9, 3.0), (alone, 0.2, 1.0))
    first = {each[0]: RecipeMeasurement(*each) for each in values}
    assert worthwhile(first, 8.0, [POOR, other, alone]) == [POOR, other, alone]


def test_the_order_of_images_looks_random_and_is_always_the_same(tmp_path: Path):
    names = [f"{index:03}.png" for index in range(50)]
    for name in names:
        (tmp_path / name).touch()
    order = [Path(source.name).name for source in sampling_order(find_images(str(tmp_path)))]
    assert sorted(order) == names and order != names
    assert order == [Path(source.name).name for source in sampling_order(reversed(list(find_images(str(tmp_path)))))]
    assert abs(np.corrcoef([names.index(name) for name in order], range(50))[0, 1]) < 0.4


def test_an_image_is_known_by_what_it_shows():
    first, second = (Picture(name, np.zeros((4, 6, 3), dtype=np.float32)) for name in "ab")
    turned = Picture("a", np.zeros((6, 4, 3), dtype=np.float32))
    assert content_hash(first) == content_hash(second) != content_hash(turned)


# What goes wrong


def test_a_picture_that_cannot_be_read_is_left_out_and_told(db, laboratory, tmp_path: Path):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    Image.fromarray(PICTURES[0]).save(tmp_path / "good.png")
    result = db.sql(ANALYZE, [str(tmp_path)])
    assert [Path(name).name for name in laboratory.images] == ["good.png"]
    (failure,) = result.errors
    assert failure.image.endswith("bad.png")
    db.sql("SET on_error = stop")
    with pytest.raises(kryptondb.ImageError):
        db.sql(ANALYZE, [str(tmp_path)])


@pytest.mark.parametrize(
    ("options", "message", "column"),
    [
        ("budget => 'soon'", "budget must be an amount of time such as '10 minutes'", 37),
        ("budgte => 3", '"budget"', 27),
        ("confidence => 1", "confidence must be a number between 0 and 1, both excluded, not 1", 41),
        ("patch => 99", "does not fit", 36),
        ("class => 'd'", 'no class labeled "d"', 36),
    ],
)
def test_an_option_that_means_nothing_is_an_error_in_its_place(db, laboratory, options, message, column):
    with pytest.raises(kryptondb.BindError) as caught:
        db.sql(f"ANALYZE net USING ? WITH ({options})", [PICTURES])
    assert message in str(caught.value) and caught.value.column == column
    assert laboratory.asked == []


def test_an_unknown_model_is_named_with_the_nearest(db):
    with pytest.raises(kryptondb.BindError, match='Did you mean "net"') as caught:
        db.sql("ANALYZE nte USING ?", [PICTURES])
    assert caught.value.position is not None


def test_a_network_that_only_runs_as_a_whole_needs_no_profile(db):
    class Whole(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) if float(images.sum()) > 0 else images.amax((2, 3))

    db.register("whole", Whole(), size=32)
    with pytest.raises(kryptondb.PlanError, match="no approximate operator can run whole: it could not be traced"):
        db.sql("ANALYZE whole USING ?", [PICTURES])


# From the command line


@pytest.mark.slow
def test_the_command_line_prints_the_table_and_what_was_done(tmp_path: Path, capsys):
    export(small_network(), tmp_path / "net.pt2")
    for index, picture in enumerate(PICTURES[:2]):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    create = f"CREATE MODEL net FROM '{tmp_path / 'net.pt2'}' WITH (size => 32)"
    text = f"ANALYZE net USING '{tmp_path}' WITH (patch => 8, stride => 8, budget => '1 hour')"
    assert main([str(tmp_path / "a.krypton"), "-c", f"{create}; SET threads = 1; {text}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line][1] == "recipe"
    assert any(line.startswith("exact") for line in lines)
    assert lines[-1].startswith("net: 2 images analyzed in ")
    assert main([str(tmp_path / "a.krypton"), "-c", "SHOW PROFILES", "--format", "csv"]) == 0
    assert "net,8 x 8,8 x 8,gray" in capsys.readouterr().out
