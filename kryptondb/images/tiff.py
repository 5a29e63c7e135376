"""TIFF samples that Pillow cuts short: floats of any size, signed and 32-bit integers, 16-bit colour in planes.

Read by tifffile, which scikit-image brings along. Nothing is decoded before its size is known to be what the header
says: tifffile itself would inflate whatever a strip holds.
"""

from __future__ import annotations

import logging
import zlib
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kryptondb.errors import ImageError
from kryptondb.images.arrays import Floats, Meaningless, check_size, from_samples, turned
from kryptondb.images.content import Content
from kryptondb.images.levels import Window
from kryptondb.images.part import Part
from kryptondb.images.picture import PIXEL_LIMIT

# As with Pillow: an ImageError says it all.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from tifffile import TiffPage

_NONE, _DEFLATE, _ADOBE_DEFLATE, _PACKBITS = 1, 32946, 8, 32773
_LARGEST_SAMPLE = 8  # bytes: float64
_MOST_BYTES = 640 << 20  # of a page, before it is made float32: 80 million pixels of grey as float64
_ORIENTATION = 274
_PHOTOMETRICS = (0, 1, 2)  # white is zero, black is zero, RGB


def read(content: Content, part: Part, window: Window | None) -> Floats:
    """H x W x C float32 in 0..1, upright, C 1 or 3.

    Raises:
        ImageError: a page that is not there, or a size that is too large.
        Meaningless: a layout or a compression that is not supported, samples without a known range.
        Exception: whatever tifffile raises over a damaged file.
    """
    from tifffile import TiffFile

    with content.open() as stream, TiffFile(stream) as file:
        try:
            page = file.pages[(part.page or 1) - 1]
        except IndexError:
            raise ImageError(f"{content.name}: no page {part.page}: it has {len(file.pages):,}") from None
        page = page.aspage()
        _check(content.name, page, stream)
        samples = _channels_last(page.asarray(maxworkers=1), page)
        pixels = from_samples(samples, window)
        if int(page.photometric) == 0:
            pixels = np.float32(1) - pixels
        tag = page.tags.get(_ORIENTATION)
        return turned(pixels, tag.value if tag is not None else 1)


def _check(name: str, page: TiffPage, stream: BinaryIO) -> None:
    """Everything that the page claims, and what its strips really hold."""
    from tifffile import COMPRESSION

    check_size(name, page.imagelength, page.imagewidth)
    channels, compression = page.samplesperpixel, int(page.compression)
    if (
        page.imagedepth != 1
        or not 1 <= channels <= 4
        or page.dtype is None
        or int(page.photometric) not in _PHOTOMETRICS
    ):
        raise Meaningless(f"this layout of TIFF samples ({page.axes}, {channels} a pixel) is not supported")
    if page.dtype.itemsize > _LARGEST_SAMPLE or page.dtype.kind not in "buif" or page.bitspersample % 8:
        raise Meaningless(f"samples of {page.bitspersample} bits are not supported")
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    height = min(height, page.imagelength) if not page.is_tiled else height
    if min(height, width) < 1 or height * width > PIXEL_LIMIT:
        raise ImageError(f"{name}: damaged TIFF: tiles of {height} x {width} pixels")
    size = page.imagelength * page.imagewidth * channels * page.dtype.itemsize
    if size > _MOST_BYTES:
        raise ImageError(f"{name}: {size:,} bytes of samples are more than the {_MOST_BYTES:,} that are read")
    if compression == _NONE:
        return
    if compression not in (_DEFLATE, _ADOBE_DEFLATE, _PACKBITS):
        known = {member.value: member.name for member in COMPRESSION}
        raise Meaningless(
            f"{page.dtype} samples compressed as {known.get(compression, 'something unknown')} are not supported; "
            "store them uncompressed or deflated"
        )
    most = height * width * page.dtype.itemsize * channels
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count > most + 1024:
            raise ImageError(f"{name}: damaged TIFF: a strip of {count:,} bytes for {most:,}")
        if compression != _PACKBITS:
            stream.seek(offset)
            if len(zlib.decompressobj().decompress(stream.read(count), most + 1)) > most:
                raise ImageError(f"{name}: damaged TIFF: a strip holds more than its {most:,} bytes")


def _channels_last(samples: NDArray[np.generic], page: TiffPage) -> NDArray[np.generic]:
    """[H, W], [H, W, C] or [C, H, W] as the page has it -> [H, W, C]."""
    if page.axes == "YX":
        return samples[:, :, None]
    if page.axes == "SYX":
        return samples.transpose(1, 2, 0)
    if page.axes == "YXS":
        return samples
    raise Meaningless(f"this layout of TIFF samples ({page.axes}) is not supported")
