"""From a recipe to the operator that makes it fastest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from kryptondb.errors import PlanError
from kryptondb.executor.operators.drill_down import DrillDown
from kryptondb.executor.operators.refined import Refined
from kryptondb.executor.operators.staged import Staged
from kryptondb.executor.operators.thresholded import Thresholded
from kryptondb.network import Cap
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Workload

_STAGED: tuple[type[Staged], ...] = (DrillDown, Refined)


def operator_of(
    recipe: Recipe, workload: Workload, rates: Rates, hints: Mapping[str, Any]
) -> Thresholded | Staged | None:
    """The cheapest operator that gives a recipe's answer; None where the network only runs as a whole.

    Raises:
        PlanError: this version has no operator of that name.
    """
    found: list[Thresholded] | list[Staged]
    if recipe.operator == Thresholded.name:
        found = Thresholded.settings(partial(Thresholded, cap=Cap(recipe.tau, recipe.tau_deep)), workload, rates, hints)
    else:
        kind = next((kind for kind in _STAGED if kind.name == recipe.operator), None)
        if kind is None:
            raise PlanError(f"no operator makes the recipe {recipe}")
        found = kind.planned(recipe, workload, rates, hints)
    return found[0] if found else None
