"""A picture's bytes to a Picture: PNG, JPEG, TIFF, BMP and WebP, DICOM and NIfTI, and one kind of error for all else.

Nothing in a file is trusted or executed: only these formats' decoders are tried, sizes are checked before any pixel is
allocated, and whatever a damaged file makes a decoder raise arrives as an ImageError that names the file.

Decoding runs in threads. Warnings about harmless oddities are therefore left to the program's own filters, which no
thread can change for itself alone; the command line silences Pillow's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kryptondb.errors import ImageError
from kryptondb.images import dicom, nifti, raster
from kryptondb.images.arrays import Floats, from_array
from kryptondb.images.content import WHOLE, Content, Part, file_content
from kryptondb.images.dicom_header import is_dicom
from kryptondb.images.levels import Meaningless, Window
from kryptondb.images.picture import PIXEL_LIMIT, Picture

__all__ = ["SUFFIXES", "decode", "from_array"]

_VOXELS = frozenset({".img", ".img.gz"})
_LOOKED_AT = 352  # bytes, which tell the formats apart


@dataclass(frozen=True)
class Decoder:
    """A format of pictures.

    Attributes:
        name: in words.
        suffixes: of its files.
        takes: whether a file is one, by its first bytes and its suffix.
        read: reads a picture: H x W x C float32 in 0..1, upright, C 1 or 3. Raises ImageError or Meaningless.
    """

    name: str
    suffixes: frozenset[str]
    takes: Callable[[bytes, str], bool]
    read: Callable[[Content, Part, Window | None], Floats]


def _starts(*signatures: bytes) -> Callable[[bytes, str], bool]:
    return lambda start, _: start.startswith(signatures)


#: A new format is a line here, and the module that reads it. The later ones come first: a DICOM file may begin as a
#: TIFF does.
DECODERS = (
    Decoder("PNG", frozenset({".png"}), _starts(b"\x89PNG"), raster.read),
    Decoder("JPEG", frozenset({".jpg", ".jpeg", ".jpe", ".jfif"}), _starts(b"\xff\xd8\xff"), raster.read),
    Decoder("TIFF", frozenset({".tif", ".tiff"}), _starts(*raster.TIFF_SIGNATURES), raster.read),
    Decoder("BMP", frozenset({".bmp", ".dib"}), _starts(b"BM"), raster.read),
    Decoder(
        "WebP",
        frozenset({".webp"}),
        lambda start, _: start[:4] == b"RIFF" and start[8:12] == b"WEBP",
        raster.read,
    ),
    Decoder("DICOM", dicom.SUFFIXES, lambda start, _: is_dicom(start), dicom.read),
    Decoder(
        "NIfTI",
        nifti.SUFFIXES,
        lambda start, suffix: not is_dicom(start) and nifti.is_nifti(start, suffix),
        nifti.read,
    ),
)
SUFFIXES = frozenset(suffix for decoder in DECODERS for suffix in decoder.suffixes)
_SUPPORTED = " or ".join((", ".join(decoder.name for decoder in DECODERS[:-1]), DECODERS[-1].name))

# First bytes of what KryptonDB cannot read -> what it is.
_FOREIGN = {
    b"GIF8": "a GIF",
    b"%PDF": "a PDF document",
    b"\x00\x00\x00\x0cjP": "a JPEG 2000 picture",
    b"PK\x03\x04": "a ZIP archive",
    b"\x93NUMPY": "a numpy file",
    b"PAR1": "a Parquet table",
    b"ARROW1": "an Arrow table",
}


def decode(source: str | Path | Content, part: Part = WHOLE, window: Window | None = None) -> Picture:
    """Reads a picture. It is named after the path as given, or as the content is, and after the part.

    Args:
        source: the path of a file, or bytes from elsewhere.
        part: which frame, page or slice, of files that hold several. Of frames and pages the first is the default.
        window: (center, width) of the samples that are shown, in the file's units, for gray pictures.

    Raises:
        ImageError: the file cannot be read, is not a picture of these formats, is damaged, or is too large.
    """
    content = source if isinstance(source, Content) else file_content(source)
    name = f"{content.name}#{part}" if part.given() else content.name
    try:
        decoder = _decoder(content)
        pixels = (decoder.read if decoder is not None else raster.read)(content, part, window)
        return Picture(name, np.ascontiguousarray(pixels, dtype=np.float32))
    except ImageError:
        raise
    except Meaningless as error:
        raise ImageError(f"{name}: {error}") from None
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to decode it") from error
    except Exception as error:  # a damaged file can make a decoder raise anything at all
        raise ImageError(f"{name}: {_reason(content, error)}") from error


def _decoder(content: Content) -> Decoder | None:
    """What reads it: its first bytes decide, else (an older DICOM file has no signature) its suffix."""
    start = content.start(_LOOKED_AT)
    by_start = (decoder for decoder in reversed(DECODERS) if decoder.takes(start, content.suffix))
    by_suffix = (decoder for decoder in DECODERS if start and content.suffix in decoder.suffixes)
    return next(by_start, None) or next(by_suffix, None)


def _reason(content: Content, error: Exception) -> str:
    """What is wrong with the file, for a person."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, Image.DecompressionBombError):
        return f"its header claims far more than the {PIXEL_LIMIT:,} pixels that are read"
    start = content.start(_LOOKED_AT)
    kind = next((decoder.name for decoder in DECODERS if decoder.takes(start, "")), None)
    if not isinstance(error, UnidentifiedImageError):
        return f"damaged or truncated {kind or 'file'}: {str(error) or type(error).__name__}"
    if kind is not None:
        return f"damaged or unsupported {kind}: its header cannot be read"
    if content.suffix in _VOXELS:
        return (
            "not a picture; if these are the voxels of a volume in two files (.hdr and .img), store it as one .nii file"
        )
    foreign = next((name for signature, name in _FOREIGN.items() if start.startswith(signature)), None)
    return f"{foreign}, not a {_SUPPORTED} picture" if foreign else f"not a {_SUPPORTED} picture"
