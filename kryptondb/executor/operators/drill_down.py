"""`drill-down`: a coarse map first, then the cells that matter, and interpolation elsewhere. Approximate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kryptondb.executor.approximation import StageCells
from kryptondb.executor.operators.staged import Stage, Staged
from kryptondb.optimizer.grid_cells import GridCells
from kryptondb.optimizer.recipe import USUAL_SHARE, Recipe

#: What is done where USING does not say. Where a map is least sure says more about its errors than where the score
#: falls most, the paper's choice: on a brain scan 0.965 SSIM against 0.950 with these numbers.
STEP, FRACTION, WHERE = 3, 0.1, "uncertain"


@dataclass(frozen=True)
class DrillDown(Staged):
    """Adaptive drill-down: cells at every `step`-th row and column, then those that matter.

    These are a fraction of all, the paper's choice, or all of which the map is not sure enough: that spends cells where
    they are needed, not only within an image but among images.

    With a cap in its recipe, the first cells are `thresholded` ones and only those of the second stage exact. Source:
    paper, sections 1 and 4.3.
    """

    name: ClassVar[str] = "drill-down"

    @classmethod
    def recipe_of(cls, hints: Mapping[str, Any]) -> Recipe:
        tau, doubt = hints.get("tau", 1.0), hints.get("doubt", 0.0)
        fraction = hints.get("fraction", USUAL_SHARE if doubt else FRACTION)
        return Recipe(cls.name, tau, tau, hints.get("step", STEP), fraction, hints.get("chosen", WHERE), doubt=doubt)

    @classmethod
    def _shares(cls, cells: StageCells) -> tuple[GridCells, GridCells | None]:
        if not cells.recipe.capped:
            return cells.first, None
        return cells.scattered, cells.first

    def _first(self, cells: StageCells) -> Sequence[tuple[Stage, GridCells]]:
        return [(Stage("first", self.cheap or self.accurate), cells.first)]
