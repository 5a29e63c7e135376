"""Samples in the units of their file become levels between black and white."""

from __future__ import annotations

import numpy as np
import pytest

from kryptondb.images.levels import between, full_range, windowed


def test_a_window_is_black_below_white_above_and_straight_between() -> None:
    values = np.array([-2000, -160, -60, 40, 140, 240, 3000], dtype=np.int16)
    np.testing.assert_allclose(windowed(values, (40, 400)), [0, 0, 0.25, 0.5, 0.75, 1, 1])
    assert windowed(values, (40, 400)).dtype == np.float32


def test_a_linear_window_is_half_a_level_off_as_the_standard_has_it() -> None:
    np.testing.assert_allclose(windowed(np.array([0.0, 127.0, 255.0]), (128, 256), "LINEAR"), [0, 127 / 255, 1])
    assert windowed(np.array([4, 5, 6]), (5.5, 1), "LINEAR").tolist() == [0, 0, 1]


def test_not_a_number_is_black_and_infinity_white_or_black() -> None:
    values = np.array([np.nan, -np.inf, np.inf, 0.5], dtype=np.float32)
    assert windowed(values, (0.5, 1)).tolist() == [0, 0, 1, 0.5]
    assert full_range(values).tolist() == [0, 0, 0, 0]
    assert full_range(np.array([np.nan, 2.0, 4.0])).tolist() == [0, 0, 1]


@pytest.mark.parametrize("window", [(0, 0), (0, -1), (np.nan, 1), (0, np.inf)])
def test_a_window_that_shows_nothing_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="shows nothing"):
        windowed(np.zeros(3), window)
    with pytest.raises(ValueError, match="function"):
        windowed(np.zeros(3), (0, 1), "CUBIC")


def test_the_full_range_leaves_out_what_is_not_known() -> None:
    values = np.array([-2000, 10, 20, 30])
    assert full_range(values, values > -2000).tolist() == [0, 0, 0.5, 1]
    assert full_range(np.full(3, 7)).tolist() == [0, 0, 0]
    assert between(values, 10, 20).tolist() == [0, 0, 1, 1]
