"""A picture file to a Picture: PNG, JPEG, TIFF, BMP and WebP, 8 and 16 bit, and one kind of error for everything else.

Nothing in a file is trusted or executed: only these formats' decoders are tried, the size is checked before any pixel
is allocated, and whatever a damaged file makes a decoder raise arrives as an ImageError that names the file. Of a file
with several pages or frames the first is read.

Pillow reads 16-bit colour as 8 bit. Such files are decoded twice here, once for the high and once for the low byte of
each sample (the byte order that Pillow is told decides which one it keeps), so that no level is lost.
"""

from __future__ import annotations

import logging
import stat
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from kryptondb.errors import ImageError
from kryptondb.images.arrays import Floats, check_size, from_array, from_pil, over_white, scaled, upright
from kryptondb.images.picture import PIXEL_LIMIT, Picture, printable

__all__ = ["FORMATS", "SUFFIXES", "decode", "from_array"]

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp"})
_SUPPORTED = "PNG, JPEG, TIFF, BMP or WebP"

# First bytes of a file -> what it is; the second table is for what KryptonDB cannot read.
_SIGNATURES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"BM": "BMP",
}
_FOREIGN = {
    b"GIF8": "a GIF",
    b"%PDF": "a PDF document",
    b"\x00\x00\x00\x0cjP": "a JPEG 2000 picture",
    b"PK\x03\x04": "a ZIP archive",
    b"\x93NUMPY": "a numpy file",
}

_BITS_PER_SAMPLE, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH, _PLANAR, _EXTRA = 258, 262, 322, 323, 284, 338

# A program without logging of its own would see Pillow's notes on damaged TIFFs on stderr; the ImageError says it all.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def decode(path: str | Path) -> Picture:
    """Reads a picture file. The picture is named after `path` as given.

    Raises:
        ImageError: the file cannot be read, is not a picture of these formats, is damaged, or is too large.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns about harmless oddities in metadata; what matters it raises.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return Picture(printable(path), np.ascontiguousarray(_read(Path(path)), dtype=np.float32))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{printable(path)}: not enough memory to decode it") from error
    except Exception as error:  # a damaged file can make a decoder raise anything at all
        raise ImageError(f"{printable(path)}: {_reason(Path(path), error)}") from error


def _read(path: Path) -> Floats:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{printable(path)}: is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{printable(path)}: is not a regular file")
    if status.st_size == 0:
        raise ImageError(f"{printable(path)}: the file is empty")
    # Given a path Pillow maps uncompressed files into memory, and then mixes up the rows of a TIFF that lies sideways.
    with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
        _check_declared_size(path, image)
        wide = _wide_layout(path, image)
        if wide is not None:
            pixels = _read_wide(path, image, wide)
        else:
            image.load()
            pixels = _tiff_range(image, from_pil(image))
        return upright(image, pixels)


def _check_declared_size(path: Path, image: Image.Image) -> None:
    """The size that the header claims, before any of it is allocated; a TIFF's tiles have a size of their own."""
    check_size(printable(path), image.height, image.width)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        sides = [image.tag_v2.get(tag, 1) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
        if not all(isinstance(side, int) for side in sides) or sides[0] * sides[1] > PIXEL_LIMIT:
            raise ImageError(f"{printable(path)}: damaged TIFF: tiles of {sides[1]} x {sides[0]} pixels")


def _tiff_range(image: Image.Image, pixels: Floats) -> Floats:
    """Greyscale TIFF of more than 8 bits: Pillow leaves 12-bit samples at 0..4095, and white-is-zero as it is."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.mode.startswith("I;16"):
        return pixels
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]
    if bits < 16:
        pixels = pixels * np.float32(65535 / (2**bits - 1))
    return 1 - pixels if image.tag_v2.get(_PHOTOMETRIC) == 0 else pixels


@dataclass(frozen=True)
class _Wide:
    """How to get at 16-bit colour: the raw modes that give the high and the low bytes.

    With `low` None the samples are two 16-bit values a pixel, read as four bytes: grey high, low, alpha high, low.
    """

    high: str
    low: str | None
    premultiplied: bool = False


def _wide_layout(path: Path, image: ImageFile.ImageFile) -> _Wide | None:
    """How the 16-bit colour of a file just opened is stored; None when its samples are not 16-bit colour."""
    raw_modes = {tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile if tile.args}
    raw = raw_modes.pop() if len(raw_modes) == 1 else ""
    is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
    if raw == "LA;16B":
        return _Wide("RGBA", None)
    base, _, order = raw.partition(";16")
    if order in ("B", "L", "N") and base in ("RGB", "RGBA", "RGBa", "RGBX"):
        if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PLANAR, 1) != 1:
            raise ImageError(
                f"{printable(path)}: 16-bit colour in separate planes is not supported; store it interleaved"
            )
        other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[order]
        straight = "RGBA" if base == "RGBa" else base  # undoing the premultiplication byte by byte would be wrong
        return _Wide(f"{straight};16{order}", f"{straight};16{other}", premultiplied=base == "RGBa")
    deep = is_tiff and max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8  # type: ignore[attr-defined]
    if deep and not image.mode.startswith(("I", "F")):
        raise ImageError(
            f"{printable(path)}: this layout of 16-bit {image.mode} samples is not supported; store it as RGB or grey"
        )
    return None


def _read_wide(path: Path, image: ImageFile.ImageFile, wide: _Wide) -> Floats:
    """H x W x C float32 from 16-bit colour. `image` is left loaded, for its metadata."""
    high = _bytes(image, wide.high)
    if wide.low is None:
        samples = high[:, :, 0::2].astype(np.uint16) * 256 + high[:, :, 1::2]
    else:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as again:
            samples = high.astype(np.uint16) * 256 + _bytes(again, wide.low)
    pixels = scaled(samples, 65535)
    key = image.info.get("transparency")
    if key is not None and samples.shape[2] == 3:  # PNG: one colour stands for transparent
        return over_white(pixels, (samples != np.asarray(key, dtype=np.uint16)).any(axis=2))
    if samples.shape[2] == 3:
        return pixels
    colour, alpha = pixels[:, :, :-1], pixels[:, :, -1]
    if wide.premultiplied:
        composited: Floats = np.minimum(colour + (1 - alpha[:, :, None]), np.float32(1))
        return composited
    return over_white(colour, alpha)


def _bytes(image: ImageFile.ImageFile, raw_mode: str) -> NDArray[np.uint8]:
    """Loads an image that was just opened, its data unpacked as `raw_mode`: H x W x channels."""
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]
    image.load()
    return np.asarray(image)


def _reason(path: Path, error: Exception) -> str:
    """What is wrong with the file, for a person."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, Image.DecompressionBombError):
        return f"its header claims far more than the {PIXEL_LIMIT:,} pixels that are read"
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except (OSError, ValueError):
        start = b""
    kind = next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), None)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        kind = "WebP"
    if not isinstance(error, UnidentifiedImageError):
        return f"damaged or truncated {kind or 'file'}: {str(error) or type(error).__name__}"
    if kind is not None:
        return f"damaged or unsupported {kind}: its header cannot be read"
    foreign = next((name for signature, name in _FOREIGN.items() if start.startswith(signature)), None)
    if start[128:132] == b"DICM":
        return "a DICOM file, which this version does not read; save its pixels as a 16-bit PNG"
    return f"{foreign}, not a {_SUPPORTED} picture" if foreign else f"not a {_SUPPORTED} picture"
