"""SSIM as profiles, promises and benchmarks mean it."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from kryptondb.executor.quality import ssim

RANDOM = np.random.default_rng(0)


def test_it_is_structural_similarity_over_the_range_of_the_exact_map() -> None:
    exact = RANDOM.random((20, 30)).astype(np.float32)
    near = exact + RANDOM.normal(0, 0.1, exact.shape).astype(np.float32)
    wide = exact.astype(np.float64)
    expected = structural_similarity(wide, near.astype(np.float64), data_range=wide.max() - wide.min())
    assert ssim(exact, near) == expected < 0.99


@pytest.mark.parametrize("shape", [(7, 7), (3, 40), (1, 9), (2, 2), (6, 5)])
def test_equal_maps_are_alike_on_any_grid(shape: tuple[int, int]) -> None:
    exact = RANDOM.random(shape)
    assert ssim(exact, exact) == pytest.approx(1.0)
    assert ssim(exact, exact[::-1, ::-1]) < 0.99


def test_the_scale_of_the_scores_does_not_matter() -> None:
    exact, near = RANDOM.random((2, 12, 12))
    assert ssim(exact, near) == pytest.approx(ssim(1e-6 * exact, 1e-6 * near))


def test_of_a_constant_map_only_its_equal_is_like_it() -> None:
    exact = np.full((5, 5), 0.3)
    assert ssim(exact, exact + 1e-7) == 1.0
    assert ssim(exact, exact + 1e-5) == 0.0
    assert ssim(np.array([[0.3]]), np.array([[0.3]])) == 1.0
