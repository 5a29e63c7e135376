"""Rectangles whose places lie on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch


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
