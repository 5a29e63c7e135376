"""Grey samples in the units of their file to levels in 0..1: windows as DICOM defines them, and known ranges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Window = tuple[float, float]  # center and width, in the units of the file's samples

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def windowed(samples: NDArray[np.generic], window: Window, function: str = "LINEAR_EXACT") -> Floats:
    """Samples of any real type as float32 in 0..1: black below the window, white above it, NaN black.

    Args:
        window: (center, width), the width above 0 and at least 1 for LINEAR.
        function: how levels rise in the window. Source: DICOM PS3.3, C.11.2.1.2.1 (LINEAR, for integers),
            C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT).

    Raises:
        ValueError: another function, or a width that it does not take.
    """
    center, width = window
    if function not in FUNCTIONS:
        raise ValueError(f"the VOI LUT function is none of {', '.join(FUNCTIONS)}")
    if not (np.isfinite(center) and np.isfinite(width)) or width <= 0 or (function == "LINEAR" and width < 1):
        raise ValueError(f"a window of width {width:g} around {center:g} shows nothing")
    levels: Floats = samples.astype(np.float32)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    levels -= np.float32(center)
    if width == 0:  # LINEAR of width 1 is a threshold
        return (levels > 0).astype(np.float32)
    if function == "SIGMOID":
        levels *= np.float32(-4 / width)
        np.exp(np.clip(levels, -80, 80, out=levels), out=levels)
        levels += 1
        np.reciprocal(levels, out=levels)
    else:
        levels /= np.float32(width)
        levels += np.float32(0.5)
        np.clip(levels, 0, 1, out=levels)
    return np.nan_to_num(levels, copy=False, nan=0.0)


def full_range(samples: NDArray[np.generic], known: NDArray[np.bool_] | None = None) -> Floats:
    """Samples as float32, the least of them 0 and the largest 1; those that are not finite, or not `known`, are 0.

    A picture of one value is 0 everywhere.
    """
    levels: Floats = samples.astype(np.float32)
    finite = np.isfinite(levels)
    if known is not None:
        finite &= known
    if not finite.any():
        return np.zeros_like(levels)
    low, high = float(levels.min(where=finite, initial=np.inf)), float(levels.max(where=finite, initial=-np.inf))
    return between(levels, low, high, finite)


def between(samples: NDArray[np.generic], low: float, high: float, known: NDArray[np.bool_] | None = None) -> Floats:
    """Samples as float32, `low` being 0 and `high` 1, what lies outside cut; what is not `known` is 0."""
    levels: Floats = samples.astype(np.float32)
    span = high - low
    if not span > 0:
        return np.zeros_like(levels)
    if not np.isfinite(span):  # more than float32 holds
        raise ValueError("the samples span more than can be told apart")
    levels -= np.float32(low)
    levels /= np.float32(span)
    np.nan_to_num(levels, copy=False, nan=0.0)
    np.clip(levels, 0, 1, out=levels)
    if known is not None:
        levels[~known] = 0
    return levels
