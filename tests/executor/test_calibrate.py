"""Layers measured on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from kryptondb.executor import calibrate
from kryptondb.executor.calibrate import measure_layers, windows_of
from kryptondb.optimizer.cost import LayerRate, LayerShape

SHAPES = (LayerShape(4, 8), LayerShape(8, 8, (5, 1), (2, 1), 4), LayerShape(8, 4, (1, 1)))


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "SECONDS", 0.0)
    monkeypatch.setattr(calibrate, "SHORTEST", 0.0)


def test_every_layer_is_measured_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    rates = list(measure_layers(SHAPES, "cpu", lambda done, total: told.append((done, total))))
    first, *others = SHAPES
    able = [(first, "direct"), (first, "winograd 4"), (first, "winograd 6"), *((shape, "direct") for shape in others)]
    assert [(rate.shape, rate.algorithm) for rate in rates] == able
    assert all(1e4 < rate.flops_per_second < 1e16 for rate in rates)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_whoever_stops_has_what_was_measured_so_far() -> None:
    rates = measure_layers(SHAPES, "cpu")
    assert next(rates).shape == SHAPES[0]
    assert not torch.is_inference_mode_enabled()
    rates.close()


def test_an_algorithm_is_measured_on_the_layers_it_can_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    def pointwise(shape: LayerShape, windows: int, device: str) -> tuple[calibrate.Work, float] | None:
        return (lambda: None, 1e9) if shape.kernel == (1, 1) else None

    monkeypatch.setattr(calibrate, "ALGORITHMS", {"pointwise": pointwise})
    assert [rate.shape for rate in measure_layers(SHAPES, "cpu")] == [SHAPES[2]]


def test_algorithms_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def noting(name: str) -> object:
        return lambda shape, windows, device: (lambda: ran.append(name), 1e9)

    monkeypatch.setattr(calibrate, "ALGORITHMS", {"a": noting("a"), "b": noting("b")})
    rates = list(measure_layers(SHAPES[:1], "cpu"))
    assert [rate.algorithm for rate in rates] == ["a", "b"]
    assert "".join(ran) == "ab" * (1 + calibrate.RUNS)


def test_the_rate_is_operations_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_timed", lambda work, device, times: 0.5 * times)
    shape = LayerShape(4, 8)
    products = 64 * 4 * 2.0 * 4 * 8  # a point, of 64 windows in 4 blocks each, of 36 and of 64 points
    assert list(measure_layers([shape], "cpu")) == [
        LayerRate(shape, "direct", 64 * 8 * 8 * shape.flops / 0.5),
        LayerRate(shape, "winograd 4", 36 * products / 0.5),
        LayerRate(shape, "winograd 6", 64 * products / 0.5),
    ]


def test_a_layer_of_many_operations_gets_fewer_windows() -> None:
    assert windows_of(LayerShape(512, 512)) == 64
    assert windows_of(LayerShape(2048, 2048)) == 4
    assert windows_of(LayerShape(1 << 14, 1 << 14)) == 1


def test_a_precision_has_so_many_times_the_rate_of_float32_as_it_is_faster_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The machine is busy: all take ten times as long as when float32's rate was measured.
    seconds = {(1, "bfloat16"): 10.0, (8, "float32"): 30.0, (8, "bfloat16"): 15.0, (1, "float16"): 30.0}

    def each(works: Sequence[Any], device: str) -> list[float]:
        images = [work.args[0] for work in works]
        return [seconds.get((len(image), str(image.dtype).removeprefix("torch.")), 10.0) for image in images]

    monkeypatch.setattr(calibrate, "_seconds_each", each)
    image, weight = torch.zeros(8, 2, 6, 6), torch.zeros(4, 2, 3, 3)
    rates = dict(calibrate._reduced(image, weight, 1e9, "cpu"))
    assert rates == {"bfloat16": 2e9, "float16": pytest.approx(1e9 / 3)}  # emulated: one window said enough
