"""Winograd's transforms for full convolutions, from exact rational arithmetic (Toom and Cook's method).

A convolution of `cells` inputs with `taps` weights gives `cells + taps - 1` outputs: the coefficients of a product of
two polynomials. Both are evaluated at as many points as there are outputs, multiplied point by point, and the product
is interpolated. That takes one multiplication a point instead of `cells * taps`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

Matrix = list[list[Fraction]]

#: Which points keep rounding smallest, by how many there are besides infinity (found by trying sets of small fractions
#: on random layers; a float32 layer then has a relative error of 2e-6 to 8e-6, direct convolution of 3e-7).
_POINTS: dict[int, str] = {
    1: "0",
    2: "0 1",
    3: "0 1 -1",
    4: "0 1 -1 -2",
    5: "0 1 -1 -2 1/2",
    6: "0 1 -1 -2 3/2 -1/4",
    7: "0 1 -1 2 -2 1/2 -1/2",
    8: "0 1 -1 1/2 3/2 -3/2 -2/3 -4",
    9: "0 1 -1 3/2 2/3 -2/3 -4 1/4 -4/3",
}
MOST_POINTS = len(_POINTS) + 1


@dataclass(frozen=True, eq=False)
class Transforms:
    """The three matrices of one axis, float64; `points = cells + taps - 1`.

    Attributes:
        input: [points, cells].
        kernel: [points, taps].
        output: [points, points]; rows are outputs.
    """

    input: np.ndarray
    kernel: np.ndarray
    output: np.ndarray


@lru_cache(maxsize=64)
def transforms(cells: int, taps: int) -> Transforms:
    """The transforms of a full convolution of `cells` inputs with `taps` weights along one axis.

    Each point's rows are scaled by powers of two to a length near 1, so that its products are of one size.

    Raises:
        ValueError: more points would be needed than are accurate in float32.
    """
    points = cells + taps - 1
    if min(cells, taps) < 1 or points > MOST_POINTS:
        raise ValueError(f"no accurate transform of {cells} cells and {taps} taps")
    if points == 1:
        return Transforms(*(np.ones((1, 1)) for _ in range(3)))
    at = [Fraction(point) for point in _POINTS[points - 1].split()]
    inputs, kernels = _array(_powers(at, cells)), _array(_powers(at, taps))
    outputs = _array(_inverse(_powers(at, points)))
    by_input = 2.0 ** -np.round(np.log2(np.linalg.norm(inputs, axis=1)))
    by_kernel = 2.0 ** -np.round(np.log2(np.linalg.norm(kernels, axis=1)))
    return Transforms(inputs * by_input[:, None], kernels * by_kernel[:, None], outputs / (by_input * by_kernel))


def _powers(at: list[Fraction], count: int) -> Matrix:
    """A polynomial of `count` coefficients at each point; at infinity it is its last one."""
    infinity = [Fraction(0)] * (count - 1) + [Fraction(1)]
    return [[point**power for power in range(count)] for point in at] + [infinity]


def _inverse(matrix: Matrix) -> Matrix:
    """By elimination, exactly."""
    size = len(matrix)
    rows = [row + [Fraction(int(i == j)) for j in range(size)] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column] != 0)
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for i in range(size):
            if i != column and rows[i][column] != 0:
                rows[i] = [a - rows[i][column] * b for a, b in zip(rows[i], rows[column], strict=True)]
    return [row[size:] for row in rows]


def _array(matrix: Matrix) -> np.ndarray:
    return np.array([[float(value) for value in row] for row in matrix])
