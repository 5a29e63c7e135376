"""A batch without a profile measures some of its images, which run exactly, and runs the others by what they admit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

import kryptondb
from kryptondb.executor import self_tuning
from kryptondb.executor.operators import OPERATORS
from kryptondb.executor.profiling import Profiler
from kryptondb.executor.quality import ssim
from kryptondb.optimizer import recipe
from kryptondb.optimizer.physical import from_json, to_json
from kryptondb.optimizer.strategies.self_tuning import alternative
from tests.end_to_end.test_promises import count_operations_alone, deep_network, time_recipes

pytestmark = pytest.mark.slow

BATCH = [np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8) for seed in range(16)]
QUERY = "SELECT HEATMAP FROM occlude(net, ?, patch => 8, stride => 4) "
PROMISE = "WITH SSIM >= 0.4 CONFIDENCE 0.8"
DRAWN = 5  # what a confidence of 0.8 needs


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[kryptondb.Session]:
    """Seconds are made up, so that the outcome does not depend on the machine."""
    count_operations_alone(monkeypatch)
    time_recipes(monkeypatch, lambda each: each.seconds((11, 11), 1.0, 0.0))
    monkeypatch.setattr(recipe, "RECIPES", tuple(recipe.Recipe("drill-down", step=step) for step in (2, 3)))
    with kryptondb.connect() as session:
        session.register("net", deep_network(), size=48, labels=["a", "b", "c"])
        session.sql("SET threads = 1")
        yield session


def judge_recipes_by(monkeypatch: pytest.MonkeyPatch, worthwhile: Callable[..., list[recipe.Recipe]]) -> None:
    """What is worth measuring is judged when a query with a profile is planned, or else after its first image."""
    for place in ("strategies.self_tuning", "self_tuning"):
        monkeypatch.setattr(import_module(f"kryptondb.optimizer.{place}"), "worthwhile", worthwhile)


def told(result: kryptondb.Result) -> dict[str, object]:
    return json.loads(result.arrow().schema.metadata[b"kryptondb.tuning"])


def test_some_images_run_exactly_and_the_others_by_the_recipe_that_they_admit(db: kryptondb.Session) -> None:
    tuned, exact = db.sql(QUERY + PROMISE, [BATCH]), db.sql(QUERY, [BATCH])
    assert tuned.arrow()["image"].to_pylist() == exact.arrow()["image"].to_pylist()
    made, names = told(tuned), exact.arrow()["image"].to_pylist()
    assert len(made["exact"]) == DRAWN and made["others"].startswith("drill-down, every ")
    assert made["exact"] != names[:DRAWN]  # they are drawn
    for name, base, map_of_base, map_of_tuned in zip(
        names, tuned.arrow()["base"].to_pylist(), exact.heatmaps(), tuned.heatmaps(), strict=True
    ):
        assert np.isfinite(base)
        if name in made["exact"]:
            np.testing.assert_array_equal(map_of_tuned, map_of_base)
        else:
            assert 0.4 <= ssim(map_of_base, map_of_tuned) < 1
    metadata = tuned.schema.metadata
    assert metadata[b"kryptondb.quality"] == b"approximate"
    assert tuned.stats.images == len(BATCH) and DRAWN * 121 < tuned.stats.positions < len(BATCH) * 121


def test_cells_say_of_each_image_whether_it_is_exact(db: kryptondb.Session) -> None:
    cells = db.sql(QUERY.replace("HEATMAP", "image, exact") + PROMISE, [BATCH])
    rows = cells.arrow().to_pylist()
    approximate = {row["image"] for row in rows if not row["exact"]}
    assert {row["image"] for row in rows} - approximate == set(told(cells)["exact"])
    assert cells.stats.positions == sum(row["exact"] for row in rows)


def test_what_a_batch_measured_is_a_profile_for_the_next(db: kryptondb.Session) -> None:
    db.sql(QUERY + PROMISE, [BATCH]).arrow()
    assert db.sql("SHOW PROFILES").arrow()["images"].to_pylist() == [DRAWN]
    again = db.sql(QUERY + PROMISE, [BATCH[0]])
    assert again.plan.quality.kind == "approximate" and again.plan.occlude.tuning is None


def test_explain_says_where_the_switch_may_come(db: kryptondb.Session) -> None:
    text = " ".join(db.sql("EXPLAIN " + QUERY + PROMISE, [BATCH]).message.split())
    assert f"no profile: {DRAWN} of the 16 images, a sample chosen by hashing file names, run exactly first" in text
    assert db.sql("SHOW PROFILES").arrow().num_rows == 0  # nothing has run


@pytest.mark.parametrize(
    ("images", "query", "why"),
    [
        (BATCH[:6], QUERY + PROMISE, "6 images are too few to self-tune (worthwhile from"),
        (BATCH, QUERY + PROMISE + " LIMIT 3", "may end after a few images"),
        (BATCH, QUERY + "WHERE y < 20 " + PROMISE, "the query asks for a part"),
    ],
)
def test_a_batch_that_is_not_worth_it_runs_exactly_and_says_why(db, images, query, why) -> None:
    result = db.sql(query, [images])
    assert result.plan.quality.kind == "exact" and why in result.plan.quality.note
    assert b"kryptondb.tuning" not in result.arrow().schema.metadata


def test_a_batch_that_turns_out_to_be_too_small_is_exact_and_says_so(db: kryptondb.Session, tmp_path: Path) -> None:
    for number, pixels in enumerate(BATCH):
        Image.fromarray(pixels).save(tmp_path / f"{'few' if number < 3 else 'more'}{number:02}.png")
    result = db.sql(QUERY + "WHERE image LIKE '%few%' " + PROMISE, [str(tmp_path)])
    assert result.plan.quality.kind == "approximate"  # nobody had counted them
    assert result.arrow().num_rows == 3 and result.schema.metadata[b"kryptondb.quality"] == b"exact"
    made = told(result)
    assert made["others"] == "exact" and made["note"].startswith("3 images are too few to self-tune")
    assert db.sql("SHOW PROFILES").arrow().num_rows == 0


def test_it_can_be_switched_off(db: kryptondb.Session) -> None:
    db.sql("SET tuning = off")
    result = db.sql(QUERY + PROMISE, [BATCH])
    assert result.plan.quality.kind == "exact" and "SET tuning = 'auto'" in result.plan.quality.note


def test_where_nothing_faster_keeps_the_promise_all_images_are_exact(db: kryptondb.Session) -> None:
    result = db.sql(QUERY + "WITH SSIM >= 0.99999 CONFIDENCE 0.8", [BATCH])
    made = told(result)
    assert made["others"] == "exact" and "keeps it" in made["note"]
    assert result.schema.metadata[b"kryptondb.quality"] == b"exact"
    np.testing.assert_allclose(result.heatmaps(), db.sql(QUERY, [BATCH]).heatmaps(), atol=1e-6)


def test_an_image_that_cannot_be_read_is_left_out_and_another_is_drawn(db: kryptondb.Session, tmp_path: Path) -> None:
    for number, pixels in enumerate(BATCH):
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    first = json.loads(
        db.sql(QUERY + PROMISE, [str(tmp_path)]).arrow().schema.metadata[b"kryptondb.tuning"]
    )["exact"][0]  # fmt: skip
    db.sql("DROP PROFILES net")
    Path(first).write_bytes(b"no picture")
    result = db.sql(QUERY + PROMISE, [str(tmp_path)])
    assert result.arrow().num_rows == len(BATCH) - 1
    assert [failure.image for failure in result.errors] == [first]
    assert len(told(result)["exact"]) == DRAWN and first not in told(result)["exact"]
    db.sql("DROP PROFILES net")
    db.sql("SET on_error = stop")
    with pytest.raises(kryptondb.ImageError):
        db.sql(QUERY + PROMISE, [str(tmp_path)]).arrow()


def test_files_say_how_each_image_was_made(db: kryptondb.Session, tmp_path: Path) -> None:
    db.sql(f"COPY ({QUERY}{PROMISE}) TO '{tmp_path / 'maps.parquet'}'", [BATCH])
    metadata = pyarrow.parquet.read_schema(tmp_path / "maps.parquet").metadata
    made = json.loads(metadata[b"kryptondb.tuning"])
    assert len(made["exact"]) == DRAWN and metadata[b"kryptondb.quality"] == b"approximate"
    db.sql("DROP PROFILES net")
    for number, pixels in enumerate(BATCH):
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    db.sql(f"COPY ({QUERY}{PROMISE}) TO '{tmp_path / 'overlays'}/'", [[str(path) for path in tmp_path.glob("*.png")]])
    kinds = [Image.open(path).text["kryptondb.quality"] for path in (tmp_path / "overlays").glob("*.png")]
    assert sorted(kinds) == ["approximate"] * (len(BATCH) - DRAWN) + ["exact"] * DRAWN


def test_the_terminal_says_of_each_map_what_it_is(db, capsys: pytest.CaptureFixture[str]) -> None:
    db.sql(QUERY + PROMISE, [BATCH]).show()
    lines = [line for line in capsys.readouterr().out.splitlines() if "lowest" in line]
    assert sum("   exact" in line for line in lines) == DRAWN
    assert sum("   approximate" in line for line in lines) == len(BATCH) - DRAWN


def test_a_run_that_is_closed_while_it_measures_keeps_what_is_measured(db: kryptondb.Session, monkeypatch) -> None:
    measure, seen = Profiler.measure, 0

    def interrupted(self, picture, recipes, progress=None):
        nonlocal seen
        seen += 1
        if seen == 3:
            raise KeyboardInterrupt
        return measure(self, picture, recipes, progress)

    monkeypatch.setattr(Profiler, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        db.sql(QUERY + PROMISE, [BATCH]).arrow()
    assert db.sql("SHOW PROFILES").arrow()["images"].to_pylist() == [2]
    assert db.sql(QUERY + PROMISE, [BATCH]).arrow().num_rows == len(BATCH)


def test_hints_hold_for_the_others_too(db: kryptondb.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    monkeypatch.setattr(self_tuning, "alternative", lambda *given: chosen.append(alternative(*given)) or chosen[0])
    result = db.sql(QUERY + PROMISE + " USING batch => 1, convolution => 'direct'", [BATCH])
    assert told(result)["others"] != "exact"
    operator = chosen[0].node.operator
    assert operator.accurate.tile == (1, 1) and operator.accurate.winograd == ()
    assert from_json(to_json(result.plan), OPERATORS) == result.plan


def test_explain_analyze_tells_what_ran(db: kryptondb.Session) -> None:
    text = " ".join(db.sql("EXPLAIN ANALYZE " + QUERY + PROMISE, [BATCH]).message.split())
    assert f"tuned {DRAWN} ran exactly and were measured, the others by drill-down, every " in text
    assert "quality approximate" in text and "reconstructed" in text
    db.sql("DROP PROFILES net")
    strict = "EXPLAIN ANALYZE FORMAT JSON " + QUERY + "WITH SSIM >= 0.99999 CONFIDENCE 0.8"
    story = json.loads(db.sql(strict, [BATCH]).message)
    assert story["quality"]["kind"] == "exact" and story["tuned"]["others"] == "exact"
    assert len(story["tuned"]["exact"]) == DRAWN and "keeps it" in story["tuned"]["note"]


def test_a_file_that_is_listed_several_times_is_exact_only_where_all_of_them_are(db, tmp_path: Path) -> None:
    Image.fromarray(BATCH[0]).save(tmp_path / "again.png")
    cells = db.sql(QUERY.replace("HEATMAP", "image, exact") + PROMISE, [[str(tmp_path / "again.png")] * 16])
    made = told(cells)
    assert made["others"].startswith("drill-down") and made["exact"] == []
    assert 0 < sum(cells.arrow()["exact"].to_pylist()) < cells.arrow().num_rows


def test_a_catalog_that_cannot_be_written_costs_no_answer(db: kryptondb.Session, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise kryptondb.CatalogError("the disk is full")

    monkeypatch.setattr(db.database.profiles, "remember", full)
    with pytest.warns(UserWarning, match="not remembered for later queries: the disk is full") as warned:
        result = db.sql(QUERY + PROMISE, [BATCH])
        assert len(told(result)["exact"]) == DRAWN
    assert len(warned) == 1


def test_of_an_image_that_a_profile_knows_no_recipe_is_forgotten(db: kryptondb.Session, monkeypatch) -> None:
    monkeypatch.setattr(recipe, "RECIPES", (*recipe.RECIPES, recipe.Recipe("thresholded", 0.5, 0.5)))
    time_recipes(monkeypatch, lambda each: each.seconds((11, 11), 1.0, 0.5))
    db.sql("ANALYZE net USING ? WITH (patch => 8, stride => 4)", [BATCH[:4]])
    (key,) = db.database.profiles.known()
    before = db.database.profiles.samples(key)
    judge_recipes_by(monkeypatch, lambda measured, exact_seconds, recipes: list(recipes)[:1])
    db.sql(QUERY + PROMISE, [BATCH]).arrow()
    after = {sample.image: sample for sample in db.database.profiles.samples(key)}
    assert len(after) > 4
    for sample in before:
        assert {str(each.recipe) for each in after[sample.image].recipes} == {
            str(each.recipe) for each in sample.recipes
        }


def test_what_is_worth_measuring_is_judged_by_the_first_image_of_the_profile(db, monkeypatch) -> None:
    """Later images certify what the profile admits, and must not decide what is tried."""
    judged = []

    def worthwhile(measured, exact_seconds, recipes):
        judged.append(measured)
        return list(recipes)

    judge_recipes_by(monkeypatch, worthwhile)
    db.sql(QUERY + PROMISE, [BATCH]).arrow()
    assert len(judged) == 1
    others = [np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8) for seed in range(100, 124)]
    db.sql(QUERY + "WITH SSIM >= 0.4 CONFIDENCE 0.9", [others]).arrow()
    assert len(judged) == 2 and db.sql("SHOW PROFILES").arrow()["images"].to_pylist() == [DRAWN + 10]
    assert {each: one.ssim for each, one in judged[0].items()} == {each: one.ssim for each, one in judged[1].items()}
