"""Gather and overlay in one step, from places that lie on the device: a CUDA graph can be replayed for other places.

Nothing here depends on a place in Python: no slice, no branch, nothing read back. The torch functions run on every
device, and the fused kernel is tested against them; on a GPU the kernel does the same in one pass over memory.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch

from kryptondb.executor.tiles.regions_on_tensors import Table
from kryptondb.network import Axes


@dataclass(frozen=True, eq=False)
class Rectangles:
    """Rectangles of one size at every pair of rows and columns; they may reach outside the picture.

    Attributes:
        ys, xs: int64 [R] and [C] on the device, top and left cells.
        height, width: cells of each.
    """

    ys: torch.Tensor
    xs: torch.Tensor
    height: int
    width: int

    @property
    def count(self) -> int:
        """How many rectangles."""
        return self.ys.shape[0] * self.xs.shape[0]

    def rows(self) -> torch.Tensor:
        """The picture's row of each of their rows, int64 [R, height]."""
        return self.ys[:, None] + torch.arange(self.height, device=self.ys.device)

    def columns(self) -> torch.Tensor:
        """The picture's column of each of their columns, int64 [C, width]."""
        return self.xs[:, None] + torch.arange(self.width, device=self.xs.device)


def gathered(table: Table, read: Rectangles, outside: float = 0.0) -> torch.Tensor:
    """`Table.gather` for places on the device: [R * C, height, width, *channels], memory of its own."""
    return table.take(read.rows(), read.columns(), outside)


def overlaid(
    table: Table, read: Rectangles, outside: float, patches: torch.Tensor, covered: Rectangles
) -> torch.Tensor:
    """What `gather` and `lay_over` make of a base and patches: [R * C, height, width, *channels].

    Args:
        read: what comes back.
        outside: what cells beyond the picture hold.
        patches: [R * C, h, w, *channels], laid over the base where they are.
        covered: the rectangles that they fill, at the same pairs of rows and columns.
    """
    if read.ys.is_cuda and kernel_runs(read.ys.device):
        from kryptondb.executor.tiles import overlay_kernel

        return overlay_kernel.overlaid(table, read, outside, patches, covered)
    return overlaid_in_torch(table, read, outside, patches, covered)


def overlaid_in_torch(
    table: Table, read: Rectangles, outside: float, patches: torch.Tensor, covered: Rectangles
) -> torch.Tensor:
    """`overlaid`, in operators that every device has."""
    base = gathered(table, read, outside)
    rows, cols = read.ys.shape[0], read.xs.shape[0]
    y, x = read.rows() - covered.ys[:, None], read.columns() - covered.xs[:, None]
    inside_y, inside_x = (y >= 0) & (y < covered.height), (x >= 0) & (x < covered.width)
    inside = inside_y[:, None, :, None] & inside_x[None, :, None, :]
    first = torch.arange(rows * cols, device=y.device).view(rows, cols, 1, 1) * (covered.height * covered.width)
    y, x = y.clamp(0, covered.height - 1), x.clamp(0, covered.width - 1)
    index = first + (y * covered.width)[:, None, :, None] + x[None, :, None, :]
    located = patches.reshape(read.count * covered.height * covered.width, -1)
    new = torch.index_select(located, 0, index.reshape(-1))
    merged = torch.where(inside.reshape(-1, 1), new, base.view(new.shape))
    return merged.view(base.shape)


def kernel_is_present() -> bool:
    """Whether Triton can be imported; the kernel is written in it."""
    return find_spec("triton") is not None


@cache
def kernel_runs(device: torch.device) -> bool:
    """Whether the kernel compiles for a device and runs there: Triton needs a C compiler and a GPU that it knows."""
    if not kernel_is_present():
        return False
    start = torch.zeros(1, dtype=torch.int64, device=device)
    cell = Rectangles(start, start, 1, 1)
    table = Table.of(torch.zeros(1, 1, 1, 1, device=device), Axes(0, 2, 3), (0.0,))
    try:
        from kryptondb.executor.tiles import overlay_kernel

        overlay_kernel.overlaid(table, cell, 0.0, torch.ones(1, 1, 1, 1, device=device), cell)
    except Exception as error:  # whatever is missing, torch's own operators do the same
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        warnings.warn(f"Triton is installed and does not work on {device}, torch does its part: {first}", stacklevel=2)
        return False
    return True
