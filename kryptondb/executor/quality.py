"""How near an approximate heat map comes to the exact one: SSIM, defined once for profiles, promises and benchmarks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_WINDOW = 7
_EQUAL = 1e-6


def ssim(exact: np.ndarray, approximate: np.ndarray) -> float:
    """Structural similarity of two maps [rows, cols] in float64, over the range of the exact one; 1 for equal maps.

    The window is 7 x 7, on smaller grids the largest odd one that fits. With a constant exact map: 1 if the approximate
    one is equal within 1e-6, else 0.
    """
    from skimage import metrics  # takes a while to import: only where it is needed

    exact, approximate = np.asarray(exact, dtype=np.float64), np.asarray(approximate, dtype=np.float64)
    data_range = float(exact.max() - exact.min())
    if data_range == 0.0:
        return float(np.abs(exact - approximate).max() <= _EQUAL)
    smallest = min(_WINDOW, *exact.shape)
    window = smallest - 1 + smallest % 2
    # A sample of one cell has no variance of its own: there, means alone are compared.
    of_maps: Callable[..., float] = metrics.structural_similarity
    return float(of_maps(exact, approximate, data_range=data_range, win_size=window, use_sample_covariance=window > 1))
