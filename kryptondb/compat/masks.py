"""MONAI's masks: where they go, what they hide a part of an image with, and how overlapping ones make one map."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral
from typing import Any

import numpy as np
import torch

from kryptondb.errors import ArgumentError, ShapeError, UnsupportedError
from kryptondb.images.fills import gaussian_kernel

MODES = ("gaussian", "mean_patch", "mean_img")

#: Hidden rectangles [n, C, *mask] -> what stands in their place, of the same shape.
Hide = Callable[[torch.Tensor], torch.Tensor]
Mode = str | float | Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_WEIGHT_SIGMA = 0.125  # of the mask's sides, where windows of 'gaussian' are blended
_LEAST_WEIGHT = 1e-3


def check_mode(mode: object) -> None:
    """Refuses what is no mode.

    Raises:
        UnsupportedError: with the modes there are; also a NotImplementedError, as MONAI raises.
    """
    if isinstance(mode, str) and mode not in MODES:
        raise UnsupportedError(f'no mode named "{mode}"; it is one of {", ".join(MODES)}, a number, or a function')
    if not isinstance(mode, (str, float, int)) and not callable(mode):
        raise UnsupportedError(f"a mode is one of {', '.join(MODES)}, a number, or a function, not {mode!r}")


def hiding(mode: Mode, x: torch.Tensor, mask: Sequence[int]) -> Hide:
    """How a mode hides rectangles of an image.

    Args:
        x: the image, [1, C, *spatial].
        mask: sides of the rectangles.
    """
    if callable(mode):
        return lambda hidden: torch.cat([mode(x, part[None]) for part in hidden])
    if mode == "mean_patch":
        # What MONAI 1.6 computes: it means to put the mean in its place, and multiplies by it.
        return lambda hidden: hidden * hidden.flatten(1).mean(1).view(-1, *(1,) * (hidden.ndim - 1))
    if mode == "gaussian":
        kept = (1.0 - gaussian_kernel(mask)).to(x)
        return lambda hidden: hidden * kept
    level = float(x.mean()) if mode == "mean_img" else float(mode)
    return lambda hidden: hidden * 0.0 + level  # as MONAI has it: what is not finite stays so


def weights_of(mode: Mode, mask: Sequence[int]) -> torch.Tensor:
    """How much each cell of a mask counts where masks overlap: alike, or for 'gaussian' most in the middle."""
    weights = torch.ones(())
    if mode != "gaussian":
        return weights.expand(*mask)
    for side in mask:
        away = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-(away**2) / (2 * (side * _WEIGHT_SIGMA) ** 2))
    return weights.clamp(min=max(float(weights.min()), _LEAST_WEIGHT))


def starts_of(size: int, side: int, overlap: float) -> list[int]:
    """Where masks begin along an axis of so many cells, the last one moved inside."""
    step = side if side == size else max(1, int(side * (1 - overlap)))
    return [min(number * step, size - side) for number in range(math.ceil((size - side) / step) + 1)]


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


#: How many numbers say at once what each window counts in each cell: some megabytes, which a cache can hold.
_SHARES = 1 << 21


def blended(
    scores: torch.Tensor, starts: Sequence[np.ndarray], weights: torch.Tensor, sizes: Sequence[int]
) -> torch.Tensor:
    """A map of every score.

    A band of the map along its first axis is one matrix product: the scores of all windows that reach the band, by how
    much each of them counts in each of its cells.

    Args:
        scores: one a window, [C, windows along the first axis, ...].
        starts: where the windows begin along each axis, ascending, all of them whole.
        weights: how much each cell of a window counts, the window's shape, above zero.
        sizes: of the map; every cell is in some window.

    Returns:
        [C, *sizes], of the scores' type.
    """
    found = scores.new_empty((len(scores), *sizes))
    weights, finite = weights.to(scores), scores.isfinite()
    numbers, odd = scores, []
    if not bool(finite.all()):
        numbers = torch.where(finite, scores, 0.0)
        kinds = ((math.nan, scores.isnan()), (math.inf, scores == math.inf), (-math.inf, scores == -math.inf))
        odd = [(number, windows.to(scores)) for number, windows in kinds]
    for top, bottom, windows in _bands(starts, weights.shape, sizes):
        shares = _shares(starts, weights, sizes, (top, bottom), windows).flatten(len(starts)).flatten(0, -2)
        band = numbers[:, windows].flatten(1) @ (shares / shares.sum(0))
        for number, windows_of_it in odd:  # elsewhere a window counts nothing, and nothing times infinity is NaN
            reached = windows_of_it[:, windows].flatten(1) @ (shares > 0).to(scores) > 0
            band = band + torch.where(reached, number, 0.0)
        found[:, top:bottom] = band.reshape(len(scores), bottom - top, *sizes[1:])
    return found


def _bands(starts: Sequence[np.ndarray], mask: Sequence[int], sizes: Sequence[int]) -> Iterator[tuple[int, int, slice]]:
    """The map in bands along its first axis: where each begins and ends, and which windows reach it."""
    line = math.prod(map(len, starts[1:])) * math.prod(sizes[1:])
    height = max(1, min(sizes[0], round(math.sqrt(_SHARES / line))))
    for top in range(0, sizes[0], height):
        bottom = min(top + height, sizes[0])
        reaching = np.flatnonzero((starts[0] < bottom) & (starts[0] + mask[0] > top))
        yield top, bottom, slice(int(reaching[0]), int(reaching[-1]) + 1)


def _shares(
    starts: Sequence[np.ndarray], weights: torch.Tensor, sizes: Sequence[int], band: tuple[int, int], windows: slice
) -> torch.Tensor:
    """How much each window counts in each cell of a band, [windows along the first axis, ..., *cells]."""
    top, bottom = band
    firsts = starts[0][windows].tolist()
    counts = [len(firsts), *(len(axis) for axis in starts[1:])]
    shares = weights.new_zeros((*counts, bottom - top, *sizes[1:]))
    places = [list(enumerate(axis.tolist())) for axis in starts[1:]]
    for number, start in enumerate(firsts):
        begin, end = max(start, top), min(start + weights.shape[0], bottom)
        counted = weights[begin - start : end - start]
        for others in product(*places):
            cells = (slice(at, at + side) for (_, at), side in zip(others, weights.shape[1:], strict=True))
            shares[number][tuple(index for index, _ in others)][(slice(begin - top, end - top), *cells)] = counted
    return shares


def monai_map(whole: torch.Tensor, shown: Sequence[slice] | None) -> torch.Tensor:
    """A map as MONAI gives it: the part that is shown, a MetaTensor whose affine says where it was cut out.

    A process that has not imported MONAI gets torch's own tensors: it knows no others.

    Args:
        whole: [C, *spatial].
        shown: for each axis; None where nothing is cut.

    Returns:
        [1, C, *shown].
    """
    monai: Any = sys.modules.get("monai")
    if monai is None:
        return (whole if shown is None else whole[(slice(None), *shown)])[None]
    given = monai.data.MetaTensor(whole)
    if shown is not None:
        given = monai.transforms.SpatialCrop(roi_slices=list(shown))(given)
    cut: torch.Tensor = given[None]
    return cut
