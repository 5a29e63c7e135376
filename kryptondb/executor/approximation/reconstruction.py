"""An approximate map out of the cells that are computed: which those are, and what all others become.

The same functions serve a run, which computes cells stage by stage, and ANALYZE, which takes them out of maps that are
there already: a recipe's quality is measured without running it, and is what a run of it gives.

A map may grow in rounds: the step of its lattice is halved again and again, and there is a map at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kryptondb.executor.approximation.interpolation import (
    LINEAR,
    Lattice,
    Scale,
    at_nodes,
    corrected,
    doubt,
    fitted,
    interpolated,
    lattice_cells,
    least_bent,
    nearest_known,
)
from kryptondb.executor.quality import spread, variation
from kryptondb.optimizer.grid_cells import CellsByKind, GridCells
from kryptondb.optimizer.recipe import Recipe


def simulated(
    recipe: Recipe,
    exact: np.ndarray,
    guide: np.ndarray | None = None,
    asked: np.ndarray | None = None,
    score: str = "probability",
) -> tuple[np.ndarray, float]:
    """The map that a recipe gives, out of maps of every cell, and how much it computes.

    Args:
        exact: scores [k, rows, cols], in the recipe's precision.
        guide: the same from `thresholded` with the recipe's cap; None where the recipe has none.
        asked: the cells asked for, boolean [rows, cols]; None for all of them.
        score: what the scores are, as in `occlude(..., score => )`.

    Returns:
        Scores [k, rows, cols], NaN where a cell is not asked for; and the share of the cells asked for that is computed
        because of what the first ones look like.
    """
    whole = np.ones(exact.shape[1:], dtype=bool)
    reconstruction = Reconstruction(recipe, whole if asked is None else asked, score)
    if recipe.operator == "incremental":
        return np.where(reconstruction.asked, exact, np.nan), 0.0
    if recipe.operator == "thresholded":
        assert guide is not None
        return np.where(reconstruction.asked, guide, np.nan), 0.0
    first = guide if recipe.operator == "drill-down" and recipe.capped else exact
    assert first is not None, f"{recipe} needs the guide"
    known = reconstruction.first
    values = np.where(known, first, np.nan)
    more = reconstruction.further(values, guide)
    values = np.where(more, exact, values)
    share = float(more.sum()) / max(1, int(reconstruction.asked.sum()))
    return reconstruction.completed(values, known | more, guide), share


def further_count(recipe: Recipe, asked: int, first: int) -> int:
    """How many of `asked` cells are computed after the first ones; an expectation where doubt decides."""
    return min(round(recipe.fraction * asked), asked - first)


@dataclass(frozen=True)
class StageCells:
    """Which cells a recipe's stages compute, as far as they are known before anything is computed: for estimates.

    Attributes:
        recipe: a 'drill-down' or 'refined' one.
        asked: the cells asked for.
    """

    recipe: Recipe
    asked: CellsByKind

    @cached_property
    def first(self) -> CellsByKind:
        """The cells that are computed first."""
        return lattice_cells(self.asked, self.recipe.step)

    @property
    def further_count(self) -> int:
        """How many cells are computed after these, or are expected to be."""
        return further_count(self.recipe, self.asked.count, self.first.count)

    @cached_property
    def scattered(self) -> GridCells:
        """As many cells as will be chosen, without a pattern; the same ones every time."""
        return (self.asked - self.first).scattered(self.further_count)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One image's map out of part of it. Values are scores [k, rows, cols], NaN where a cell is not computed.

    Attributes:
        recipe: a 'drill-down' or 'refined' one.
        asked: the cells asked for, boolean [rows, cols].
        score: what the scores are.
        settles: whether a map without a guide gives way until it is bent least, which is most of what a reconstruction
            takes; else it stays as a spline through its lattice leaves it, drawn to what else is known.
    """

    recipe: Recipe
    asked: np.ndarray
    score: str = "probability"
    settles: bool = True

    @cached_property
    def lattice(self) -> Lattice:
        """Where cells are computed first."""
        return Lattice(self.asked, self.recipe.step)

    @property
    def first(self) -> np.ndarray:
        """The cells that are computed first, boolean [rows, cols]."""
        return self.lattice.cells

    @property
    def further_count(self) -> int:
        """How many cells are computed after these, or are expected to be where only their doubt decides."""
        return further_count(self.recipe, int(self.asked.sum()), int(self.first.sum()))

    def further(self, values: np.ndarray, guide: np.ndarray | None) -> np.ndarray:
        """The cells that are computed next, boolean [rows, cols].

        Those of which the map is not sure enough for the recipe, or as many as it says of those that its `where` puts
        first. All that are left where a computed cell is not finite: nothing can be told from it about its neighbors.
        """
        left: np.ndarray = self.asked & ~self.first
        if not np.isfinite(values[:, self.first]).all():
            return left
        if self.recipe.doubt:
            unsure: np.ndarray = left & (self.doubt(values, guide) > self.recipe.doubt)
            return unsure
        chosen = np.zeros_like(self.asked)
        if not self.further_count:
            return chosen
        matters = self._drop(values, guide) if self.recipe.where == "drop" else self.doubt(values, guide)
        order = np.argsort(-matters[left], kind="stable")
        chosen.flat[np.flatnonzero(left)[order[: self.further_count]]] = True
        return chosen

    def completed(self, values: np.ndarray, known: np.ndarray, guide: np.ndarray | None) -> np.ndarray:
        """The map of every cell asked for, NaN elsewhere; known cells keep their values."""
        if not (self.asked & ~known).any():
            exact: np.ndarray = np.where(known, values, np.nan)
            return exact
        maps = self._reconstructed(values, known, guide)
        return np.where(known, values, np.where(self.asked, maps, np.nan))

    def doubt(self, values: np.ndarray, guide: np.ndarray | None) -> np.ndarray:
        """How far off each cell's score may be, of the class for which it is most, in parts of its map's range.

        Without a guide an error counts for more where the map varies little: SSIM minds it most there. Divided by all
        of the variation, the flattest parts would decide alone; its root finds cells that measure better than either.
        """
        maps = self.completed(values, self.first, guide)
        if not self._guided:
            doubts = doubt(self.lattice, at_nodes(self.lattice, values)) / np.sqrt(variation(maps))
        else:
            assert guide is not None
            scale = Scale(self.score)
            left = scale.to(values) - self._line(values, self.first, guide)
            doubts = doubt(self.lattice, at_nodes(self.lattice, left)) * scale.slope(scale.to(maps))
        largest: np.ndarray = (doubts / spread(maps)).max(axis=0)
        return largest

    def _reconstructed(self, values: np.ndarray, known: np.ndarray, guide: np.ndarray | None) -> np.ndarray:
        if not self._guided:
            return self._least_bent(values, known)
        assert guide is not None
        scale = Scale(self.score)
        exact, line = scale.to(values), self._line(values, known, guide)
        # What a fit leaves is rough: a cubic spline would swing between the nodes.
        left = interpolated(self.lattice, at_nodes(self.lattice, exact - line), LINEAR)
        return scale.back(corrected(line + left, exact, known))

    def _least_bent(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Maps through all that is known, NaN outside of the lattice's rectangle."""
        maps = corrected(interpolated(self.lattice, at_nodes(self.lattice, values)), values, known)
        if not self.settles:
            return maps
        rows, cols = self.lattice.rectangle
        maps[:, rows, cols] = least_bent(np.where(known, values, maps)[:, rows, cols], known[rows, cols])
        return maps

    @property
    def _guided(self) -> bool:
        return self.recipe.operator == "refined"

    def _line(self, values: np.ndarray, known: np.ndarray, guide: np.ndarray) -> np.ndarray:
        """The guide, fitted to what is known, on its scale."""
        scale = Scale(self.score)
        return fitted(scale.to(guide), scale.to(values), known)

    def _drop(self, values: np.ndarray, guide: np.ndarray | None) -> np.ndarray:
        """How low each cell's score seems to be, of the class for which it is lowest: 0 to 1, [rows, cols]."""
        maps = self.completed(values, self.first, guide)
        drop: np.ndarray = ((np.nanmax(maps, axis=(1, 2), keepdims=True) - maps) / spread(maps)).max(axis=0)
        return drop


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
