"""TIFF samples of whole bytes as they are stored: gray and RGB in any type, order, plane and tile.

Read by tifffile, which scikit-image brings along: Pillow cuts many of them short, and mixes up others (signed samples,
planes, channels beside the colors). What the tags say of a sample is applied here: white is zero, and what the extra
samples are. Nothing is decoded before its size is known to be what the header says: tifffile itself would inflate
whatever a strip holds, and fill in what is missing.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kryptondb.errors import ImageError
from kryptondb.images.arrays import Floats
from kryptondb.images.content import Content, Part
from kryptondb.images.levels import (
    GRAY_ONLY,
    Meaningless,
    Window,
    check_size,
    levels,
    over_white,
    premultiplied_over_white,
    turned,
)
from kryptondb.images.picture import PIXEL_LIMIT

# As with Pillow: an ImageError says it all.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

NONE, DEFLATE, ADOBE_DEFLATE, PACKBITS = 1, 32946, 8, 32773
#: Compressions that are undone here.
COMPRESSIONS = (NONE, DEFLATE, ADOBE_DEFLATE, PACKBITS)
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
PHOTOMETRICS = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
#: What an extra sample is, by the tag ExtraSamples.
_ASSOCIATED, _UNASSOCIATED = 1, 2
_LARGEST_SAMPLE = 8  # bytes: float64
_MOST_EXTRA = 3  # samples beside the colors
_MOST_BYTES = 640 << 20  # of a page, before it is made float32: 80 million pixels of gray as float64
_ORIENTATION, _EXTRA_SAMPLES = 274, 338
_FLOATING_POINT_PREDICTOR = 3


def read(content: Content, part: Part, window: Window | None) -> Floats:
    """H x W x C float32 in 0..1, upright, C 1 or 3.

    Raises:
        ImageError: a page that is not there, a size that is too large, or strips that do not hold what they should.
        Meaningless: a layout or a compression that is not supported, samples without a known range.
        Exception: whatever tifffile raises over a damaged file.
    """
    from tifffile import TiffFile

    with content.open() as stream, TiffFile(stream, name=content.name) as file:
        page, after = _page(content.name, file, part)
        _check(content.name, page, stream, after)
        pixels = _on_white(_samples(file, page, after), page, window)
        tag = page.tags.get(_ORIENTATION)
        return turned(pixels, tag.value if tag is not None else 1)


def _page(name: str, file: TiffFile, part: Part) -> tuple[TiffPage, int]:
    """The page that is asked for, and how many pictures before it ImageJ has put behind that page's directory.

    ImageJ writes a stack of any length as one directory and the planes one after the other, uncompressed; its
    description says how many there are.
    """
    number = part.page or 1
    try:
        return file.pages[number - 1].aspage(), 0
    except IndexError:
        found = len(file.pages)
    images = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    if found == 1 and isinstance(images, int) and images > 1:
        if number <= images:
            return file.pages[0].aspage(), number - 1
        found = images
    raise ImageError(f"{name}: no page {number:,}: it has {found:,}")


def _samples(file: TiffFile, page: TiffPage, after: int) -> NDArray[np.generic]:
    """[H, W, C]."""
    if not after:
        return _channels_last(page.asarray(maxworkers=1), page)
    offset = page.dataoffsets[0] + after * page.nbytes
    dtype = np.dtype(page.dtype).newbyteorder(file.byteorder)
    return _channels_last(file.filehandle.read_array(dtype, page.size, offset).reshape(page.shape), page)


def _on_white(samples: NDArray[np.generic], page: TiffPage, window: Window | None) -> Floats:
    """[H, W, C] samples as H x W x 1 or 3 in 0..1. Of extra samples only opacity is looked at."""
    photometric = int(page.photometric)
    colors = 3 if photometric == RGB else 1
    opacity = _opacity(samples.shape[2], colors, page)
    if window is not None and (colors == 3 or opacity is not None):
        raise Meaningless(GRAY_ONLY)
    pixels = levels(samples[:, :, :colors], window)
    if opacity is None:
        return np.float32(1) - pixels if photometric == WHITE_IS_ZERO else pixels
    place, associated = opacity
    if associated and photometric == WHITE_IS_ZERO:  # what is stored is (1 - gray) times opacity
        return np.float32(1) - pixels
    alpha = levels(samples[:, :, place], None)
    if associated:
        return premultiplied_over_white(pixels, alpha)
    return over_white(np.float32(1) - pixels if photometric == WHITE_IS_ZERO else pixels, alpha)


def _opacity(channels: int, colors: int, page: TiffPage) -> tuple[int, bool] | None:
    """Which channel is the opacity, and whether the colors are multiplied by it already; None where none is.

    A file without the tag but with one channel more means opacity, as Pillow has it.
    """
    tag = page.tags.get(_EXTRA_SAMPLES)
    if tag is None:
        return (colors, False) if channels == colors + 1 else None
    kinds: Sequence[int] = tag.value if isinstance(tag.value, tuple) else (tag.value,)
    for place, kind in enumerate(kinds, start=channels - len(kinds)):
        if int(kind) in (_ASSOCIATED, _UNASSOCIATED) and colors <= place < channels:
            return place, int(kind) == _ASSOCIATED
    return None


def _check(name: str, page: TiffPage, stream: BinaryIO, after: int) -> None:
    """Everything that the page claims, and what its strips really hold."""
    check_size(name, page.imagelength, page.imagewidth)
    channels, compression = page.samplesperpixel, int(page.compression)
    colors = 3 if int(page.photometric) == RGB else 1
    if (
        page.imagedepth != 1
        or not colors <= channels <= colors + _MOST_EXTRA
        or page.dtype is None
        or int(page.photometric) not in PHOTOMETRICS
    ):
        raise Meaningless(f"this layout of TIFF samples ({page.axes}, {channels} per pixel) is not supported")
    if page.dtype.itemsize > _LARGEST_SAMPLE or page.dtype.kind not in "buif" or page.bitspersample % 8:
        raise Meaningless(f"samples of {page.bitspersample} bits are not supported")
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    height = min(height, page.imagelength) if not page.is_tiled else height
    if min(height, width) < 1 or height * width > PIXEL_LIMIT:
        raise ImageError(f"{name}: damaged TIFF: tiles of {height} x {width} pixels")
    if page.nbytes > _MOST_BYTES:
        raise ImageError(f"{name}: {page.nbytes:,} bytes of samples are more than the {_MOST_BYTES:,} that are read")
    if compression not in COMPRESSIONS:
        raise Meaningless(
            f"{page.dtype} samples compressed as {_compression(compression)} are not supported; "
            "store them uncompressed or deflated"
        )
    if int(page.predictor) == _FLOATING_POINT_PREDICTOR:
        raise Meaningless(f"{page.dtype} samples with a floating point predictor are not supported")
    if int(page.fillorder) != 1:
        raise Meaningless(f"{page.dtype} samples with their bits in reverse order are not supported")
    if after:
        size = stream.seek(0, 2)
        if compression != NONE or page.dataoffsets[0] + (after + 1) * page.nbytes > size:
            raise ImageError(f"{name}: damaged TIFF: page {after + 1:,} of its stack lies beyond the end of the file")
        return
    _check_strips(name, page, stream, (height, width))


def _check_strips(name: str, page: TiffPage, stream: BinaryIO, shape: tuple[int, int]) -> None:
    """Each strip or tile, of a shape in pixels, lies in the file and holds its bytes: neither less nor far more."""
    compression = int(page.compression)
    together = page.samplesperpixel if int(page.planarconfig) == 1 else 1
    row = shape[1] * together * np.dtype(page.dtype).itemsize
    down = -(-page.imagelength // shape[0])
    across = -(-page.imagewidth // shape[1])
    count = down * across * (page.samplesperpixel // together)
    if len(page.dataoffsets) < count or len(page.databytecounts) < count:
        raise ImageError(f"{name}: damaged TIFF: {len(page.dataoffsets):,} strips of {count:,}")
    size = stream.seek(0, 2)
    for index, (offset, length) in enumerate(zip(page.dataoffsets[:count], page.databytecounts, strict=False)):
        rows = shape[0] if page.is_tiled else min(shape[0], page.imagelength - index % down * shape[0])
        least, most = rows * row, shape[0] * row
        if length > most + 1024 and compression != NONE:
            raise ImageError(f"{name}: damaged TIFF: a strip of {length:,} bytes for {most:,}")
        if offset <= 0 or length <= 0 or offset + (least if compression == NONE else length) > size:
            raise ImageError(f"{name}: damaged TIFF: a strip that lies beyond the end of the file")
        if compression in (DEFLATE, ADOBE_DEFLATE):
            stream.seek(offset)
            held = len(zlib.decompressobj().decompress(stream.read(length), most + 1))
            if not least <= held <= most:
                what = "more" if held > most else "less"
                raise ImageError(f"{name}: damaged TIFF: a strip holds {what} than its {least:,} bytes")


def _compression(number: int) -> str:
    from tifffile import COMPRESSION

    known = {member.value: member.name for member in COMPRESSION}
    return known.get(number, "something unknown")


def _channels_last(samples: NDArray[np.generic], page: TiffPage) -> NDArray[np.generic]:
    """[H, W], [H, W, C] or [C, H, W] as the page has it -> [H, W, C]."""
    if page.axes == "YX":
        return samples[:, :, None]
    if page.axes == "SYX":
        return samples.transpose(1, 2, 0)
    if page.axes == "YXS":
        return samples
    raise Meaningless(f"this layout of TIFF samples ({page.axes}) is not supported")
