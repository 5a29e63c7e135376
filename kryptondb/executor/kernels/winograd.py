"""Convolution of a difference by Winograd's method: what an occlusion adds to a convolution's base output.

A convolution is linear: `conv(base + difference) = conv(base) + conv(difference)`. The difference is zero outside its
region, so it is convolved fully (every cell reaches all outputs around it) and added to the base output. That needs no
window around the region, and fewer products than the outputs alone would: 36 for a block of 4 x 4 cells and a 3 x 3
kernel, where direct convolution takes 324 for the 6 x 6 outputs.

Source: Winograd, Arithmetic complexity of computations (1980); Lavin and Gray, Fast algorithms for convolutional neural
networks (2016), here transposed: their F(4x4, 3x3) gathers, ours scatters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch

Block = tuple[int, int]
Sizes = TypeVar("Sizes", int, np.ndarray)


def blocks_of(size: Sizes, block: int) -> Sizes:
    """How many blocks cover `size` cells along an axis."""
    return -(-size // block)


def reach_of(size: Sizes, block: int, points: int) -> Sizes:
    """Outputs along an axis that a difference of `size` cells writes: all that its whole blocks reach."""
    return (blocks_of(size, block) + -(-points // block) - 1) * block


@dataclass(frozen=True, eq=False)
class Winograd:
    """One layer's weights, transformed for blocks of `block` cells.

    Attributes:
        block: rows and columns of the difference that one block holds.
        points: products a block, channel in and channel out, along each axis.
        weights: [points, channels in, channels out].
        input: transforms cells to points, [points, cells]; output: points to outputs, [points, points].
    """

    block: Block
    points: tuple[int, int]
    weights: torch.Tensor
    input: torch.Tensor
    output: torch.Tensor

    @classmethod
    def prepare(cls, weight: torch.Tensor, block: Block) -> Winograd:
        """Transforms weights [out, in, kh, kw], in float64, rounded once."""
        y, x = (transforms(cells, taps) for cells, taps in zip(block, weight.shape[2:], strict=True))
        flipped = weight.double().flip(2, 3)  # networks correlate; products of polynomials convolve
        kernel_y, kernel_x = (_like(axis.kernel, flipped) for axis in (y, x))
        transformed = torch.einsum("pi,qj,ocij->pqco", kernel_y, kernel_x, flipped)
        points = (transformed.shape[0], transformed.shape[1])
        weights = transformed.flatten(0, 1).to(weight.dtype).contiguous()
        matrices = (_like(np.kron(getattr(y, name), getattr(x, name)), weight) for name in ("input", "output"))
        return cls(block, points, weights, *matrices)

    def reach(self, size: int, axis: int) -> int:
        """How many outputs along an axis `add` writes for a difference of `size` cells: whole blocks of them."""
        return reach_of(size, self.block[axis], self.points[axis])

    def add(self, new: torch.Tensor, base: torch.Tensor, target: torch.Tensor, workspace: Workspace) -> None:
        """Adds the convolution of `new - base` to `target`.

        Args:
            new, base: [n, h, w, in]; `base` may be [1, h, w, in].
            target: [n, reach(h), reach(w), out], contiguous; the first cell is the one that the last tap of the kernel
                moves the difference's first cell to: `kernel - 1` cells up and left of it, without padding.
        """
        count, height, width, channels = new.shape
        down, across = blocks_of(height, self.block[0]), blocks_of(width, self.block[1])
        points, columns = self.points[0] * self.points[1], count * down * across
        cells = workspace.take("cells", (*self.block, count, down, across, channels), new)
        if height % self.block[0] or width % self.block[1]:
            cells.zero_()
        for rows, in_y, down_y in _parts(height, self.block[0]):
            for cols, in_x, down_x in _parts(width, self.block[1]):
                part = cells[in_y, in_x, :, down_y, down_x]
                size = (part.shape[0], part.shape[1])
                torch.sub(
                    _blocked(new[:, rows, cols], size),
                    _blocked(base[:, rows, cols], size),
                    out=part.permute(2, 3, 0, 4, 1, 5),
                )
        moved = workspace.take("moved", (points, columns * channels), new)
        torch.mm(self.input, cells.view(self.block[0] * self.block[1], -1), out=moved)
        out = self.weights.shape[2]
        products = workspace.take("products", (points, columns, out), new)
        torch.bmm(moved.view(points, columns, channels), self.weights, out=products)
        outputs = workspace.take("moved", (points, columns * out), new)
        torch.mm(self.output, products.view(points, -1), out=outputs)
        self._scatter(outputs.view(*self.points, count, down, across, out), target)

    def _scatter(self, outputs: torch.Tensor, target: torch.Tensor) -> None:
        """Adds [points y, points x, n, down, across, out] to the target; neighboring blocks overlap."""
        _, _, count, down, across, out = outputs.shape
        block_y, block_x = self.block
        blocks = target.view(count, -1, block_y, target.shape[2] // block_x, block_x, out)
        for place_y, first_y in enumerate(range(0, self.points[0], block_y)):
            for place_x, first_x in enumerate(range(0, self.points[1], block_x)):
                part = outputs[first_y : first_y + block_y, first_x : first_x + block_x]
                blocks[:, place_y : place_y + down, : part.shape[0], place_x : place_x + across, : part.shape[1]] += (
                    part.permute(2, 3, 0, 4, 1, 5)
                )


def _like(matrix: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(matrix, dtype=like.dtype, device=like.device)


def _parts(size: int, block: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cells of an axis as whole blocks and the rest: which cells, where in a block, and in which blocks."""
    whole, rest = divmod(size, block)
    if whole:
        yield slice(0, whole * block), slice(0, block), slice(0, whole)
    if rest:
        yield slice(whole * block, size), slice(0, rest), slice(whole, whole + 1)


def _blocked(values: torch.Tensor, size: Block) -> torch.Tensor:
    """[n, h, w, channels] as [n, blocks, height, blocks, width, channels], a view."""
    count, height, width, channels = values.shape
    return values.view(count, height // size[0], size[0], width // size[1], size[1], channels)


# The transforms of full convolutions, from exact rational arithmetic (Toom and Cook's method).
#
# A convolution of `cells` inputs with `taps` weights gives `cells + taps - 1` outputs: the coefficients of a product of
# two polynomials. Both are evaluated at as many points as there are outputs, multiplied point by point, and the product
# is interpolated. That takes one multiplication a point instead of `cells * taps`.


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


class Workspace:
    """Named buffers that grow to the largest size asked for."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """An uninitialized tensor of this shape, in the precision and on the device of `like`.

        The next `take` of the same name hands the same memory out again.
        """
        key = (name, like.dtype, like.device)
        elements = math.prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < elements:
            self._buffers.pop(key, None)
            del buffer  # given back before more is asked for
            buffer = like.new_empty(elements)
            self._buffers[key] = buffer
        return buffer[:elements].view(shape)
