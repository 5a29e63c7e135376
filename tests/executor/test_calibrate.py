"""Layers measured on this machine."""

from __future__ import annotations

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


def test_a_precision_is_emulated_where_one_window_in_it_takes_much_longer_than_one_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One window keeps no device busy: in float32 too it is far from the rate of many.
    seconds = {(1, "float32"): 1.0, (1, "bfloat16"): 1.5, (8, "bfloat16"): 2.0, (1, "float16"): 3.0}

    def best(work: Any, device: str, runs: int) -> float:
        images = work.args[0]
        return seconds[len(images), str(images.dtype).removeprefix("torch.")]

    monkeypatch.setattr(calibrate, "_best", best)
    image, weight = torch.zeros(8, 2, 6, 6), torch.zeros(4, 2, 3, 3)
    flops = 2.0 * 4 * 4 * weight.numel()
    assert dict(calibrate._reduced(image, weight, "cpu")) == {"bfloat16": 8 * flops / 2.0, "float16": flops / 3.0}
