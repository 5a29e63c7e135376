"""What is known of a device's speed: in general, and of single layers."""

from __future__ import annotations

import pytest

from kryptondb.optimizer.cost import Cost, LayerRate, LayerShape, Rates

SHAPE = LayerShape(64, 128)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (LayerShape(512, 512), "3 x 3, 512 -> 512"),
        (LayerShape(3, 64, (7, 7), (2, 2)), "7 x 7, 3 -> 64, stride 2"),
        (LayerShape(32, 32, (1, 5), (2, 1), 32), "1 x 5, 32 -> 32, stride 2 x 1, 32 groups"),
    ],
)
def test_a_shape_reads_like_a_layer(shape: LayerShape, text: str) -> None:
    assert str(shape) == text


def test_a_location_has_two_operations_for_every_weight() -> None:
    assert LayerShape(64, 128, (3, 3)).flops == 2 * 64 * 128 * 9
    assert LayerShape(64, 64, (3, 3), groups=64).flops == 2 * 64 * 9


def test_what_was_measured_of_a_layer_is_found_by_shape_and_algorithm() -> None:
    rates = Rates(layers=(LayerRate(SHAPE, "direct", 1e9), LayerRate(SHAPE, "winograd", 2e9)))
    assert rates.layer(LayerShape(64, 128), "winograd") == 2e9
    assert rates.layer(LayerShape(64, 128, stride=(2, 2)), "direct") is None
    assert rates.layer(SHAPE, "fourier") is None and Rates().layer(SHAPE, "direct") is None


def test_rates_are_values_whatever_was_looked_up() -> None:
    first, second = (Rates(layers=(LayerRate(SHAPE, "direct", 1e9),)) for _ in range(2))
    first.layer(SHAPE, "direct")
    assert first == second and len({first, second}) == 1
    assert first != Rates()


@pytest.mark.parametrize(("limit", "memory"), [(50, 100), (100, 100), (250, 250), (1000, 400)])
def test_as_much_of_the_room_as_the_limit_leaves_is_memory(limit: int, memory: int) -> None:
    assert Cost(1.0, 1.0, 100, room=300).within(limit) == Cost(1.0, 1.0, memory)
