"""From windows to pixels: each pixel's value is the mean over the windows that cover it, as Captum's `Occlusion`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def coverage(size: int, starts: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
    """Which pixels of an axis each window covers, float64 [size, windows]; what reaches beyond the axis is cut."""
    pixels = np.arange(size)[:, None]
    first = np.asarray(starts, dtype=np.int64)[None, :]
    covered: np.ndarray = ((pixels >= first) & (pixels < first + length)).astype(np.float64)
    return covered


def averaged(values: np.ndarray, coverages: Sequence[np.ndarray], known: np.ndarray | None = None) -> np.ndarray:
    """The mean of each pixel's windows, summed in float64; NaN where no known window covers it.

    Args:
        values: one a window and map, [maps, windows down, windows across, ...].
        coverages: for each axis of windows, `coverage`: [size, windows].
        known: which windows count, boolean [windows down, windows across, ...]; None for all of them.

    Returns:
        float32 [maps, size, size, ...].
    """
    counted = np.ones(values.shape[1:]) if known is None else known.astype(np.float64)
    counts = _spread(counted, coverages)
    maps = np.empty((len(values), *counts.shape), dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        for number, each in enumerate(values):
            filled = each if known is None else np.where(known, each, 0.0)
            maps[number] = _spread(filled.astype(np.float64), coverages) / counts
    return maps


def _spread(values: np.ndarray, coverages: Sequence[np.ndarray]) -> np.ndarray:
    """The sum over each pixel's windows: one matrix an axis, for a window is a product of spans."""
    for axis, cover in enumerate(coverages):
        values = np.moveaxis(np.tensordot(cover, values, axes=(1, axis)), 0, axis)
    return values
