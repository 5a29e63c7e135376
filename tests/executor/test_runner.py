"""An experiment on a picture: every fill, score and class choice through both operators, against the naive loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kryptondb.catalog import Catalog, Model, ModelStore
from kryptondb.executor.operators import Full, Incremental
from kryptondb.executor.runner import ModelRunner
from kryptondb.images.arrays import from_array
from kryptondb.images.fills import parse_fill
from kryptondb.images.picture import Picture
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.experiment import ClassChoice, Experiment, Images

GRID = Grid(20, 24, (6, 5), (5, 7))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    nn.init.normal_(module[-1].weight, std=4.0)
    with Catalog() as catalog:
        return ModelStore(catalog).register("net", module, size=(20, 24), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


@pytest.fixture(scope="module")
def network(model: Model) -> Network:
    return trace(model.module, model.input_shape)


@pytest.fixture(scope="module")
def picture() -> Picture:
    return from_array(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8), "noise")


def runner(model: Model, network: Network, operator: Full | Incremental, **changes: object) -> ModelRunner:
    asked = {
        "fill": "gray", "classes": ClassChoice("all"), "score": "probability", "runs": None,
        **{name: value for name, value in changes.items() if name in ("fill", "classes", "score", "runs")},
    }  # fmt: skip
    experiment = Experiment(
        Images(None), "net", model.fingerprint, 3, GRID.height, GRID.width, model.classes, GRID.patch, GRID.stride,
        **asked,  # type: ignore[arg-type]
    )  # fmt: skip
    settings = {"device": "cpu", "precision": "float64"} | {n: v for n, v in changes.items() if n not in asked}
    return ModelRunner(experiment, model, network, operator, **settings)  # type: ignore[arg-type]


def cells(run: ModelRunner, picture: Picture) -> np.ndarray:
    answer = run.run(picture)
    grid = np.full((GRID.rows, GRID.cols, len(answer.classes)), np.nan)
    for scores in answer:
        grid[scores.rows, scores.cols] = scores.scores
    return grid


def naive(model: Model, picture: Picture, fill: str | float | tuple[float, ...], score: str) -> np.ndarray:
    pixels = model.preprocess.pixels(picture).double()
    module, painted = model.module.double(), parse_fill(fill)
    grid = np.empty((GRID.rows, GRID.cols, 4))
    with torch.inference_mode():
        for row, y in enumerate(GRID.ys):
            for col, x in enumerate(GRID.xs):
                occluded = pixels.clone()
                patch = painted.prepare(pixels)(np.array([y]), np.array([x]), *GRID.patch)[0]
                occluded[:, y : y + GRID.patch[0], x : x + GRID.patch[1]] = patch
                scores = module(model.preprocess.normalize(occluded)[None])
                read = {"probability": torch.softmax, "log_probability": torch.log_softmax}.get(score)
                grid[row, col] = (read(scores, dim=1) if read else scores)[0].numpy()
    model.module.float()
    return grid


OPERATORS = [Full(3), Incremental((2, 2)), Incremental((1, 3))]


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
@pytest.mark.parametrize(
    "fill", ["black", "gray", "white", 0.3, (0.9, 0.1, 0.2), "mean", "patch_mean", "blur"], ids=str
)
def test_every_fill_agrees_with_the_naive_loop(
    model: Model, network: Network, picture: Picture, operator: Full | Incremental, fill: str | float
) -> None:
    got = cells(runner(model, network, operator, fill=str(parse_fill(fill))), picture)
    np.testing.assert_allclose(got, naive(model, picture, fill, "probability"), atol=1e-9, rtol=0)


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
@pytest.mark.parametrize("score", ["probability", "logit", "log_probability"])
def test_every_score_agrees_with_the_naive_loop(
    model: Model, network: Network, picture: Picture, operator: Full | Incremental, score: str
) -> None:
    got = cells(runner(model, network, operator, score=score), picture)
    np.testing.assert_allclose(got, naive(model, picture, "gray", score), atol=1e-9, rtol=0)


def test_float32_is_within_a_hundred_thousandth_of_float64(model: Model, network: Network, picture: Picture) -> None:
    single = cells(runner(model, network, Incremental((2, 2)), precision="float32"), picture)
    double = cells(runner(model, network, Incremental((2, 2))), picture)
    np.testing.assert_allclose(single, double, atol=1e-5, rtol=0)
    assert np.abs(single - double).max() > 0.0


def test_classes_are_the_most_probable_of_the_unoccluded_picture_all_or_those_asked_for(
    model: Model, network: Network, picture: Picture
) -> None:
    def run(choice: ClassChoice) -> tuple[list[int], np.ndarray, np.ndarray]:
        answer = runner(model, network, Full(4), classes=choice).run(picture)
        return answer.classes, answer.base, answer.prediction

    classes, base, prediction = run(ClassChoice("top", k=2))
    assert classes == np.argsort(-prediction)[:2].tolist()
    np.testing.assert_allclose(base, prediction[classes])
    assert prediction.sum() == pytest.approx(1.0)
    assert run(ClassChoice("all"))[0] == [0, 1, 2, 3]
    assert run(ClassChoice("list", indices=(3, 1)))[0] == [3, 1]


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_only_the_cells_asked_for_are_computed(
    model: Model, network: Network, picture: Picture, operator: Full | Incremental
) -> None:
    answer = runner(model, network, operator, runs=((0, 1, 2), (2, 0, 0))).run(picture)
    done = [(int(r), int(c)) for scores in answer for r, c in zip(scores.rows, scores.cols, strict=True)]
    assert sorted(done) == [(0, 1), (0, 2), (2, 0)]


def test_operations_are_counted_and_incremental_does_fewer(model: Model, network: Network, picture: Picture) -> None:
    counted = []
    for operator in (Full(4), Incremental((3, 3))):
        answer = runner(model, network, operator).run(picture)
        for _ in answer:
            pass
        counted.append(answer.flops)
    assert counted[0] == pytest.approx(network.flops * (GRID.size + 1))
    assert counted[1] < counted[0]


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_the_budget_counts_from_what_was_held_beside_the_picture_when_its_cells_begin(
    model: Model, network: Network, picture: Picture, operator: Full | Incremental, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = 1_000_000
    monkeypatch.setattr("kryptondb.executor.runner.anonymous_bytes", lambda: held)
    answer = runner(model, network, operator, beside=77).run(picture)
    held = 5_000_000  # what another picture held while this one was set up is gone, or the reader keeps more by now
    cells = iter(answer)
    held = 9_000_000  # the next picture is set up
    context = answer._context
    own = 0
    if context.base is not None:
        own = 8 * sum(table.rows.numel() for table in context.base.tables.values())
        assert own > 0
    next(cells)
    assert context.beside == 77
    assert context.held_before is not None
    assert 0 <= 5_000_000 - own - context.held_before < 200, "scores and means are a few numbers more"


def test_inference_mode_does_not_leak_out_of_a_run_that_is_under_way(
    model: Model, network: Network, picture: Picture
) -> None:
    cells_done = iter(runner(model, network, Full(1)).run(picture))
    next(cells_done)
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("operator", [Full(4), Incremental((2, 2)), Incremental((2, 2), head=8)])
def test_a_reduced_precision_rounds_the_network_and_nothing_else(
    model: Model, network: Network, picture: Picture, operator: Full | Incremental
) -> None:
    exact = cells(runner(model, network, operator, precision="float32"), picture)
    reduced = runner(model, network, operator, precision="bfloat16")
    rounded = cells(reduced, picture)
    assert 1e-5 < np.abs(rounded - exact).max() < 0.1
    assert not any(np.any(scores.exact) for scores in reduced.run(picture))
    assert network.nodes[-1].constant is None or network.nodes[-1].constant.dtype == torch.float32
