"""Overlapping windows blended into one map: each cell's value is a weighted mean over the windows that hold it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch

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
            shares[number][tuple(each for each, _ in others)][(slice(begin - top, end - top), *cells)] = counted
    return shares
