"""Overlapping windows blended into one map: each cell's value is a weighted mean over the windows that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch


def blended(
    scores: torch.Tensor, starts: Sequence[np.ndarray], weights: torch.Tensor, sizes: Sequence[int]
) -> torch.Tensor:
    """A map of every score.

    Args:
        scores: one a window, [C, windows along the first axis, ...].
        starts: where the windows begin along each axis, all of them whole.
        weights: how much each cell of a window counts, the window's shape, above zero.
        sizes: of the map; every cell is in some window.

    Returns:
        [C, *sizes], of the scores' type.
    """
    total = _summed(scores, starts, weights, sizes)
    ones = torch.ones_like(scores[:1])
    return total.div_(_summed(ones, starts, weights, sizes))


def _summed(
    scores: torch.Tensor, starts: Sequence[np.ndarray], weights: torch.Tensor, sizes: Sequence[int]
) -> torch.Tensor:
    """The sum over windows of their weighted scores.

    The lines of a window along the last axis are taken together: a line of weights, at all its places, is one matrix.
    """
    total = scores.new_zeros((len(scores), *sizes))
    places = [torch.from_numpy(start).to(scores.device) for start in starts]
    for offset in product(*(range(extent) for extent in weights.shape[:-1])):
        line = weights[offset].to(scores)
        spread = scores.new_zeros((len(places[-1]), sizes[-1]))
        across = places[-1][:, None] + torch.arange(len(line), device=scores.device)
        spread.scatter_(1, across, line.expand(len(across), -1))
        index = [place + down for place, down in zip(places[:-1], offset, strict=True)]
        mesh = torch.meshgrid(*index, indexing="ij")
        lines: tuple[slice | torch.Tensor, ...] = (slice(None), *mesh)
        total[lines] += scores @ spread
    return total
