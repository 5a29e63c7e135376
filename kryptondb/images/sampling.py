"""Samples of pictures: in which order they are taken, and how one is known again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kryptondb.images.picture import Picture
    from kryptondb.images.sources import ImageSource


def sampling_order(sources: Iterable[ImageSource]) -> list[ImageSource]:
    """The images in an order that has nothing to do with what is on them, always the same for the same names."""
    return sorted(sources, key=lambda source: hashlib.sha256(source.name.encode()).digest())


def content_hash(picture: Picture) -> str:
    """sha256 in hex of what the picture shows, whatever its name."""
    digest = hashlib.sha256(repr(picture.pixels.shape).encode())
    digest.update(np.ascontiguousarray(picture.pixels).data)
    return digest.hexdigest()
