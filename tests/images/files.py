"""Writers for what Pillow cannot save: PNG of any bit depth and color type, straight from the specification."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def png_bytes(samples: NDArray[np.generic], *, transparent: tuple[int, ...] | None = None) -> bytes:
    """A PNG of H x W x C samples, uint8 or uint16, with an optional tRNS color."""
    height, width, channels = samples.shape
    big_endian = samples.astype(samples.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)
    header = struct.pack(">IIBBBBB", width, height, 8 * samples.itemsize, COLOR_TYPES[channels], 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if transparent is not None:
        chunks.append((b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def write_png(path: Path, samples: NDArray[np.generic], **options: tuple[int, ...] | None) -> Path:
    """`png_bytes` in a file; returns its path."""
    path.write_bytes(png_bytes(samples, **options))
    return path


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
