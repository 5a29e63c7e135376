"""The part of an image that MONAI's map is made for: all of it, or a bounding box with half a mask around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch

from kryptondb.errors import ArgumentError, ShapeError, UnsupportedError


@dataclass(frozen=True)
class Box:
    """Where masks go, and which part of that the map shows.

    Attributes:
        first, sizes: the part of the image that masks cover, a number an axis.
        mask: sides of a mask, cut to that part.
        shown: the part of the image that is shown; None where that is all, and no box was given.
    """

    first: tuple[int, ...]
    sizes: tuple[int, ...]
    mask: tuple[int, ...]
    shown: tuple[slice, ...] | None

    @classmethod
    def of(cls, spatial: Sequence[int], mask: Sequence[int], b_box: Any) -> Box:
        """The box of an image with these sides.

        Args:
            b_box: `[min1, max1, min2, max2, ...]`, a sequence, an array or a tensor; of the first axes where it is
                short. A max of -1 is the whole axis. As in MONAI, the map ends before max.

        Raises:
            ArgumentError: a box that does not fit the image, or a mask that is larger than the image.
        """
        sides, mask = tuple(spatial), tuple(mask)
        first, sizes, shown = (0,) * len(sides), sides, None
        if b_box is not None:
            lows, highs = _corners(b_box, len(sides))
            edges = [(side - 1) // 2 for side in mask]
            first = tuple(max(low - edge, 0) for low, edge in zip(lows, edges, strict=True))
            ends = [
                side if high == -1 else slice(high + edge).indices(side)[1]  # another negative max counts from the end
                for high, edge, side in zip(highs, edges, sides, strict=True)
            ]
            sizes = tuple(end - start for start, end in zip(first, ends, strict=True))
            shown = tuple(
                slice(max(low, 0), min(high, side) if high > 0 else side)
                for low, high, side in zip(lows, highs, sides, strict=True)
            )
            if min(sizes) < 1 or any(part.start >= part.stop for part in shown):
                raise ArgumentError(f"the box {b_box!r} holds nothing of an image of {sides}")
            mask = tuple(min(side, size) for side, size in zip(mask, sizes, strict=True))
        if any(side < 1 or side > size for side, size in zip(mask, sizes, strict=True)):
            raise ShapeError(f"a mask of {mask} does not fit an image of {sizes}")
        return cls(first, sizes, mask, shown)

    def whole(self, blended: torch.Tensor, spatial: Sequence[int]) -> torch.Tensor:
        """A map of the covered part, [C, *sizes], as one of the image; zero where no mask went."""
        if self.sizes == tuple(spatial):
            return blended
        whole = blended.new_zeros((len(blended), *spatial))
        place = tuple(slice(start, start + size) for start, size in zip(self.first, self.sizes, strict=True))
        whole[(slice(None), *place)] = blended
        return whole


def _corners(b_box: Any, axes: int) -> tuple[list[int], list[int]]:
    """The lower and upper bounds of a box for every axis: the whole axis, 0 and -1, for those that it leaves out."""
    given = b_box.tolist() if isinstance(b_box, (torch.Tensor, np.ndarray)) else b_box
    numbers: list[int] = []
    for entry in given:
        number = entry.item() if isinstance(entry, (torch.Tensor, np.generic)) else entry
        if not isinstance(number, Integral):
            raise UnsupportedError(f"b_box must hold whole numbers, not {b_box!r}")
        numbers.append(int(number))
    if len(numbers) % 2 or not 2 <= len(numbers) <= 2 * axes:
        raise ArgumentError(f"b_box must have a min and a max for each of up to {axes} axes, not {b_box!r}")
    lows, highs = numbers[::2], numbers[1::2]
    return lows + [0] * (axes - len(lows)), highs + [-1] * (axes - len(highs))
