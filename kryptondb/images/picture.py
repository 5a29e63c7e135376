"""A decoded picture: a name and its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The most pixels a picture may have: a size above it is refused before anything is allocated. As float32 RGB a picture
# of this size takes about 1 GB; the largest radiographs and mammographs have a quarter of it.
PIXEL_LIMIT = 80_000_000


@dataclass(frozen=True, eq=False)
class Picture:
    """What a file or an array looks like, before any model's preprocessing.

    `pixels` is H x W x C float32 in 0..1, upright (EXIF orientation applied), without alpha; C is 1 (gray) or 3 (RGB).
    `name` is what the `image` column shows: the path as it was found, a sample's name, or where an array stood.
    `planes` is every channel as it was given, H x W x N float32 in 0..1, for models that read other channels than gray
    or RGB; `pixels` then is what there is to look at. None where `pixels` is all there is.
    """

    name: str
    pixels: NDArray[np.float32]
    planes: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] not in (1, 3) or 0 in self.pixels.shape:
            raise ValueError(f"pixels must be H x W x 1 or H x W x 3, not {' x '.join(map(str, self.pixels.shape))}")
        if self.pixels.dtype != np.float32:
            raise ValueError(f"pixels must be float32, not {self.pixels.dtype}")
        if self.planes is not None and self.planes.shape[:2] != self.pixels.shape[:2]:
            raise ValueError("planes must have the height and width of pixels")

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 for gray, 3 for RGB."""
        return int(self.pixels.shape[2])


def content_hash(picture: Picture) -> str:
    """sha256 in hex of what the picture shows, whatever its name."""
    digest = hashlib.sha256(repr(picture.pixels.shape).encode())
    digest.update(np.ascontiguousarray(picture.pixels).data)
    return digest.hexdigest()
