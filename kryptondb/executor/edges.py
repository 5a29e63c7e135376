"""Patches that an edge of the picture cuts: computed as whole ones moved inside, and painted only where they cover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from kryptondb.network import Grid

#: `(ys, xs, height, width)`: the content of rectangles with these corners, [n, C, height, width].
Paint = Callable[[np.ndarray, np.ndarray, int, int], torch.Tensor]


def painted(paint: Paint, image: torch.Tensor, grid: Grid, ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
    """What whole patches show: the fill, and the picture itself where a patch stands inside of what it covers.

    Args:
        paint: the fill, in the same space as `image`.
        image: the unoccluded picture, [C, H, W].
        ys, xs: corners of whole patches, of `grid.ys` and `grid.xs`, int64 [n] each.

    Returns:
        [n, C, h, w]; a view that must not be written into, where no patch is cut.
    """
    height, width = grid.patch
    aside_y, aside_x = grid.moved(ys, xs)
    if not aside_y.any() and not aside_x.any():
        return paint(ys, xs, height, width)
    patches = windows(image, ys, xs, height, width)
    for down in np.unique(aside_y).tolist():
        for across in np.unique(aside_x).tolist():
            which = np.flatnonzero((aside_y == down) & (aside_x == across))
            if len(which):
                fill = paint(ys[which] + down, xs[which] + across, height - down, width - across)
                patches[torch.from_numpy(which), :, down:, across:] = fill
    return patches


def windows(image: torch.Tensor, ys: np.ndarray, xs: np.ndarray, height: int, width: int) -> torch.Tensor:
    """Rectangles of a picture [C, H, W] with these corners, a copy: [n, C, height, width]."""
    views = image.unfold(1, height, 1).unfold(2, width, 1)  # [C, rows, columns, height, width]
    return views[:, torch.from_numpy(ys), torch.from_numpy(xs)].transpose(0, 1)
