"""One image's measurements: SSIM of each recipe against the exact map, each map computed once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import kryptondb
from kryptondb.executor import calibrate, profiling
from kryptondb.executor.occlusion import set_up
from kryptondb.executor.pictures import asking
from kryptondb.executor.profiling import Profiler, operators_for
from kryptondb.executor.quality import ssim
from kryptondb.images.picture import Picture
from kryptondb.network import Cap
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.recipe import Pass, Recipe, guide_pass
from kryptondb.optimizer.workload import Workload
from tests.networks import small_network

QUERY = "SELECT HEATMAP FROM occlude(net, ?, patch => 8, class => ALL)"
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
PICTURE = Picture("noise", PIXELS.astype(np.float32) / 255)
STRONG, WEAK = Recipe("thresholded", 0.6, 0.6), Recipe("thresholded", 0.3, 0.3)
SAMPLED = Recipe("refined", 0.3, 0.3, step=2)
ALONE = Recipe("drill-down", step=3)
ROUNDED = Recipe("incremental", precision="bfloat16")
ROUNDED_SAMPLE = Recipe("drill-down", step=3, precision="bfloat16")


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[kryptondb.Session]:
    monkeypatch.setattr(calibrate, "measure", lambda _: Rates())
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=32, labels=["a", "b", "c"])
        session.sql("SET threads = 1")
        yield session


@pytest.fixture
def profiler(db: kryptondb.Session) -> Profiler:
    plan = db.sql(QUERY, [PIXELS]).plan
    assert plan is not None and plan.occlude is not None
    node, model, network = plan.occlude, db.database.models.get("net"), db.database.models.network("net")
    workload = Workload(network, node.experiment.grid, None, 3, node.device, node.memory_limit)
    operators = operators_for((STRONG, WEAK, SAMPLED, ALONE, ROUNDED, ROUNDED_SAMPLE), workload, Rates())
    return Profiler(set_up(node, model, db.database.models), operators)


def test_a_thresholded_recipe_has_the_ssim_of_its_worst_class(db: kryptondb.Session, profiler: Profiler) -> None:
    sample = profiler.measure(PICTURE, [STRONG, WEAK])
    strong, weak = sample.recipes
    assert (strong.recipe, weak.recipe) == (STRONG, WEAK)
    assert sample.seconds > 0 and strong.seconds > 0
    results = [db.sql(QUERY + using, [PIXELS]) for using in ("", " USING tau => 0.3")]
    exact, near = (result.heatmaps() for result in results)
    alike = [ssim(*pair) for pair in zip(exact, near, strict=True)]
    assert weak.ssim == pytest.approx(min(alike), abs=1e-3)
    assert weak.ssim < strong.ssim <= 1 and weak.ssim < max(alike) - 0.01


def test_there_is_one_map_for_each_cap_and_precision(profiler: Profiler) -> None:
    assert set(profiler.operators) == {Pass(Cap(0.6, 0.6)), Pass(Cap(0.3, 0.3)), Pass(precision="bfloat16")}


def test_a_recipe_in_a_reduced_precision_has_the_ssim_that_a_query_in_it_has(
    db: kryptondb.Session, profiler: Profiler
) -> None:
    rounded, sample = profiler.measure(PICTURE, [ROUNDED, ROUNDED_SAMPLE]).recipes
    results = [db.sql(QUERY + using, [PIXELS]) for using in ("", " USING precision => 'bfloat16'")]
    exact, near = (result.heatmaps() for result in results)
    assert rounded.ssim == pytest.approx(min(ssim(*pair) for pair in zip(exact, near, strict=True)), abs=1e-6)
    assert sample.ssim < rounded.ssim < 1 and sample.seconds < rounded.seconds


def test_recipes_in_a_precision_that_the_network_cannot_run_in_are_left_out(
    profiler: Profiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_map = profiling._map

    def refusing(experiment, picture, count):
        if experiment.precision == "bfloat16":
            with asking(picture.name):
                raise RuntimeError("mat1 and mat2 must have the same dtype, but got Float and BFloat16")
        return one_map(experiment, picture, count)

    monkeypatch.setattr(profiling, "_map", refusing)
    sample = profiler.measure(PICTURE, [STRONG, ROUNDED, ALONE, ROUNDED_SAMPLE])
    assert [each.recipe for each in sample.recipes] == [STRONG, ALONE]


def test_what_goes_wrong_otherwise_ends_the_measuring(profiler: Profiler, monkeypatch: pytest.MonkeyPatch) -> None:
    one_map = profiling._map

    def closed(experiment, picture, count):
        if experiment.precision == "bfloat16":
            raise kryptondb.ExecutionError("the query was closed while it ran")
        return one_map(experiment, picture, count)

    monkeypatch.setattr(profiling, "_map", closed)
    with pytest.raises(kryptondb.ExecutionError, match="closed"):
        profiler.measure(PICTURE, [STRONG, ROUNDED])


def test_the_heat_map_of_another_class_is_like_none(profiler: Profiler, monkeypatch: pytest.MonkeyPatch) -> None:
    one_map = profiling._map

    def mistaken(experiment, picture, count):
        scores, run = one_map(experiment, picture, count)
        if experiment.precision == "bfloat16":
            run.classes = run.classes[::-1]
        return scores, run

    monkeypatch.setattr(profiling, "_map", mistaken)
    (rounded,) = profiler.measure(PICTURE, [ROUNDED]).recipes
    assert rounded.ssim == 0.0


def test_a_recipe_is_derived_from_maps_that_are_computed_once(
    profiler: Profiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[Cap | None] = []
    one_map = profiling._map

    def counting(experiment, picture, count):
        computed.append(getattr(experiment.operator, "cap", None))
        return one_map(experiment, picture, count)

    def simulated(
        recipe: Recipe, exact: np.ndarray, guide: np.ndarray | None, *, score: str
    ) -> tuple[np.ndarray, float]:
        assert score == "probability"
        assert exact.shape == (3, 7, 7) and exact.dtype == np.float64 and np.isfinite(exact).all()
        return exact if guide is None else guide, 0.125 if recipe == SAMPLED else 0.0

    monkeypatch.setattr(profiling, "_map", counting)
    monkeypatch.setattr(profiling, "simulated", simulated)
    sample = profiler.measure(PICTURE, [WEAK, SAMPLED, ALONE])
    (weak, sampled, alone), seconds = sample.recipes, sample.seconds
    assert computed == [None, Cap(0.3, 0.3)]
    assert alone.ssim == pytest.approx(1.0) and weak.ssim == sampled.ssim < 1
    assert sampled.seconds == pytest.approx(weak.seconds + seconds * (16 / 49 + 0.125))
    assert (weak.further, sampled.further, alone.further) == (0.0, 0.125, 0.0)
    assert alone.seconds == pytest.approx(seconds * 9 / 49)


def test_the_exact_map_is_an_answer_like_a_query_s(db: kryptondb.Session, profiler: Profiler) -> None:
    exact = profiler.measure(PICTURE, [WEAK]).exact
    result = db.sql(QUERY, [PIXELS])
    assert exact.classes == result.arrow()["class"].to_pylist()
    maps = np.full((3, 7, 7), np.nan)
    for cells in exact:
        maps[:, cells.rows, cells.cols] = cells.scores.T
        assert cells.exact is True
    np.testing.assert_allclose(exact.base[:, None, None] - maps, result.heatmaps(), atol=1e-6)
    assert result.stats is not None and exact.flops > result.stats.flops


def test_progress_is_told_over_all_maps(profiler: Profiler) -> None:
    told: list[tuple[int, int]] = []
    profiler.measure(PICTURE, [WEAK, STRONG], lambda done, total: told.append((done, total)))
    assert told[-1] == (3 * 49, 3 * 49) and told == sorted(told)


def test_a_map_that_is_not_finite_is_like_no_other() -> None:
    exact = np.random.default_rng(0).random((1, 7, 7))
    broken = exact.copy()
    broken[0, 3, 3] = np.nan
    assert profiling._lowest(exact, broken) == 0.0


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (WEAK, 1.0),
        (Recipe("drill-down", step=2, fraction=0.1), 10 * (16 / 49 + 0.1)),
        (Recipe("drill-down", step=4), 10 * 9 / 49),
        (Recipe("refined", 0.3, 0.3, step=1, fraction=0.5), 11.0),
        (ROUNDED, 10.0),
    ],
)
def test_a_recipe_takes_its_guide_and_its_exact_cells(recipe: Recipe, expected: float) -> None:
    guide = 0.0 if guide_pass(recipe) is None else 1.0
    assert recipe.seconds((7, 7), 10.0, guide) == pytest.approx(expected)
