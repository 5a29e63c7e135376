"""SSIM of heat maps, as promises mean it."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from kryptondb.executor.quality import ssim

NOISE = np.random.default_rng(0)


def test_it_is_that_of_scikit_image_over_the_range_of_the_exact_map_in_double_precision() -> None:
    exact = NOISE.random((12, 15), dtype=np.float32) * 3
    approximate = exact + NOISE.random((12, 15), dtype=np.float32)
    expected = structural_similarity(
        exact.astype(np.float64), approximate.astype(np.float64), data_range=float(np.ptp(exact)), win_size=7
    )
    assert ssim(exact, approximate) == pytest.approx(expected, abs=1e-12) and 0.1 < expected < 0.99
    assert ssim(approximate, exact) != pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (2, 40), (3, 5), (6, 6), (7, 7)])
def test_a_grid_of_any_size_is_like_itself_and_unlike_what_is_high_where_it_is_low(shape: tuple[int, int]) -> None:
    exact = NOISE.random(shape)
    assert ssim(exact, exact) == 1.0
    assert ssim(exact, exact.max() - exact) < 0.9


def test_a_constant_map_is_met_or_not() -> None:
    exact = np.full((9, 9), 0.3)
    nearly = exact.copy()
    nearly[4, 4] += 5e-7
    assert ssim(exact, nearly) == 1.0
    nearly[4, 4] += 1e-6
    assert ssim(exact, nearly) == 0.0
