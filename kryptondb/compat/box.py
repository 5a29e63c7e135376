"""The part of an image that MONAI's map is made for: all of it, or a bounding box with half a mask around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kryptondb.errors import ArgumentError


@dataclass(frozen=True)
class Box:
    """Where masks go, and which part of that the map shows.

    Attributes:
        first, sizes: the part of the image that masks cover, a number an axis.
        mask: sides of a mask, cut to that part.
        shown: the part of the image that is shown.
    """

    first: tuple[int, ...]
    sizes: tuple[int, ...]
    mask: tuple[int, ...]
    shown: tuple[slice, ...]

    @classmethod
    def of(cls, spatial: Sequence[int], mask: Sequence[int], b_box: Sequence[int] | None) -> Box:
        """The box of an image with these sides.

        Args:
            b_box: `[min1, max1, min2, max2, ...]`; a max of -1 is the whole axis. As in MONAI, the map ends before max.

        Raises:
            ArgumentError: a box that does not fit the image, or a mask that is larger than the image.
        """
        sides, mask = tuple(spatial), tuple(mask)
        first, shown = (0,) * len(sides), tuple(slice(0, side) for side in sides)
        sizes = sides
        if b_box is not None:
            if len(b_box) != 2 * len(sides):
                raise ArgumentError(f"b_box must have {2 * len(sides)} numbers, a min and a max an axis, not {b_box!r}")
            edges = [(side - 1) // 2 for side in mask]
            lows, highs = b_box[::2], b_box[1::2]
            first = tuple(max(low - edge, 0) for low, edge in zip(lows, edges, strict=True))
            ends = [
                side if high == -1 else min(high + edge, side)
                for high, edge, side in zip(highs, edges, sides, strict=True)
            ]
            sizes = tuple(end - start for start, end in zip(first, ends, strict=True))
            shown = tuple(
                slice(max(low, 0), min(high, side) if high > 0 else side)
                for low, high, side in zip(lows, highs, sides, strict=True)
            )
            if min(sizes) < 1 or any(part.start >= part.stop for part in shown):
                raise ArgumentError(f"the box {list(b_box)} holds nothing of an image of {sides}")
            mask = tuple(min(side, size) for side, size in zip(mask, sizes, strict=True))
        if any(side < 1 or side > size for side, size in zip(mask, sizes, strict=True)):
            raise ArgumentError(f"a mask of {mask} does not fit an image of {sizes}")
        return cls(first, sizes, mask, shown)

    def cut(self, blended: torch.Tensor, spatial: Sequence[int]) -> torch.Tensor:
        """What is shown of a map of the covered part, [C, *sizes]; zero where no mask went."""
        if self.sizes == tuple(spatial):
            return blended[(slice(None), *self.shown)]
        whole = blended.new_zeros((len(blended), *spatial))
        place = tuple(slice(start, start + size) for start, size in zip(self.first, self.sizes, strict=True))
        whole[(slice(None), *place)] = blended
        return whole[(slice(None), *self.shown)]
