"""How near an approximate heat map comes to the exact one: SSIM, defined once for profiles, promises and benchmarks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_WINDOW = 7
_CONTRAST = 0.03  # of the range: what varies by less within a window counts for as much
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


def variation(maps: np.ndarray) -> np.ndarray:
    """How much maps vary within the window about each cell, in parts of their range: [k, rows, cols], above 0.

    The same error costs the more similarity the less a map varies there: SSIM divides by its square. Cells that are NaN
    count for nothing.
    """
    from scipy.ndimage import uniform_filter

    def of_windows(values: np.ndarray) -> np.ndarray:
        sums: np.ndarray = uniform_filter(values, (1, _WINDOW, _WINDOW), mode="constant")
        return sums

    known = np.isfinite(maps)
    lowest = np.nanmin(maps, axis=(1, 2), keepdims=True)
    values = np.where(known, maps - lowest, 0.0) / spread(maps)
    share = np.maximum(of_windows(known.astype(np.float64)), 1e-9)
    variance = of_windows(values**2) / share - (of_windows(values) / share) ** 2
    varies: np.ndarray = np.sqrt(2 * np.maximum(variance, 0.0) + _CONTRAST**2)
    return varies


def spread(maps: np.ndarray) -> np.ndarray:
    """The range of each map [k, rows, cols], 1 of constant ones; [k, 1, 1]. NaN counts for nothing."""
    ranges = np.nanmax(maps, axis=(1, 2), keepdims=True) - np.nanmin(maps, axis=(1, 2), keepdims=True)
    return np.where(ranges > 0, ranges, 1.0)
