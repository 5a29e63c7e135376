"""The strategy of batches that tune themselves: what the run needs is prepared, and the fastest alternative found then.

See `optimizer.self_tuning` for why the images that are measured keep a promise for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kryptondb.optimizer.cost import layer_shapes
from kryptondb.optimizer.physical import Occlude, Quality
from kryptondb.optimizer.promise import Profile, samples_needed
from kryptondb.optimizer.recipe import (
    EXACT,
    USUAL_SHARE,
    Pass,
    Recipe,
    RecipeQuality,
    accurate_pass,
    guide_pass,
    maps_beside,
    recipes_on,
    worthwhile,
)
from kryptondb.optimizer.self_tuning import MapOperator, SelfTuning
from kryptondb.optimizer.strategies.promised import (
    Approximations,
    approximations,
    candidates_for,
    fastest_kept,
    promised,
)
from kryptondb.optimizer.strategies.request import Decision, Request, SsimPromise
from kryptondb.optimizer.workload import Workload

if TYPE_CHECKING:
    from kryptondb.network import Network
    from kryptondb.optimizer.operator import Operator


def self_tuning(request: Request) -> Decision | None:
    """Applies to a promise of SSIM for several images where no profile is large enough for it.

    Where the batch does not tune itself, the exact plan runs and its quality says why.
    """
    ssim, workload = request.ssim, request.workload
    if ssim is None or request.time_limit is not None or request.hints.operator is not None:
        return None
    if ssim.profile is not None and ssim.profile.images >= samples_needed(ssim.confidence):
        return None
    if not workload.network.traced or not workload.positions or request.single:
        return None
    exact = promised(request)
    assert exact is not None
    if not request.may_tune:
        found: SelfTuning | str = "SET tuning = 'auto' lets a batch tune itself"
    elif workload.runs is not None:
        found = "a batch tunes itself with whole maps, and the query asks for a part"
    elif request.limited:
        found = "a query that may end after a few images does not tune itself"
    else:
        found = _prepared(ssim, exact.chosen.cost.seconds, request)
    if isinstance(found, str):
        return replace(exact, quality=replace(exact.quality, note=f"{exact.quality.note}; {found}"))
    note = f"no profile: {found.outlook()}"
    quality = Quality("approximate", request.promise, note, ssim.confidence, found.needed)
    return replace(exact, quality=quality, tuning=found)


def _prepared(ssim: SsimPromise, exact_seconds: float, request: Request) -> SelfTuning | str:
    """How a batch tunes itself, or why it does not.

    Args:
        exact_seconds: of the exact plan, per image.
    """
    workload, images = request.workload, request.image_count()
    shapes = set(layer_shapes(workload.network))
    rates = replace(request.rates, layers=tuple(rate for rate in request.rates.layers if rate.shape in shapes))
    recipes = recipes_on(rates, workload.precision)
    kinds, hints = tuple(request.operators), tuple(sorted(request.hints.for_operators().items()))
    if not candidates_for(workload, recipes[0], rates, kinds, hints):
        return "no approximate operator can run this network"
    maps = {
        beside: candidate
        for beside in maps_beside(recipes)
        for candidate in candidates_for(workload, beside.recipe, rates, kinds, hints)
    }
    seconds = {EXACT: exact_seconds} | {beside: candidate.cost.seconds for beside, candidate in maps.items()}
    grid = workload.grid.rows, workload.grid.cols
    later = [
        recipe.seconds(grid, *_seconds_of_maps(recipe, seconds), USUAL_SHARE if recipe.doubt else None)
        for recipe in recipes
    ]
    judged = ssim.profile is not None
    found = SelfTuning(
        ssim=ssim.ssim,
        confidence=ssim.confidence,
        needed=samples_needed(ssim.confidence),
        map_bytes=8 * workload.positions * workload.classes,
        exact_seconds=exact_seconds,
        guide_seconds=sum(candidate.cost.seconds for candidate in maps.values()),
        later_seconds=float(np.median(later)),
        images=images,
        hints=hints,
        recipes=tuple(
            worthwhile(ssim.profile.first, float(ssim.profile.exact_seconds[0]), recipes)
            if ssim.profile is not None
            else recipes
        ),
        maps=tuple(MapOperator(beside, candidate.operator) for beside, candidate in maps.items()),
        judged=judged,
        rates=rates,
    )
    return found.against(images) or found


def _seconds_of_maps(recipe: Recipe, seconds: Mapping[Pass, float]) -> tuple[float, float]:
    """Seconds of the maps that a recipe needs: of its better cells, and of its guide."""
    accurate, guide = accurate_pass(recipe), guide_pass(recipe)
    return seconds.get(accurate, seconds[EXACT]) if accurate else 0.0, seconds.get(guide, 0.0) if guide else 0.0


@dataclass(frozen=True)
class Alternative:
    """What runs the images of a batch that were not measured.

    Attributes:
        recipe: in words; None where they run exactly too.
        note: how that keeps the promise, or why nothing faster does.
    """

    node: Occlude
    recipe: str | None
    note: str


def alternative(
    node: Occlude,
    network: Network,
    operators: Sequence[type[Operator]],
    measured: Sequence[Mapping[Recipe, RecipeQuality]],
    exact_seconds: Sequence[float],
) -> Alternative:
    """The fastest way to run the other images by which the measured ones keep the promise.

    Args:
        node: a batch that tunes itself.
        measured: of each measured image in order, the recipes; those of the last were measured on all of them.
        exact_seconds: of the exact map of each.
    """
    tuning, asked = node.tuning, node.experiment
    assert tuning is not None
    found = Approximations(why_none="no image could be measured")
    if measured:
        recipes = [recipe for recipe in measured[-1] if all(recipe in image for image in measured)]
        ssim = SsimPromise(tuning.ssim, tuning.confidence, Profile.of(recipes, measured, exact_seconds))
        limits = node.device, node.memory_limit, asked.precision
        workload = Workload(network, asked.grid, asked.runs, asked.scored, *limits)
        found = approximations(ssim, workload, tuning.rates, operators, dict(tuning.hints))
    best = fastest_kept(found, tuning.exact_seconds, node.memory_limit)
    if best is None:
        why = found.why_none or "no recipe that keeps the promise is estimated to be faster"
        return Alternative(node, None, why)
    return Alternative(replace(node.run_by(best.candidate), tuning=None), str(best.recipe), best.about)
