"""Whether a batch without a profile tunes itself, by what its maps are estimated to cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kryptondb.optimizer.approximations import Asked, planned
from kryptondb.optimizer.logical import Context
from kryptondb.optimizer.promise import samples_needed
from kryptondb.optimizer.recipe import (
    EXACT,
    USUAL_SHARE,
    Pass,
    Recipe,
    accurate_pass,
    guide_pass,
    maps_beside,
    recipes_on,
)
from kryptondb.optimizer.tuning import Tuning
from kryptondb.optimizer.workload import Workload


def tuning(
    asked: Asked,
    workload: Workload,
    exact_seconds: float,
    images: int | None,
    hints: Mapping[str, Any],
    context: Context,
) -> Tuning | str:
    """How a batch without a profile tunes itself, or why it does not.

    Args:
        exact_seconds: of the exact plan, an image.
        images: in the batch; None where only the run finds out.
        hints: of USING, for operators.
    """
    rates = context.rates(workload.device)
    recipes = recipes_on(rates, workload.precision)
    kinds, given = tuple(context.operators), tuple(sorted(hints.items()))
    if not planned(workload, recipes[0], rates, kinds, given):
        return "no approximate operator can run this network"
    others = {
        each: candidate.cost.seconds
        for each in maps_beside(recipes)
        for candidate in planned(workload, each.recipe, rates, kinds, given)
    }
    grid = workload.grid.rows, workload.grid.cols
    seconds = {EXACT: exact_seconds, **others}
    later = [
        recipe.seconds(grid, *_of_maps(recipe, seconds), USUAL_SHARE if recipe.doubt else None) for recipe in recipes
    ]
    found = Tuning(
        ssim=asked.ssim,
        confidence=asked.confidence,
        needed=samples_needed(asked.confidence),
        map_bytes=8 * workload.positions * workload.classes,
        exact_seconds=exact_seconds,
        guide_seconds=sum(others.values()),
        later_seconds=float(np.median(later)),
        images=images,
        hints=given,
    )
    return found.against(images) or found


def _of_maps(recipe: Recipe, seconds: Mapping[Pass, float]) -> tuple[float, float]:
    """Seconds of the maps that a recipe needs: of its better cells, and of its guide."""
    accurate, guide = accurate_pass(recipe), guide_pass(recipe)
    return seconds.get(accurate, seconds[EXACT]) if accurate else 0.0, seconds.get(guide, 0.0) if guide else 0.0
