"""Pixels in memory, a numpy array or a PIL image in any mode, to a Picture.

Alpha is composited over white, as a page would show it. A greyscale picture stays one channel. 16-bit samples are
divided by 65535 and keep every one of their levels. Samples without a known range (signed, 32 bits, floats outside
0..1) need a window, which gives them one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from kryptondb.errors import ImageError
from kryptondb.images.foreign_arrays import as_numpy, default_axes, is_array, rows_columns_channels
from kryptondb.images.levels import Window, windowed
from kryptondb.images.picture import PIXEL_LIMIT, Picture

Floats = NDArray[np.float32]

#: A level, a colour or the opacity of each colour in a palette.
Key = int | tuple[int, ...] | bytes | None
MAX_CHANNELS = 64  # of an array
GREY_ONLY = "a window applies to grey samples, and this picture has colours or transparency"
_GIVE_A_WINDOW = "give window => (center, width)"

# Large pictures are converted in parts of this many pixels, so that what lies between takes little memory.
_BAND = 1 << 22


class Meaningless(ValueError):
    """Samples that are sound and are no picture as they stand; the message says why."""


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


def from_array(source: object, name: str, window: Window | None = None, axes: str | None = None) -> Picture:
    """The picture in an array (numpy's or any of `foreign_arrays`) or a PIL image, called `name`.

    An array is H x W, H x W x C, or C x H x W, with C 1 (grey), 3 (RGB), 2 or 4 (those with alpha), or any number up to
    64 for models that read as many, in uint8, uint16, bool, or floats in 0..1. A PIL image may have any mode but LAB,
    and is turned upright if it carries an EXIF orientation. Through a `window`, (center, width) in the samples' own
    units, samples without alpha may be of any real type and range: grey ones, and in an array colours without a range.

    Args:
        axes: 'HWC' or 'CHW'. By default 'CHW' in a torch tensor and 'HWC' in all else.

    Raises:
        ImageError: anything else; the message starts with `name`.
    """
    planes: Floats | None = None
    if isinstance(source, Image.Image):
        check_size(name, source.height, source.width)
        try:
            pixels = upright(source, from_pil(source, window, transparent(source)))
        except Meaningless as error:
            raise ImageError(f"{name}: {error}") from None
        except MemoryError:
            raise
        except Exception as error:  # of a file that is damaged and was not read yet, or changed by hand
            raise ImageError(f"{name}: cannot be decoded: {error}") from error
    elif is_array(source):
        try:
            pixels, planes = _from_ndarray(name, as_numpy(source), window, axes, default_axes(source))
        except ValueError as error:
            raise ImageError(f"{name}: {error}") from None
    else:
        raise ImageError(f"{name}: expected an array or a PIL image, not {type(source).__name__}")
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
    except Exception:
        return pixels  # damaged metadata must not lose the picture, whatever Pillow raises over it
    return turned(pixels, orientation)


def turned(pixels: Floats, orientation: object) -> Floats:
    """`pixels` turned upright from one of EXIF's eight orientations; any other value counts as upright."""
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return turn(pixels) if turn else pixels


def bands(image: Image.Image) -> Iterator[tuple[int, int]]:
    """(top, bottom) of parts of an image, of whole rows, that together are all of it."""
    step = max(1, _BAND // max(1, image.width))
    for top in range(0, image.height, step):
        yield top, min(top + step, image.height)


def in_bands(image: Image.Image, channels: int, convert: Callable[[Image.Image], Floats]) -> Floats:
    """What `convert` makes of an image, H x W x channels, part by part."""
    if image.width * image.height <= _BAND:
        return convert(image)
    pixels: Floats = np.empty((image.height, image.width, channels), dtype=np.float32)
    for top, bottom in bands(image):
        pixels[top:bottom] = convert(image.crop((0, top, image.width, bottom)))
    return pixels


def raw_mode(image: Image.Image) -> str:
    """How the samples of a file that is opened but not loaded yet lie in it; '' where that is not one way."""
    tiles = getattr(image, "tile", None) or []
    modes = {tile.args if isinstance(tile.args, str) else tile.args[0] for tile in tiles if tile.args}
    found = modes.pop() if len(modes) == 1 else ""
    return found if isinstance(found, str) else ""


def transparent(image: Image.Image) -> Key:
    """The level or colour that stands for transparent, in the units of Pillow's samples; None where none does.

    Of a PNG of 2 or 4 bits Pillow scales the samples and not this level: only before it is loaded can that be told.

    Raises:
        Meaningless: it is of another kind than the image's mode takes.
    """
    value = image.info.get("transparency")
    mode = image.mode
    if value is None or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if mode in ("1", "L") and whole:
        top = {"1": 1, "L;2": 3, "L;4": 15}.get(raw_mode(image) or mode, 255)
        return (int(value) & top) * (255 // top)  # of PNG's 16 bits the lower ones count
    if mode.startswith("I;16") and whole:
        return int(value) & 0xFFFF
    if mode == "RGB" and isinstance(value, tuple) and len(value) == 3 and all(isinstance(each, int) for each in value):
        return tuple(each & 0xFF for each in value)
    if mode == "P" and (isinstance(value, bytes) or (whole and 0 <= value < 256)):
        return value if isinstance(value, bytes) else int(value)
    if mode not in ("1", "L", "RGB", "P") and not mode.startswith("I;16"):
        return None  # such images have none
    raise Meaningless(
        f"its transparency is {type(value).__name__} {value!r:.40}, which an image of mode {mode} has not"
    )


def from_pil(image: Image.Image, window: Window | None = None, key: Key = None) -> Floats:
    """H x W x C float32 in 0..1, C 1 or 3, for a PIL image of any mode. Meaningless names what is no picture.

    Args:
        key: what `transparent` gives.
    """
    mode = image.mode
    clear = mode in ("LA", "La", "PA", "RGBA", "RGBa") or key is not None
    if window is not None:
        if clear or not (mode in ("1", "L", "I", "F") or mode.startswith("I;16")):
            raise Meaningless(GREY_ONLY)
        return in_bands(image, 1, lambda band: _through(np.asarray(band)[:, :, None], window))
    if mode == "I":
        raise Meaningless(f"32-bit or signed integer samples have no known range; {_GIVE_A_WINDOW}")
    if mode == "LAB":
        raise Meaningless("CIELAB colour is not supported; store the picture as RGB")
    grey = mode in ("1", "L", "LA", "La", "F") or mode.startswith("I;16")
    return in_bands(image, 1 if grey else 3, lambda band: _band_from_pil(band, clear, grey, key))


def _band_from_pil(image: Image.Image, clear: bool, grey: bool, key: Key) -> Floats:
    if image.mode == "F":
        return unit_floats(np.asarray(image)[:, :, None])
    if isinstance(key, (int, tuple)) and image.mode != "P":
        samples = np.asarray(image.convert("L") if image.mode == "1" else image)
        samples = samples[:, :, None] if samples.ndim == 2 else samples
        top = 65535 if image.mode.startswith("I;16") else 255
        return over_white(scaled(samples, top), (samples != np.asarray(key)).any(axis=2))
    if image.mode.startswith("I;16"):
        return scaled(np.asarray(image)[:, :, None], 65535)
    if clear:
        pixels = scaled(np.asarray(image.convert("LA" if grey else "RGBA")), 255)
        return over_white(pixels[:, :, :-1], pixels[:, :, -1])
    if grey:
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


def premultiplied_over_white(pixels: Floats, alpha: NDArray[np.float32]) -> Floats:
    """`pixels` [H, W, C] that are multiplied by `alpha` [H, W] already, on a white page."""
    composited: Floats = np.minimum(pixels + (1 - alpha[:, :, None]), np.float32(1))
    return composited


def unit_floats(pixels: NDArray[np.floating]) -> Floats:
    """The same samples as float32; Meaningless where they do not lie in 0..1."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Meaningless(f"the samples contain NaN or infinity; {_GIVE_A_WINDOW}, and NaN is black")
    if low < 0 or high > 1:
        raise Meaningless(
            f"floating point samples must lie in 0..1, these go from {low:g} to {high:g}; {_GIVE_A_WINDOW}"
        )
    return pixels.astype(np.float32)


def _through(samples: NDArray[np.generic], window: Window) -> Floats:
    """Grey samples [H, W, 1] through a window."""
    try:
        return windowed(samples, window)
    except ValueError as error:
        raise Meaningless(str(error)) from None


def levels(samples: NDArray[np.generic], window: Window | None) -> Floats:
    """Samples [...] as levels in 0..1, every channel as it is given; through a window [H, W, 1] alone.

    Meaningless without a known range.
    """
    kind = samples.dtype.kind
    if window is not None:
        has_range = kind in "bu" and samples.dtype.itemsize <= 2
        if samples.shape[2] in (2, 4) or (samples.shape[2] != 1 and has_range):
            raise Meaningless(GREY_ONLY)
        if kind not in "buif":
            raise Meaningless(f"{samples.dtype} samples are no levels of grey")
        return _through(samples, window)
    if kind == "u" and samples.dtype.itemsize <= 2:  # in either byte order
        return scaled(samples, 255 if samples.dtype.itemsize == 1 else 65535)
    if kind == "b":
        return samples.astype(np.float32)
    if kind == "f":
        return unit_floats(samples.astype(np.float64 if samples.dtype.itemsize > 4 else np.float32))
    raise Meaningless(f"{samples.dtype} samples have no known range; give uint8, uint16 or floats in 0..1, or a window")


def _from_ndarray(
    name: str, array: NDArray[np.generic], window: Window | None, axes: str | None, default: str
) -> tuple[Floats, Floats | None]:
    """What there is to look at, and all channels where they are neither grey nor RGB."""
    array = np.asarray(array)  # a matrix has two axes whatever is asked of it
    shape = " x ".join(map(str, array.shape)) or "a single number"
    if array.ndim == 4:
        raise ValueError(f"an array of shape {shape} is a batch; give a list of pictures: list(array)")
    if array.ndim not in (2, 3):
        raise ValueError(f"a picture is an H x W, H x W x C or (with axes => 'CHW') C x H x W array, not {shape}")
    if array.size == 0:
        raise ValueError(f"the picture has no pixels ({shape})")
    array = rows_columns_channels(array, axes, default)
    if array.ndim == 2:
        array = array[:, :, None]
    check_size(name, array.shape[0], array.shape[1])
    if not 1 <= array.shape[2] <= MAX_CHANNELS:
        raise ValueError(f"a picture is an H x W or H x W x C array, not {shape}; C is 1 to {MAX_CHANNELS}")
    pixels = levels(array, window)
    if pixels.shape[2] in (2, 4):
        return over_white(pixels[:, :, :-1], pixels[:, :, -1]), pixels
    if pixels.shape[2] > 4:
        return pixels.mean(axis=2, keepdims=True), pixels
    return pixels, None
