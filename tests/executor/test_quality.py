"""SSIM as profiles, promises and benchmarks mean it."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from kryptondb.executor.quality import ssim, variation

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


def test_where_a_map_varies_less_the_same_error_costs_more() -> None:
    rows, cols = np.mgrid[0:30, 0:30]
    exact = np.sin(rows * cols / 60)
    varies = variation(exact[None])[0]
    assert varies.min() > 0 and varies.max() < 1.5
    inner = varies[6:-6, 6:-6]  # a cell at the edge is seen by fewer windows
    losses = []
    for place in (inner.argmin(), inner.argmax()):
        near = exact.copy()
        near[6:-6, 6:-6].flat[place] += 0.2
        losses.append(1 - ssim(exact, near))
    assert losses[0] > 2 * losses[1]


def test_what_is_not_asked_for_varies_nothing() -> None:
    part = RANDOM.random((2, 20, 9))
    whole = np.full((2, 20, 30), np.nan)
    whole[:, :, :9] = part
    np.testing.assert_allclose(variation(whole)[:, :, :9], variation(part), atol=1e-9)
    np.testing.assert_allclose(variation(5 * part + 3), variation(part))
    np.testing.assert_allclose(variation(np.full((1, 4, 4), 0.3)), 0.03)
