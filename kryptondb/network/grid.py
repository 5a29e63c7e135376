"""Where the patch may stand: every position at which the whole patch fits inside the model's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """All positions of a patch on an input of `height` by `width` pixels.

    Rows and columns count `floor((H - P) / S) + 1` and `floor((W - P) / S) + 1`. The paper's equations 1 and 2 say
    `floor((H - P + 1) / S)`: equal at stride 1, one row and column less at most other strides.

    Attributes:
        height, width: the model's input, in pixels.
        patch: height and width of the patch, in pixels.
        stride: vertical and horizontal step, in pixels.

    Raises:
        ValueError: the patch is larger than the input, or a size is below 1.
    """

    height: int
    width: int
    patch: tuple[int, int]
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.patch) < 1 or min(self.stride) < 1:
            raise ValueError(f"patch {self.patch} and stride {self.stride} must be at least 1")
        if self.patch[0] > self.height or self.patch[1] > self.width:
            raise ValueError(
                f"a patch of {self.patch[0]} x {self.patch[1]} does not fit an input of {self.height} x {self.width}"
            )

    @property
    def rows(self) -> int:
        """How many positions there are vertically."""
        return (self.height - self.patch[0]) // self.stride[0] + 1

    @property
    def cols(self) -> int:
        """How many positions there are horizontally."""
        return (self.width - self.patch[1]) // self.stride[1] + 1

    @property
    def size(self) -> int:
        """How many positions there are."""
        return self.rows * self.cols

    @property
    def ys(self) -> np.ndarray:
        """The top pixel of each row of positions, int64 [rows]."""
        return np.arange(self.rows, dtype=np.int64) * self.stride[0]

    @property
    def xs(self) -> np.ndarray:
        """The left pixel of each column of positions, int64 [cols]."""
        return np.arange(self.cols, dtype=np.int64) * self.stride[1]
