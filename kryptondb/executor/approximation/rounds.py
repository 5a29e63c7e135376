"""A map that grows: from a coarse lattice on its step is halved round after round, and there is a map at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kryptondb.executor.approximation.interpolation import nearest_known
from kryptondb.executor.approximation.lattice import Lattice
from kryptondb.executor.approximation.reconstruction import Reconstruction
from kryptondb.optimizer.recipe import Recipe


def steps_of(step: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Steps of lattices that hold each other but for their last lines, from the coarsest to 1 by way of `step`.

    Args:
        shape: rows and columns of the grid; its coarsest lattice has little more than corners.
    """
    return (*reversed([*_doubled(step, max(shape))]), *_divided(step))


def _doubled(step: int, longest: int) -> Iterator[int]:
    yield step
    while 2 * step < longest:
        step *= 2
        yield step


def _divided(step: int) -> Iterator[int]:
    while step > 1:
        step //= next(factor for factor in range(2, step + 1) if step % factor == 0)
        yield step


@dataclass(frozen=True, eq=False)
class Round:
    """From a lattice whose cells are known to a finer one that holds it, but perhaps for its last lines.

    Values are scores [k, rows, cols], NaN where they are not known; a guide is the same of every cell.

    Attributes:
        recipe: says how maps are reconstructed, and its step is that of the lattice that is known.
        finer: the step of the next one.
        asked: the cells asked for, boolean [rows, cols].
        score: what the scores are, as in `occlude(..., score => )`.
        settles: as in `Reconstruction`.
    """

    recipe: Recipe
    finer: int
    asked: np.ndarray
    score: str = "probability"
    settles: bool = True

    @cached_property
    def cells(self) -> np.ndarray:
        """The cells of the finer lattice, boolean [rows, cols]."""
        return Lattice(self.asked, self.finer).cells

    def is_ready(self, known: np.ndarray) -> bool:
        """Whether the coarser lattice is known."""
        return bool(known[self._coarse.first].all())

    def order(self, values: np.ndarray, known: np.ndarray, guide: np.ndarray | None) -> np.ndarray:
        """Cells of the finer lattice that are not known yet, as flat indices; where the map is least sure first."""
        left = np.flatnonzero(self.cells & ~known)
        doubts = self._coarse.doubt(values, guide).ravel()[left]
        return left[np.argsort(-doubts, kind="stable")]

    def completed(self, values: np.ndarray, known: np.ndarray, guide: np.ndarray | None) -> np.ndarray:
        """The map of every cell asked for, NaN elsewhere; known cells keep their values.

        As long as the coarser lattice has gaps, its nodes there are as the nearest known cell: a plate that few cells
        hold in one corner would swing far away from them.

        With a guide, where some of the finer lattice is known, all else of it is taken from the map through the coarse
        one: what is linear between both is nearer to the exact map than the coarse one corrected here and there.
        """
        if not self.is_ready(known):
            values, known = nearest_known(values, known), known | self._coarse.first
        coarse = self._coarse.completed(values, known, guide)
        if guide is None or not (known & ~self._coarse.first).any():
            return coarse
        return self._fine.completed(coarse, known, guide)

    @cached_property
    def _coarse(self) -> Reconstruction:
        return Reconstruction(self.recipe, self.asked, self.score, self.settles)

    @cached_property
    def _fine(self) -> Reconstruction:
        return Reconstruction(replace(self.recipe, step=self.finer), self.asked, self.score, self.settles)
