"""Whether a batch without a profile tunes itself, by what its maps are estimated to cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kryptondb.optimizer.approximations import Asked, planned
from kryptondb.optimizer.context import Context
from kryptondb.optimizer.promise import samples_needed
from kryptondb.optimizer.recipe import Recipe, recipes_on
from kryptondb.optimizer.tuning import Tuning
from kryptondb.optimizer.workload import Workload


def tuning(
    asked: Asked, workload: Workload, exact_seconds: float, images: int | None, context: Context
) -> Tuning | str:
    """How a batch without a profile tunes itself, or why it does not.

    Args:
        exact_seconds: of the exact plan, an image.
        images: in the batch; None where only the run finds out.
    """
    rates = context.rates(workload.device)
    recipes = recipes_on(rates, workload.precision)
    kinds = tuple(context.operators)
    if not planned(recipes[0], workload, rates, kinds, ()):
        return "no approximate operator can run this network"
    seconds = {
        recipe: candidate.cost.seconds
        for recipe in _maps(recipes)
        for candidate in planned(recipe, workload, rates, kinds, ())
    }
    grid = workload.grid.rows, workload.grid.cols
    later = [recipe.seconds(grid, *_of_maps(recipe, seconds, exact_seconds)) for recipe in recipes]
    found = Tuning(
        ssim=asked.ssim,
        confidence=asked.confidence,
        needed=samples_needed(asked.confidence),
        map_bytes=8 * workload.positions * workload.classes,
        exact_seconds=exact_seconds,
        guide_seconds=sum(seconds.values()),
        later_seconds=float(np.median(later)),
        images=images,
    )
    least = found.worth_from
    if least is None:
        return "it is not estimated to be faster for tuning itself"
    if images is not None and not found.drawn(images):
        return f"{images:,} images are too few for tuning itself, which is worth it from {least:,} on"
    return found


def _maps(recipes: Sequence[Recipe]) -> list[Recipe]:
    """One recipe for each map beside the exact one that these need."""
    found = [each for recipe in recipes for each in (_accurate(recipe), _guide(recipe)) if each is not None]
    return list(dict.fromkeys(found))


def _of_maps(recipe: Recipe, seconds: Mapping[Recipe, float], exact: float) -> tuple[float, float]:
    """Seconds of the maps that a recipe needs: of its better cells, and of its guide."""
    accurate, guide = _accurate(recipe), _guide(recipe)
    return seconds.get(accurate, exact) if accurate else exact, seconds.get(guide, 0.0) if guide else 0.0


def _accurate(recipe: Recipe) -> Recipe | None:
    return Recipe("incremental", precision=recipe.precision) if recipe.precision else None


def _guide(recipe: Recipe) -> Recipe | None:
    """Every cell with its cap."""
    if not recipe.capped:
        return None
    return Recipe("thresholded", recipe.tau, recipe.tau_deep, precision=recipe.precision)
