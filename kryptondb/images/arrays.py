"""Pixels in memory, a numpy array or a PIL image in any mode, to a Picture.

Alpha is composited over white, as a page would show it. A greyscale picture stays one channel. 16-bit samples are
divided by 65535 and keep every one of their levels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from kryptondb.errors import ImageError
from kryptondb.images.picture import PIXEL_LIMIT, Picture

Floats = NDArray[np.float32]

MAX_CHANNELS = 64  # of an array

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


def from_array(source: object, name: str) -> Picture:
    """The picture in a numpy array or a PIL image, called `name`.

    An array is H x W or H x W x C with C 1 (grey), 3 (RGB), 2 or 4 (those with alpha), or any number up to 64 for
    models that read as many, in uint8, uint16, bool, or floats in 0..1. A PIL image may have any mode but LAB, and is
    turned upright if it carries an EXIF orientation.

    Raises:
        ImageError: anything else; the message starts with `name`.
    """
    planes: Floats | None = None
    if isinstance(source, Image.Image):
        check_size(name, source.height, source.width)
        try:
            pixels = upright(source, from_pil(source))
        except ValueError as error:
            raise ImageError(f"{name}: {error}") from None
        except OSError as error:  # an image that was opened but not read yet, from a file that is damaged
            raise ImageError(f"{name}: cannot be decoded: {error}") from error
    elif isinstance(source, np.ndarray):
        try:
            pixels, planes = _from_ndarray(name, source)
        except ValueError as error:
            raise ImageError(f"{name}: {error}") from None
    else:
        raise ImageError(f"{name}: expected a numpy array or a PIL image, not {type(source).__name__}")
    return Picture(name, np.ascontiguousarray(pixels, dtype=np.float32), planes)


def check_size(name: str, height: int, width: int) -> None:
    """Raises ImageError for a picture with no pixels, or with more than PIXEL_LIMIT."""
    if height < 1 or width < 1:
        raise ImageError(f"{name}: the picture has no pixels ({height} x {width})")
    if height * width > PIXEL_LIMIT:
        raise ImageError(
            f"{name}: {height:,} x {width:,} pixels are more than the {PIXEL_LIMIT:,} that are read",
            hint="Make the picture smaller, or cut out the part that matters.",
        )


def upright(image: Image.Image, pixels: Floats) -> Floats:
    """`pixels` turned as the EXIF orientation of `image` says; unreadable EXIF data counts as none."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        turn = _TURNS.get(orientation)
    except Exception:
        return pixels  # damaged metadata must not lose the picture, whatever Pillow raises over it
    return turn(pixels) if turn else pixels


def from_pil(image: Image.Image) -> Floats:
    """H x W x C float32 in 0..1, C 1 or 3, for a PIL image of any mode. ValueError names what has no meaning here."""
    mode = image.mode
    if mode.startswith("I;16"):
        samples = np.asarray(image)
        grey = scaled(samples[:, :, None], 65535)
        level = image.info.get("transparency")
        return over_white(grey, samples != level) if isinstance(level, int) else grey
    if mode == "F":
        return unit_floats(np.asarray(image)[:, :, None])
    if mode == "I":
        raise ValueError("32-bit or signed integer samples have no known range; store them as 8 or 16 bit")
    if mode == "LAB":
        raise ValueError("CIELAB colour is not supported; store the picture as RGB")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        grey_alpha = mode in ("1", "L", "LA", "La")
        pixels = scaled(np.asarray(image.convert("LA" if grey_alpha else "RGBA")), 255)
        return over_white(pixels[:, :, :-1], pixels[:, :, -1])
    if mode in ("1", "L"):
        return scaled(np.asarray(image.convert("L"))[:, :, None], 255)
    return scaled(np.asarray(image.convert("RGB")), 255)


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


def unit_floats(pixels: NDArray[np.floating]) -> Floats:
    """The same samples as float32, or a ValueError where they do not lie in 0..1."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("the samples contain NaN or infinity")
    if low < 0 or high > 1:
        raise ValueError(f"floating point samples must lie in 0..1, these go from {low:g} to {high:g}")
    return pixels.astype(np.float32)


def _from_ndarray(name: str, array: NDArray[np.generic]) -> tuple[Floats, Floats | None]:
    """What there is to look at, and all channels where they are neither grey nor RGB."""
    shape = " x ".join(map(str, array.shape)) or "a single number"
    if array.ndim == 4:
        raise ValueError(f"an array of shape {shape} is a batch; give a list of pictures: list(array)")
    if array.ndim not in (2, 3):
        raise ValueError(f"a picture is an H x W or H x W x C array, not {shape}")
    if array.ndim == 2:
        array = array[:, :, None]
    check_size(name, array.shape[0], array.shape[1])
    channels_first = array.shape[0] in (1, 3, 4) and array.shape[2] > 4
    if not 1 <= array.shape[2] <= MAX_CHANNELS or channels_first:
        remedy = "; channels come last: array.transpose(1, 2, 0)" if channels_first else "; C is 1 to 64"
        raise ValueError(f"a picture is an H x W or H x W x C array, not {shape}{remedy}")
    if array.dtype.str[1:] == "u1":
        pixels = scaled(array, 255)
    elif array.dtype.str[1:] == "u2":  # in either byte order
        pixels = scaled(array, 65535)
    elif array.dtype == np.bool_:
        pixels = array.astype(np.float32)
    elif np.issubdtype(array.dtype, np.floating):
        pixels = unit_floats(array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32))
    else:
        raise ValueError(f"{array.dtype} samples have no known range; give uint8, uint16 or floats in 0..1")
    if pixels.shape[2] in (2, 4):
        return over_white(pixels[:, :, :-1], pixels[:, :, -1]), pixels
    if pixels.shape[2] > 4:
        return pixels.mean(axis=2, keepdims=True), pixels
    return pixels, None
