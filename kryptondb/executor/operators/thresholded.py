"""`thresholded`: incremental, with every region capped at a share of its node's height and width. Approximate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from kryptondb.executor.operators.incremental import Incremental
from kryptondb.network import UNCAPPED, Cap
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Workload

#: The shares worth costing where USING asks for none.
TAUS = (0.8, 0.6, 0.45, 0.3, 0.2)


@dataclass(frozen=True)
class Thresholded(Incremental):
    """Projective field thresholding: what an occlusion changes far from the patch is left as it was.

    With a cap of 1 it is `incremental`, bit for bit. An answer does not depend on how the grid is cut into tiles.
    Source: paper, sections 1 and 4.2.

    Attributes:
        cap: the share of every node's height and width that regions keep.
    """

    name: ClassVar[str] = "thresholded"
    exact: ClassVar[bool] = False
    cap: Cap = UNCAPPED

    @classmethod
    def candidates(cls, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[Incremental]:
        """For the share that is asked for, or each of `TAUS`: the settings with the lowest estimate."""
        taus = (hints["tau"],) if "tau" in hints else TAUS
        kinds = [partial(cls, cap=Cap(tau, tau)) for tau in taus]
        return [operator for kind in kinds for operator in cls.settings(kind, workload, rates, hints)]

    @property
    def recipe(self) -> Recipe:
        """What determines its answer."""
        return Recipe(self.name, self.cap.tau, self.cap.tau_deep)

    @classmethod
    def planned(cls, recipe: Recipe, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[Thresholded]:
        """The settings with the lowest estimate for a recipe's cap."""
        return cls.settings(partial(cls, cap=recipe.cap), workload, rates, hints)

    def describe(self, workload: Workload) -> str:
        """For EXPLAIN."""
        return f"{self.cap}, {super().describe(workload)}"

    def _cap(self) -> Cap:
        return self.cap
