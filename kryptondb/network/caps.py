"""Projective field thresholding (paper, section 4.2): how large a region may grow, and where its middle lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kryptondb.network.node import AxisWindow


@dataclass(frozen=True)
class Cap:
    """The largest share of a node's height and width that its region may take.

    The share changes evenly from `tau` at the input to `tau_deep` where regions have grown most. How deep a node lies
    is told by how many pixels regions have grown on the way to it: operators without a window leave it as it is.

    Attributes:
        tau: the share at the input, above 0 and at most 1.
        tau_deep: the share at the deep end; the same as `tau` for one share at all depths.

    Raises:
        ValueError: a share is not in that range.
    """

    tau: float
    tau_deep: float

    def __post_init__(self) -> None:
        for share in (self.tau, self.tau_deep):
            if not 0 < share <= 1:
                raise ValueError(f"a cap is a share of a node's extent, above 0 and at most 1, not {share}")

    def cells(self, extent: int, depth: float) -> int:
        """The most cells along an axis of `extent` cells, at a depth from 0 (the input) to 1."""
        share = self.tau + (self.tau_deep - self.tau) * depth
        return max(1, math.ceil(round(share * extent, 9)))  # rounded first: 0.28 * 25 is a little more than 7

    def __str__(self) -> str:
        return f"tau {self.tau:g}" if self.tau == self.tau_deep else f"tau {self.tau:g} to {self.tau_deep:g}"


#: Regions as they are.
UNCAPPED = Cap(1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Course:
    """Where regions would lie if no border cut them off and no cell were rounded to, along one axis.

    Integers over a common denominator, so that their middles follow the patches exactly, however deep the network.

    Attributes:
        first, last: of each position's region, in cells times `parts`; int64 [positions].
        parts: into how many parts a cell is divided: as many as it is pixels wide, unless branches differ in that.
    """

    first: np.ndarray
    last: np.ndarray
    parts: int = 1

    def through(self, window: AxisWindow) -> Course:
        """Of the outputs whose windows reach into these."""
        first = self.first + self.parts * (window.before - window.size + 1)
        return Course(first, self.last + self.parts * window.before, self.parts * window.stride)

    def union(self, other: Course) -> Course:
        """What holds both."""
        parts = math.lcm(self.parts, other.parts)
        mine, others = parts // self.parts, parts // other.parts
        first = np.minimum(self.first * mine, other.first * others)
        return Course(first, np.maximum(self.last * mine, other.last * others), parts)

    @property
    def length(self) -> int:
        """From the first to the last, in parts of a cell; all positions have the same."""
        return int(self.last[0] - self.first[0])

    def centred(self, cells: int) -> np.ndarray:
        """The first of so many cells around the middle, of two equally near ones the later; int64 [positions]."""
        first: np.ndarray = (self.first + self.last - self.parts * (cells - 2)) // (2 * self.parts)
        return first


def depths(courses: Sequence[Course | None]) -> list[float]:
    """How deep each node lies from 0 to 1, by how much longer its course is than the input's, which is the first."""
    lengths = [None if course is None else course.length for course in courses]
    known = [length for length in lengths if length is not None]
    shortest, growth = min(known, default=0), max(1, max(known, default=0) - min(known, default=0))
    return [0.0 if length is None else (length - shortest) / growth for length in lengths]
