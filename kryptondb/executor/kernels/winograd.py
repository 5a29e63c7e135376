"""Convolution of a difference by Winograd's method: what an occlusion adds to a convolution's base output.

A convolution is linear: `conv(base + difference) = conv(base) + conv(difference)`. The difference is zero outside its
region, so it is convolved fully (every cell reaches all outputs around it) and added to the base output. That needs no
window around the region, and fewer products than the outputs alone would: 36 for a block of 4 x 4 cells and a 3 x 3
kernel, where direct convolution takes 324 for the 6 x 6 outputs.

Source: Winograd, Arithmetic complexity of computations (1980); Lavin and Gray, Fast algorithms for convolutional neural
networks (2016), here transposed: their F(4x4, 3x3) gathers, ours scatters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from kryptondb.executor.kernels.transforms import transforms
from kryptondb.executor.kernels.workspace import Workspace

Block = tuple[int, int]
Sizes = TypeVar("Sizes", int, np.ndarray)


def blocks_of(size: Sizes, block: int) -> Sizes:
    """How many blocks cover so many cells along an axis."""
    return -(-size // block)


def reach_of(size: Sizes, block: int, points: int) -> Sizes:
    """Outputs along an axis that a difference of so many cells writes: all that its whole blocks reach."""
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
        """How many outputs along an axis `add` writes for a difference of so many cells: whole blocks of them."""
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
        """Adds [points y, points x, n, down, across, out] to the target; neighbouring blocks overlap."""
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
