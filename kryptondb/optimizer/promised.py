"""WITH SSIM: the cheapest recipe that a profile shows to keep the promise, instead of the exact plan.

What is promised: the next image's map has at least the SSIM that is asked for, with the confidence that is asked for, if
it is an image like those that were analyzed (see `optimizer.promise`, where that is proven). What is not shown to be
kept is not tried: without a profile, with too few images in it, or for a part of the grid, the exact plan runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kryptondb.grammar.statements import Promise
from kryptondb.optimizer.choose import Candidate, Choice
from kryptondb.optimizer.context import Context
from kryptondb.optimizer.logical import Hints
from kryptondb.optimizer.physical import Occlude, Quality, Rejected
from kryptondb.optimizer.profile import Profile
from kryptondb.optimizer.promise import Admission, admit, lower_bound
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.units import bytes_text, seconds_text
from kryptondb.optimizer.workload import Workload

CONFIDENCE = 0.9  # where a promise says none: LANGUAGE


@dataclass(frozen=True)
class Kept:
    """How a promise is kept: what runs, and what is said of its quality."""

    choice: Choice
    quality: Quality


def keep(
    promise: Promise, exact: Choice, occlude: Occlude, workload: Workload, hints: Hints, context: Context
) -> Kept:
    """Takes the cheapest recipe that keeps `WITH SSIM`, or the exact plan, and says why.

    Args:
        exact: the cheapest exact plan, and what was rejected for it.
        occlude: the experiment with that plan: it says which profile fits.
    """
    assert promise.ssim is not None
    asked = f"SSIM >= {promise.ssim:g}"

    def exactly(why: str, rejected: tuple[Rejected, ...] = ()) -> Kept:
        quality = Quality("exact", promise, f"{why}: the exact plan keeps {asked}")
        return Kept(Choice(exact.chosen, (*exact.rejected, *rejected), exact.reason), quality)

    if not exact.chosen.operator.exact or context.approximations is None:
        return exactly("no profile")
    if workload.runs is not None:
        return exactly("profiles are of whole maps, and this is a part of one")
    profile = context.approximations.profile(occlude)
    if profile is None or not profile.images:
        return exactly(f"no profile (ANALYZE {occlude.model} USING images makes one)")
    confidence = CONFIDENCE if promise.confidence is None else promise.confidence
    judged = _Judged.of(profile, promise.ssim, confidence)
    if profile.images < judged.admission.needed:
        return exactly(
            f"the profile has {profile.images:,} images, a confidence of {confidence:g} needs {judged.admission.needed:,}"
        )
    recipe = judged.recipe
    if recipe is None:
        return exactly("no recipe of the profile is shown to keep it", judged.rejected(None))
    rates = context.rates(workload.device).in_precision(workload.precision)
    operator = context.approximations.operator_of(recipe, workload, rates, hints.for_operators())
    if operator is None:
        return exactly("no approximate operator can run this network", judged.rejected(None))
    cost = operator.estimate(workload, rates)
    if cost.memory > workload.memory_limit:
        return exactly(f"{recipe} needs {bytes_text(cost.memory)}, more than the limit", judged.rejected(None))
    if cost.seconds >= exact.chosen.cost.seconds:
        return exactly(f"{recipe} would be no faster here", judged.rejected(None))
    chosen = Candidate(operator, cost, operator.describe(workload))
    times = exact.chosen.cost.seconds / cost.seconds
    loser = exact.chosen
    against = Rejected(loser.operator, loser.cost, f"{times:.1f} x the time", loser.description)
    reason = (
        f"{recipe.operator} keeps {asked}; {loser.operator.name}, which is exact, takes {times:.1f} times as long "
        f"({seconds_text(loser.cost.seconds)})"
    )
    rejected = (against, *exact.rejected, *judged.rejected(recipe))
    quality = Quality("approximate", promise, judged.note(recipe))
    return Kept(Choice(chosen, rejected, reason), quality)


@dataclass(frozen=True, eq=False)
class _Judged:
    """A profile's recipes that are faster than the exact map, from the fastest on, and what is shown of a target."""

    profile: Profile
    columns: np.ndarray
    seconds: np.ndarray
    target: float
    confidence: float
    admission: Admission

    @classmethod
    def of(cls, profile: Profile, target: float, confidence: float) -> _Judged:
        seconds = np.median(profile.seconds, axis=0)
        columns = np.flatnonzero(seconds < np.median(profile.exact_seconds))
        columns = columns[np.argsort(seconds[columns], kind="stable")]
        admission = admit(profile.samples[:, columns], seconds[columns], target, confidence)
        return cls(profile, columns, seconds, target, confidence, admission)

    @property
    def recipe(self) -> Recipe | None:
        """The one that is admitted."""
        column = self.admission.recipe
        return None if column is None else self.profile.recipes[self.columns[column]]

    def note(self, recipe: Recipe) -> str:
        """What is promised, and on what ground."""
        ssims = self.profile.samples[:, self.profile.recipes.index(recipe)]
        return (
            f"{recipe}: shown with confidence {self.confidence:g} by {self.admission.images:,} images that are like the "
            f"next; median {np.median(ssims):.3f}, worst {ssims.min():.3f}"
        )

    def rejected(self, chosen: Recipe | None) -> tuple[Rejected, ...]:
        """Every other recipe and why it does not run, from the fastest on."""
        fastest = None if chosen is None else self.seconds[self.profile.recipes.index(chosen)]
        return tuple(
            self._rejected(place, fastest)
            for place, column in enumerate(self.columns)
            if self.profile.recipes[column] != chosen
        )

    def _rejected(self, place: int, fastest: float | None) -> Rejected:
        column = int(self.columns[place])
        recipe, ssims = self.profile.recipes[column], self.profile.samples[:, column]
        bound = lower_bound(ssims, self.confidence)
        described = f"{recipe}; SSIM bound {bound:.3f}" if bound is not None else str(recipe)
        if place in self.admission.certified and fastest is not None:
            why = f"{self.seconds[column] / fastest:.1f} x the time"
        elif fastest is not None and self.seconds[column] >= fastest:
            why = "slower than what runs"
        elif bound is not None and bound >= self.target:
            why = "not shown: it was chosen among many, or a dearer one on its path fails"
        else:
            why = f"{int((ssims >= self.target).sum()):,} of {len(ssims):,} images keep the promise"
        return Rejected(None, None, why, described, recipe, float(self.seconds[column]))
