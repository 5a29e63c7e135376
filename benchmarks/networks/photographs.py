"""Photographs that scikit-image ships, as arrays, and parts of them at a size that a network reads."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kryptondb.images.samples import sample_path

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom


def photograph_part(name: str, box: Box, side: int) -> Pixels:
    """A part of a sample picture, resized: uint8 [side, side, 3]; gray pictures get three equal channels."""
    return np.asarray(_photograph(name).resize((side, side), Image.Resampling.BICUBIC, box=box))


def photograph_size(name: str) -> tuple[int, int]:
    """Height and width of a sample picture."""
    picture = _photograph(name)
    return picture.height, picture.width


@cache
def _photograph(name: str) -> Image.Image:
    with Image.open(sample_path(name)) as picture:
        return picture.convert("RGB")
