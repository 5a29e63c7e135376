"""ANALYZE, then WITH SSIM: images that were never analyzed are answered approximately, and as near as promised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import kryptondb
from kryptondb.executor import calibrate
from kryptondb.executor.profiling import Profiler
from kryptondb.executor.quality import ssim
from kryptondb.optimizer import recipe
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.recipe import Recipe

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
SAMPLES, UNSEEN = ([RANDOM.integers(0, 256, (48, 48, 3), dtype=np.uint8) for _ in range(count)] for count in (10, 3))
TAUS = (0.8, 0.6, 0.45, 0.3, 0.2)
QUERY = "SELECT HEATMAP FROM occlude(net, ?, patch => 8, stride => 8) "


def deep_network() -> nn.Sequential:
    """Regions grow well beyond the patch, so that cutting them off saves work and costs quality."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        convolutions = [layer for _ in range(6) for layer in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
        first, last = nn.Conv2d(3, 16, 3, padding=1), (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))
        return nn.Sequential(first, nn.ReLU(), *convolutions, *last).eval()


def decided_network() -> nn.Sequential:
    """An occlusion changes its answer by so much that rounding shows little beside it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 23 * 23, 3)
        nn.init.normal_(layers[-1].weight, std=0.2)
        return nn.Sequential(*layers).eval()


def time_recipes(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Recipe], float]) -> None:
    """Profiles say that an exact map takes a second, and a recipe as many as `seconds` says."""
    measure = Profiler.measure

    def measured(self, picture, recipes, progress=None):
        found = measure(self, picture, recipes, progress)
        timed = tuple(replace(each, seconds=seconds(each.recipe)) for each in found.recipes)
        return replace(found, seconds=1.0, recipes=timed)

    monkeypatch.setattr(Profiler, "measure", measured)


def count_operations_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimated seconds are what operations would take, and a call a little, so that a tile has several positions."""
    monkeypatch.setattr(calibrate, "measure", lambda _: Rates(flops_per_second=1e9, seconds_per_call=1e-5,
                        seconds_per_gather=0.0, seconds_per_overlay=0.0, bytes_per_second=1e12))  # fmt: skip


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[kryptondb.Session]:
    """Seconds are made up, so that the outcome does not depend on the machine."""
    count_operations_alone(monkeypatch)
    time_recipes(monkeypatch, lambda each: each.tau)
    monkeypatch.setattr(recipe, "RECIPES", tuple(recipe.Recipe("thresholded", tau, tau) for tau in TAUS))
    with kryptondb.connect() as session:
        session.register("net", deep_network(), size=48, labels=["a", "b", "c"])
        session.sql("SET threads = 1")
        yield session


def test_a_promise_is_kept_on_images_never_seen_by_an_approximate_plan(db):
    note = db.sql(QUERY + "WITH SSIM >= 0.8", [UNSEEN[0]]).plan.quality.note
    assert note == "no profile: the exact plan keeps SSIM >= 0.8"
    db.sql("ANALYZE net USING ? WITH (patch => 8, stride => 8)", [SAMPLES])
    promised, exact = (db.sql(QUERY + text, [UNSEEN]) for text in ("WITH SSIM >= 0.8", ""))
    assert promised.plan.quality.kind == "approximate" and promised.plan.occlude.operator.name == "thresholded"
    alike = [ssim(*pair) for pair in zip(exact.heatmaps(), promised.heatmaps(), strict=True)]
    assert min(alike) >= 0.8 and max(alike) < 1
    metadata = promised.schema.metadata
    assert metadata[b"kryptondb.quality"] == b"approximate" and b"thresholded, tau" in metadata[b"kryptondb.promise"]
    assert "is the cheapest that keeps SSIM >= 0.8" in db.sql("EXPLAIN " + QUERY + "WITH SSIM >= 0.8", [UNSEEN]).message
    db.sql("DROP PROFILES net")
    assert db.sql(QUERY + "WITH SSIM >= 0.8", [UNSEEN]).plan.quality.kind == "exact"


def test_a_promise_is_kept_by_cells_that_doubt_chooses_and_planned_with_as_many_as_samples_needed(db, monkeypatch):
    doubts = (0.5, 0.3, 0.1)
    ladder = tuple(recipe.Recipe("drill-down", step=2, where="uncertain", doubt=doubt) for doubt in doubts)
    monkeypatch.setattr(recipe, "RECIPES", (recipe.Recipe("thresholded", 0.8, 0.8), *ladder))
    time_recipes(monkeypatch, lambda each: 0.9 - each.doubt)
    finer = QUERY.replace("stride => 8", "stride => 4")
    db.sql("ANALYZE net USING ? WITH (patch => 8, stride => 4)", [SAMPLES])
    promised, exact = (db.sql(finer + text, [UNSEEN]) for text in ("WITH SSIM >= 0.7", ""))
    followed = promised.plan.occlude.operator.recipe
    assert replace(followed, fraction=0.0) in ladder
    (profile,) = (db.database.profiles.find(key) for key in db.database.profiles.known())
    needed = profile.further[:, profile.recipes.index(replace(followed, fraction=0.0))]
    assert followed.fraction == pytest.approx(needed.mean()) and np.ptp(needed) > 0
    assert f"more where doubt exceeds {followed.doubt:g}: SSIM >= " in promised.plan.quality.note
    assert min(ssim(*pair) for pair in zip(exact.heatmaps(), promised.heatmaps(), strict=True)) >= 0.7


def test_a_reduced_precision_keeps_a_promise_where_the_device_is_faster_in_it(db, monkeypatch):
    fast = (("bfloat16", 1e10),)
    monkeypatch.setattr(calibrate, "measure", lambda _: Rates(flops_per_second=1e9, reduced=fast))
    monkeypatch.setattr(recipe, "RECIPES", (recipe.Recipe("drill-down", step=2),))
    time_recipes(monkeypatch, lambda each: 0.1 if each.step else 0.2)
    db.register("decided", decided_network(), size=48, labels=["a", "b", "c"])
    db.sql("ANALYZE decided USING ? WITH (patch => 8, stride => 8)", [SAMPLES])
    query = QUERY.replace("net", "decided")
    promised, exact = (db.sql(query + text, [UNSEEN]) for text in ("WITH SSIM >= 0.8", ""))
    assert promised.plan.quality.note.startswith("incremental, bfloat16: SSIM >= ")
    assert promised.plan.occlude.operator.name == "incremental" and promised.plan.occlude.precision == "bfloat16"
    alike = [ssim(*pair) for pair in zip(exact.heatmaps(), promised.heatmaps(), strict=True)]
    assert min(alike) >= 0.8 and max(alike) < 1
    assert b'"precision":"bfloat16"' in promised.schema.metadata[b"kryptondb.plan"].replace(b" ", b"")
    cells = db.sql("SELECT exact FROM occlude(decided, ?, patch => 8, stride => 8) WITH SSIM >= 0.8", [UNSEEN[0]])
    assert not any(cells.arrow()["exact"].to_pylist())


def test_a_profile_is_of_its_shape_of_query_alone(db):
    db.sql("ANALYZE net USING ? WITH (patch => 8, stride => 8)", [SAMPLES])
    for other in ("patch => 12, stride => 8", "patch => 8, stride => 8, class => 'a'"):
        text = QUERY.replace("patch => 8, stride => 8", other) + "WITH SSIM >= 0.8"
        assert db.sql(text, [UNSEEN[0]]).plan.quality.note == "no profile: the exact plan keeps SSIM >= 0.8"
