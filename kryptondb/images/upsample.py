"""Where a heat map's cells lie in the picture, and its values between them.

A cell at row r stands for the patch at `r * stride` to `r * stride + patch` of the model input, or to the input's edge
where that cuts it: its value belongs to the middle of that patch. A map of the input's own shape has a value a pixel.
`Preprocess.window` says where the model input lies in the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kryptondb.images.preprocess import Preprocess

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def place(
    heatmap: NDArray[np.floating],
    preprocess: Preprocess,
    picture_size: tuple[int, int],
    *,
    patch: tuple[int, int],
    stride: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> Floats:
    """The heat map over the picture: [height, width] at `size`, or at the picture's own size.

    Between cells the values are bicubic (Catmull-Rom) and exact at the cells' centers, but kept within the four
    cells around each point, so that the drawing shows no peak that was not computed. Out to the border of the outermost
    patches the nearest cell holds. NaN where no patch reaches, and wherever the nearest cell is NaN.

    Args:
        heatmap: rows x cols, NaN for cells that were not computed; or a value for each pixel of the model input.
        picture_size: (height, width) of the original picture.
        patch, stride: in model-input pixels, (vertical, horizontal).
        size: (height, width) of the result, when it is to be drawn larger or smaller than the picture.
    """
    out_height, out_width = size or picture_size
    top, left, height, width = preprocess.window(*picture_size)
    y = _input_coordinates(out_height, picture_size[0], top, height, preprocess.height)
    x = _input_coordinates(out_width, picture_size[1], left, width, preprocess.width)
    if heatmap.shape == (preprocess.height, preprocess.width):
        patch = stride = (1, 1)
    row, beyond_rows = _cells(y, heatmap.shape[0], patch[0], stride[0], preprocess.height)
    col, beyond_cols = _cells(x, heatmap.shape[1], patch[1], stride[1], preprocess.width)
    values = _interpolate(np.asarray(heatmap, dtype=np.float64), row, col)
    values[beyond_rows, :] = np.nan
    values[:, beyond_cols] = np.nan
    return values


def _cells(at: Floats, count: int, patch: int, stride: int, side: int) -> tuple[Floats, NDArray[np.bool_]]:
    """The cells, as fractional numbers, whose middles lie at these coordinates; and which ones no patch reaches."""
    starts = np.arange(count) * stride
    ends = np.minimum(starts + patch, side)
    row: Floats = np.interp(at, (starts + ends) / 2, np.arange(count))
    return row, (at < 0) | (at > ends[-1])


def _input_coordinates(out: int, picture: int, start: float, length: float, side: int) -> Floats:
    """Where the centers of `out` pixels across the picture lie in the model input of `side` pixels."""
    in_picture = (np.arange(out, dtype=np.float64) + 0.5) * (picture / out)
    coordinates: Floats = (in_picture - start) * (side / length)
    return coordinates


def _interpolate(heatmap: Floats, row: Floats, col: Floats) -> Floats:
    """Values at the grid of (row[i], col[j]), fractional cell numbers inside the map; [len(row), len(col)]."""
    known = np.isfinite(heatmap)
    if not known.any():
        return np.full((len(row), len(col)), np.nan)
    cells = _filled(heatmap, known)
    row_taps, row_weights = _taps(row, cells.shape[0])
    col_taps, col_weights = _taps(col, cells.shape[1])
    lines = np.einsum("ik,ikj->ij", row_weights, cells[row_taps])
    near = [cells[np.ix_(row_taps[:, r], col_taps[:, c])] for r in (1, 2) for c in (1, 2)]
    smooth = np.einsum("jk,ijk->ij", col_weights, lines[:, col_taps])
    values: Floats = np.clip(smooth, np.minimum.reduce(near), np.maximum.reduce(near))
    nearest_row = np.floor(row + 0.5).astype(np.intp).clip(0, cells.shape[0] - 1)
    nearest_col = np.floor(col + 0.5).astype(np.intp).clip(0, cells.shape[1] - 1)
    values[~known[np.ix_(nearest_row, nearest_col)]] = np.nan
    return values


def _taps(position: Floats, count: int) -> tuple[Indices, Floats]:
    """For each position the four cells around it, [n, 4], and their Catmull-Rom weights; the border cell repeats."""
    first = np.floor(position).astype(np.intp)
    t = position - first
    weights = 0.5 * np.stack(
        [
            -t + 2 * t**2 - t**3,
            2 - 5 * t**2 + 3 * t**3,
            t + 4 * t**2 - 3 * t**3,
            -(t**2) + t**3,
        ],
        axis=1,
    )
    taps = np.clip(first[:, None] + np.arange(-1, 3), 0, count - 1)
    return taps, weights


def _filled(cells: Floats, known: NDArray[np.bool_]) -> Floats:
    """The same cells, each unknown one with the value of the nearest known one, so that edges of holes stay true."""
    if known.all():
        return cells
    from scipy import ndimage  # heavy, and only needed for maps with holes

    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled: Floats = cells[tuple(nearest)]
    return filled
