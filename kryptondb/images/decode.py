"""A picture's bytes to a Picture: PNG, JPEG, TIFF, BMP and WebP, DICOM and NIfTI, and one kind of error for all else.

Nothing in a file is trusted or executed: only these formats' decoders are tried, sizes are checked before any pixel is
allocated, and whatever a damaged file makes a decoder raise arrives as an ImageError that names the file.

Decoding runs in threads. Warnings about harmless oddities are therefore left to the program's own filters, which no
thread can change for itself alone; the command line silences Pillow's.
"""

from __future__ import annotations

from collections.abc import Callable
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

_RASTER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp"})
SUFFIXES = _RASTER_SUFFIXES | dicom.SUFFIXES | nifti.SUFFIXES
_SUPPORTED = "PNG, JPEG, TIFF, BMP, WebP, DICOM or NIfTI"
_VOXELS = frozenset({".img", ".img.gz"})
_LOOKED_AT = 352  # bytes, which tell the formats apart

# First bytes of a file -> what it is; the second table is for what KryptonDB cannot read.
_SIGNATURES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    **dict.fromkeys(raster.TIFF_SIGNATURES, "TIFF"),
    b"BM": "BMP",
}
_FOREIGN = {
    b"GIF8": "a GIF",
    b"%PDF": "a PDF document",
    b"\x00\x00\x00\x0cjP": "a JPEG 2000 picture",
    b"PK\x03\x04": "a ZIP archive",
    b"\x93NUMPY": "a numpy file",
    b"PAR1": "a Parquet table",
    b"ARROW1": "an Arrow table",
}

Reader = Callable[[Content, Part, "Window | None"], Floats]


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
        pixels = _reader(content)(content, part, window)
        return Picture(name, np.ascontiguousarray(pixels, dtype=np.float32))
    except ImageError:
        raise
    except Meaningless as error:
        raise ImageError(f"{name}: {error}") from None
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to decode it") from error
    except Exception as error:  # a damaged file can make a decoder raise anything at all
        raise ImageError(f"{name}: {_reason(content, error)}") from error


def _reader(content: Content) -> Reader:
    """What reads it: its first bytes decide. An older DICOM file without a signature is known by its suffix."""
    start = content.start(_LOOKED_AT)
    if is_dicom(start):
        return dicom.read
    if (
        nifti.is_nifti(start)
        or nifti.is_pair(start)
        or nifti.is_gzip(start)
        or (start and content.suffix in nifti.SUFFIXES)
    ):
        return nifti.read
    if start and content.suffix in dicom.SUFFIXES and _kind(start) is None:
        return dicom.read
    return raster.read


def _kind(start: bytes) -> str | None:
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    return next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), None)


def _reason(content: Content, error: Exception) -> str:
    """What is wrong with the file, for a person."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, Image.DecompressionBombError):
        return f"its header claims far more than the {PIXEL_LIMIT:,} pixels that are read"
    start = content.start(_LOOKED_AT)
    kind = _kind(start)
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
