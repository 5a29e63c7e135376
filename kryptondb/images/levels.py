"""Stored samples to levels in 0..1: known ranges, windows as DICOM defines them, transparency, and the upright turn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kryptondb.errors import ImageError
from kryptondb.images.picture import PIXEL_LIMIT

Floats = NDArray[np.float32]
Window = tuple[float, float]  # center and width, in the units of the file's samples

GRAY_ONLY = "a window applies to gray samples, and this picture has colors or transparency"
GIVE_A_WINDOW = "give window => (center, width)"
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


class Meaningless(ValueError):
    """Samples that are sound and are no picture as they stand; the message says why."""


def windowed(samples: NDArray[np.generic], window: Window, function: str = "LINEAR_EXACT") -> Floats:
    """Samples of any real type as float32 in 0..1: black below the window, white above it, NaN black.

    Args:
        window: (center, width), the width above 0 and at least 1 for LINEAR.
        function: how levels rise in the window. Source: DICOM PS3.3, C.11.2.1.2.1 (LINEAR, for integers),
            C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT).

    Raises:
        Meaningless: another function, or a width that it does not take.
    """
    center, width = window
    if function not in FUNCTIONS:
        raise Meaningless(f"the VOI LUT function is none of {', '.join(FUNCTIONS)}")
    if not (np.isfinite(center) and np.isfinite(width)) or width <= 0 or (function == "LINEAR" and width < 1):
        raise Meaningless(f"a window of width {width:g} around {center:g} shows nothing")
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
        raise ValueError("the samples span too wide a range")
    levels -= np.float32(low)
    levels /= np.float32(span)
    np.nan_to_num(levels, copy=False, nan=0.0)
    np.clip(levels, 0, 1, out=levels)
    if known is not None:
        levels[~known] = 0
    return levels


def check_size(name: str, height: int, width: int) -> None:
    """Raises ImageError for a picture with no pixels, or with more than PIXEL_LIMIT."""
    if height < 1 or width < 1:
        raise ImageError(f"{name}: the picture has no pixels ({height} x {width})")
    if height * width > PIXEL_LIMIT:
        raise ImageError(
            f"{name}: {height:,} x {width:,} pixels are more than the {PIXEL_LIMIT:,} that are read",
            hint="Make the picture smaller, or cut out the part that matters.",
        )


def scaled(samples: NDArray[np.generic], top: int) -> Floats:
    """Integer samples as float32 in 0..1, `top` being 1."""
    pixels: Floats = samples.astype(np.float32)
    pixels /= np.float32(top)
    return pixels


def over_white(pixels: Floats, alpha: NDArray[np.float32] | NDArray[np.bool_]) -> Floats:
    """`pixels` [H, W, C] with `alpha` [H, W] in 0..1 (or a mask) on a white page."""
    if alpha.all() and alpha.min() == 1:
        return pixels  # nothing shines through: keep the exact values
    opacity = alpha.astype(np.float32)[:, :, None]
    composited: Floats = pixels * opacity + (1 - opacity)
    return composited


def premultiplied_over_white(pixels: Floats, alpha: NDArray[np.float32]) -> Floats:
    """`pixels` [H, W, C] that are multiplied by `alpha` [H, W] already, on a white page."""
    composited: Floats = np.minimum(pixels + (1 - alpha[:, :, None]), np.float32(1))
    return composited


def unit_floats(pixels: NDArray[np.floating]) -> Floats:
    """The same samples as float32; Meaningless where they do not lie in 0..1."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Meaningless(f"the samples contain NaN or infinity; {GIVE_A_WINDOW}, and NaN is black")
    if low < 0 or high > 1:
        raise Meaningless(
            f"floating point samples must lie in 0..1, these go from {low:g} to {high:g}; {GIVE_A_WINDOW}"
        )
    return pixels.astype(np.float32)


def levels(samples: NDArray[np.generic], window: Window | None) -> Floats:
    """Samples [...] as levels in 0..1, every channel as it is given; through a window [H, W, 1] alone.

    Meaningless without a known range.
    """
    kind = samples.dtype.kind
    if window is not None:
        has_range = kind in "bu" and samples.dtype.itemsize <= 2
        if samples.shape[2] in (2, 4) or (samples.shape[2] != 1 and has_range):
            raise Meaningless(GRAY_ONLY)
        if kind not in "buif":
            raise Meaningless(f"{samples.dtype} samples are not levels of gray")
        return windowed(samples, window)
    if kind == "u" and samples.dtype.itemsize <= 2:  # in either byte order
        return scaled(samples, 255 if samples.dtype.itemsize == 1 else 65535)
    if kind == "b":
        return samples.astype(np.float32)
    if kind == "f":
        return unit_floats(samples.astype(np.float64 if samples.dtype.itemsize > 4 else np.float32))
    raise Meaningless(f"{samples.dtype} samples have no known range; give uint8, uint16 or floats in 0..1, or a window")


# How rows and columns go upright for each EXIF orientation other than 1.
_TURNS = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


def turned(pixels: Floats, orientation: object) -> Floats:
    """`pixels` turned upright from one of EXIF's eight orientations; any other value counts as upright."""
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return turn(pixels) if turn else pixels
