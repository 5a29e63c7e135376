"""Where the patch may stand: every position at which the whole patch fits inside the model's input, or to its edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kryptondb.options.words import EDGES


def leaves_gaps(sizes: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int]) -> bool:
    """Whether pixels of an input of these sizes stay between patches that are a stride apart."""
    return any(length < min(step, size) for size, length, step in zip(sizes, patch, stride, strict=True))


@dataclass(frozen=True)
class Grid:
    """All positions of a patch on an input of `height` by `width` pixels.

    Rows and columns count `floor((H - P) / S) + 1` and `floor((W - P) / S) + 1`. The paper's equations 1 and 2 say
    `floor((H - P + 1) / S)`: equal at stride 1, one row and column less at most other strides.

    To cover all of the input, they count `ceil((H - P) / S) + 1` and `ceil((W - P) / S) + 1`. What cannot reach beyond
    the edge is computed as a whole patch moved inside, of which only the part from `tops` and `lefts` on is painted.

    Attributes:
        height, width: the model's input, in pixels.
        patch: height and width of the patch, in pixels.
        stride: vertical and horizontal step, in pixels.
        edges: 'fit' or 'cover'.

    Raises:
        ValueError: the patch is larger than the input, a size is below 1, `edges` is neither, or a stride that leaves
            gaps is to cover all of the input.
    """

    height: int
    width: int
    patch: tuple[int, int]
    stride: tuple[int, int]
    edges: str = "fit"

    def __post_init__(self) -> None:
        if self.edges not in EDGES:
            raise ValueError(f"edges must be one of {', '.join(EDGES)}, not {self.edges!r}")
        if min(self.patch) < 1 or min(self.stride) < 1:
            raise ValueError(f"patch {self.patch} and stride {self.stride} must be at least 1")
        if self.patch[0] > self.height or self.patch[1] > self.width:
            raise ValueError(
                f"a patch of {self.patch[0]} x {self.patch[1]} does not fit an input of {self.height} x {self.width}"
            )
        if self.edges == "cover" and leaves_gaps((self.height, self.width), self.patch, self.stride):
            raise ValueError(f"a stride of {self.stride} leaves gaps between patches of {self.patch}: it cannot cover")

    @property
    def rows(self) -> int:
        """How many positions there are vertically."""
        return self._count(self.height - self.patch[0], self.stride[0])

    @property
    def cols(self) -> int:
        """How many positions there are horizontally."""
        return self._count(self.width - self.patch[1], self.stride[1])

    @property
    def size(self) -> int:
        """How many positions there are."""
        return self.rows * self.cols

    @property
    def tops(self) -> np.ndarray:
        """The top pixel that each row of positions covers, int64 [rows]."""
        return np.arange(self.rows, dtype=np.int64) * self.stride[0]

    @property
    def lefts(self) -> np.ndarray:
        """The left pixel that each column of positions covers, int64 [cols]."""
        return np.arange(self.cols, dtype=np.int64) * self.stride[1]

    @property
    def ys(self) -> np.ndarray:
        """The top pixel of each row of positions, whole patches moved inside the input, int64 [rows]."""
        ys: np.ndarray = np.minimum(self.tops, self.height - self.patch[0])
        return ys

    @property
    def xs(self) -> np.ndarray:
        """The left pixel of each column of positions, whole patches moved inside the input, int64 [cols]."""
        xs: np.ndarray = np.minimum(self.lefts, self.width - self.patch[1])
        return xs

    @property
    def heights(self) -> np.ndarray:
        """How many pixels each row of positions covers, int64 [rows]: less than a patch where the edge cuts it."""
        heights: np.ndarray = np.minimum(self.height - self.tops, self.patch[0])
        return heights

    @property
    def widths(self) -> np.ndarray:
        """How many pixels each column of positions covers, int64 [cols]."""
        widths: np.ndarray = np.minimum(self.width - self.lefts, self.patch[1])
        return widths

    def moved(self, ys: np.ndarray, xs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By how many pixels whole patches at these places of `ys` and `xs` were moved inside, int64 [n] each."""
        return -ys % self.stride[0], -xs % self.stride[1]

    def _count(self, room: int, step: int) -> int:
        return (room // step if self.edges == "fit" else -(-room // step)) + 1


@dataclass(frozen=True)
class PlacedGrid(Grid):
    """Whole patches at listed rows and columns, in order and inside the input.

    Attributes:
        at_ys: the top pixel of each row of positions.
        at_xs: the left pixel of each column of positions.
    """

    at_ys: tuple[int, ...] = ()
    at_xs: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """How many positions there are vertically."""
        return len(self.at_ys)

    @property
    def cols(self) -> int:
        """How many positions there are horizontally."""
        return len(self.at_xs)

    @property
    def tops(self) -> np.ndarray:
        """The top pixel of each row of positions, int64 [rows]."""
        return np.array(self.at_ys, dtype=np.int64)

    @property
    def lefts(self) -> np.ndarray:
        """The left pixel of each column of positions, int64 [cols]."""
        return np.array(self.at_xs, dtype=np.int64)

    def moved(self, ys: np.ndarray, xs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """No patch is moved: zeros, int64 [n] each."""
        return np.zeros_like(ys), np.zeros_like(xs)
