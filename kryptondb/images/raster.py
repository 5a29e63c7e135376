"""PNG, JPEG, TIFF, BMP and WebP through Pillow, 8 and 16 bit, floats in TIFF.

Only these formats' decoders are tried, and the size is checked before any pixel is allocated.

Pillow reads 16-bit color as 8 bit. Such files are decoded twice here, once for the high and once for the low byte of
each sample (the byte order that Pillow is told decides which one it keeps), so that no level is lost. TIFF samples that
it has no mode for are left to `tiff`.
"""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from kryptondb.errors import ImageError
from kryptondb.images import tiff
from kryptondb.images.arrays import Floats, Key, bands, from_pil, in_bands, raw_mode, transparent, upright
from kryptondb.images.content import Content, Part
from kryptondb.images.levels import (
    GRAY_ONLY,
    Meaningless,
    Window,
    check_size,
    levels,
    over_white,
    premultiplied_over_white,
    scaled,
)
from kryptondb.images.picture import PIXEL_LIMIT

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _PLANAR, _PREDICTOR = 258, 259, 262, 266, 284, 317
_TILE_WIDTH, _TILE_LENGTH, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING = 322, 323, 338, 339, 530
_YCBCR = 6
_SIGNED = 2  # a SampleFormat
_FLOATING_POINT = 3  # a Predictor
_GRAY = re.compile(r"(?:L|1)(?:;([248]?)(I?)R?)?")  # raw modes of up to 8 bits: bits, white at zero

# A program without logging of its own would see Pillow's notes on damaged TIFFs on stderr; the ImageError says it all.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read(content: Content, part: Part, window: Window | None) -> Floats:
    """H x W x C float32 in 0..1, upright, C 1 or 3.

    Raises:
        ImageError: a part that the file does not have, a size that is too large, a layout that is not supported.
        Exception: whatever Pillow raises over a damaged file.
    """
    # Given a path Pillow maps uncompressed files into memory, and then mixes up the rows of a TIFF that lies sideways.
    with content.open() as stream:
        try:
            image = Image.open(stream, formats=FORMATS)
        except UnidentifiedImageError:
            if content.start(4) in TIFF_SIGNATURES:
                part.only("TIFF", "page", shown=content.name)
                return tiff.read(content, part, window)
            raise
        with image:
            part.only(image.format or "picture", *(("page",) if image.format == "TIFF" else ()), shown=content.name)
            if not _go_to(image, part):
                return tiff.read(content, part, window)
            _check_declared_size(content.name, image)
            wide = _wide_layout(image)
            if _needs_tiff(image, wide):
                return tiff.read(content, part, window)
            _refuse_what_pillow_mistakes(image)
            if wide is not None:
                return upright(image, _read_wide(content, part, image, wide, window))
            if image.mode == "P" and (image.palette is None or not image.palette.palette):
                raise ImageError(
                    f"{content.name}: damaged {image.format}: its palette is missing"
                )  # Pillow shows black
            raw, key = raw_mode(image), transparent(image)
            image.load()
            return upright(image, _levels(image, raw, key, window))


def _go_to(image: ImageFile.ImageFile, part: Part) -> bool:
    """Turns to the page; False where Pillow finds none, or has no mode for its samples."""
    try:
        image.seek((part.page or 1) - 1)
    except (EOFError, SyntaxError):
        return False
    return True


def _check_declared_size(name: str, image: Image.Image) -> None:
    """The size that the header claims, before any of it is allocated; a TIFF's tiles have a size of their own."""
    check_size(name, image.height, image.width)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        sides = [image.tag_v2.get(tag, 1) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
        if not all(isinstance(side, int) for side in sides) or sides[0] * sides[1] > PIXEL_LIMIT:
            raise ImageError(f"{name}: damaged TIFF: tiles of {sides[1]} x {sides[0]} pixels")


def _needs_tiff(image: Image.Image, wide: _Wide | None) -> bool:
    """Whether `tiff` reads a TIFF: samples of whole bytes that it can unpack, and those that Pillow would cut short."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    tags = image.tag_v2
    bits = tags.get(_BITS_PER_SAMPLE, (1,))
    if (
        tags.get(_COMPRESSION, tiff.NONE) in tiff.COMPRESSIONS
        and tags.get(_PHOTOMETRIC) in tiff.PHOTOMETRICS
        and all(number % 8 == 0 for number in bits)
        and tags.get(_FILL_ORDER, 1) == 1
        and not (image.mode == "F" and tags.get(_PREDICTOR) == _FLOATING_POINT)
    ):
        return True
    if wide is not None:
        return False
    opaque = image.mode == "RGB" or tags.get(_EXTRA_SAMPLES) is not None
    if tags.get(_PLANAR, 1) != 1 and not (opaque and image.mode in ("RGB", "RGBA")) and image.mode != "CMYK":
        return True  # planes that libtiff unpacks and Pillow puts together as if they were pixels
    signed: bool = _SIGNED in tags.get(_SAMPLE_FORMAT, ())
    return image.mode == "I" or signed or (max(bits) > 8 and not image.mode.startswith(("I", "F")))


def _levels(image: Image.Image, raw: str, key: Key, window: Window | None) -> Floats:
    """What a loaded image shows. Some gray samples Pillow leaves as they are stored, others it makes 0..255.

    Args:
        raw: Pillow's raw mode, which says how samples lie in the file: 'L;4I' for 4 bits, white at zero.
        key: what stands for transparent.
    """
    depth = _GRAY.fullmatch(raw)
    if window is not None and depth is not None and key is None:
        top = 2 ** int(depth[1] or ("1" if raw[0] == "1" else "8")) - 1
        return _windowed(image, top, inverted=bool(depth[2]), window=window)
    pixels = from_pil(image, window, key)
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.mode.startswith(("I;16", "F")):
        return pixels
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]
    if bits < 16 and window is None:  # Pillow leaves 12-bit samples at 0..4095
        pixels *= np.float32(65535 / (2**bits - 1))
    return np.float32(1) - pixels if image.tag_v2.get(_PHOTOMETRIC) == tiff.WHITE_IS_ZERO else pixels


def _windowed(image: Image.Image, top: int, *, inverted: bool, window: Window) -> Floats:
    """Gray of 1 to 8 bits, which Pillow makes 0..255 with white the most, through a window in the file's own units."""

    def convert(band: Image.Image) -> Floats:
        samples = np.asarray(band.convert("L"))[:, :, None] // (255 // top)
        seen = levels(top - samples if inverted else samples, window)
        return np.float32(1) - seen if inverted else seen

    return in_bands(image, 1, convert)


def _refuse_what_pillow_mistakes(image: ImageFile.ImageFile) -> None:
    """Meaningless for TIFF samples that Pillow unpacks as others; mends those that it only swaps."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    compression = tags.get(_COMPRESSION, tiff.NONE)
    subsampled = tuple(tags.get(_SUBSAMPLING, (2, 2))) != (1, 1)
    if tags.get(_PHOTOMETRIC) == _YCBCR and compression in (tiff.NONE, tiff.PACKBITS) and subsampled:
        raise Meaningless("subsampled YCbCr is not supported without compression; store the picture as RGB")
    if image.mode == "F" and any(tile.codec_name == "libtiff" for tile in image.tile):
        _use_raw_mode(image, "F;32NF")  # libtiff has put the bytes in this machine's order already
    if raw_mode(image) == "L;IR":
        raise Meaningless("8-bit samples with their bits in reverse order and white at zero are not supported")


@dataclass(frozen=True)
class _Wide:
    """How to get at 16-bit color: the raw modes that give the high and the low bytes.

    With `low` None the samples are two 16-bit values a pixel, read as four bytes: gray high, low, alpha high, low.
    """

    high: str
    low: str | None
    premultiplied: bool = False


def _wide_layout(image: ImageFile.ImageFile) -> _Wide | None:
    """How the 16-bit color of a page just turned to is stored; None where Pillow cannot unpack it as such."""
    raw = raw_mode(image)
    if raw == "LA;16B":
        return _Wide("RGBA", None)
    base, _, order = raw.partition(";16")
    if order in ("B", "L", "N") and base in ("RGB", "RGBA", "RGBa", "RGBX"):
        if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PLANAR, 1) != 1:
            return None
        other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[order]
        straight = "RGBA" if base == "RGBa" else base  # undoing the premultiplication byte by byte would be wrong
        return _Wide(f"{straight};16{order}", f"{straight};16{other}", premultiplied=base == "RGBa")
    return None


def _read_wide(content: Content, part: Part, image: ImageFile.ImageFile, wide: _Wide, window: Window | None) -> Floats:
    """H x W x C float32 from 16-bit color. `image` is left loaded, for its metadata."""
    if window is not None:
        raise Meaningless(GRAY_ONLY)
    _load_as(image, wide.high)
    if wide.low is None:
        return in_bands(image, 1, lambda band: _gray_alpha(np.asarray(band)))
    with content.open() as stream, Image.open(stream, formats=FORMATS) as again:
        _go_to(again, part)
        _load_as(again, wide.low)
        key = image.info.get("transparency")
        pixels: Floats = np.empty((image.height, image.width, 3), dtype=np.float32)
        for top, bottom in bands(image):
            box = (0, top, image.width, bottom)
            high, low = np.asarray(image.crop(box)), np.asarray(again.crop(box))
            pixels[top:bottom] = _color(high.astype(np.uint16) * 256 + low, key, wide.premultiplied)
    return pixels


def _gray_alpha(four: NDArray[np.uint8]) -> Floats:
    """[H, W, 4] bytes, gray high, low, alpha high, low, on white: [H, W, 1]."""
    levels = scaled(four[:, :, 0::2].astype(np.uint16) * 256 + four[:, :, 1::2], 65535)
    return over_white(levels[:, :, :1], levels[:, :, 1])


def _color(samples: NDArray[np.uint16], key: object, premultiplied: bool) -> Floats:
    """[H, W, 3 or 4] samples on white; `key` is the one color of a PNG that stands for transparent."""
    pixels = scaled(samples, 65535)
    if samples.shape[2] == 3:
        if key is None:
            return pixels
        return over_white(pixels, (samples != np.asarray(key, dtype=np.uint16)).any(axis=2))
    color, alpha = pixels[:, :, :-1], pixels[:, :, -1]
    return premultiplied_over_white(color, alpha) if premultiplied else over_white(color, alpha)


def _load_as(image: ImageFile.ImageFile, mode: str) -> None:
    """Loads a page that was just turned to, its data unpacked as a raw mode."""
    _use_raw_mode(image, mode)
    image.load()


def _use_raw_mode(image: ImageFile.ImageFile, mode: str) -> None:
    image.tile = [
        tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode) for tile in image.tile
    ]
