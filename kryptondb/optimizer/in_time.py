"""WITH TIME: the plan that would run anyway, the best map that the time allows, or why there is neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from kryptondb.errors import PlanError
from kryptondb.optimizer.approximations import Asked
from kryptondb.optimizer.choose import Choice, no_memory
from kryptondb.optimizer.logical import Context, Hints
from kryptondb.optimizer.nearest import both_impossible
from kryptondb.optimizer.operator import Candidate, Reach, Stoppable
from kryptondb.optimizer.physical import Rejected
from kryptondb.optimizer.promise import Profile
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.within import Within
from kryptondb.optimizer.workload import REDUCED_PRECISIONS, Workload

#: The operator that gives the best map it can in whatever time there is.
STOPPABLE = "anytime"


@dataclass(frozen=True)
class InTime:
    """A choice that keeps a promise of time.

    Attributes:
        note: how it keeps it.
        stops: whether it runs until the time is over; then its answer is approximate.
        expected: the SSIM of such an answer; None where nothing tells.
    """

    choice: Choice
    note: str
    stops: bool = False
    expected: float | None = None


def in_time(
    choice: Choice,
    within: Within,
    workload: Workload,
    hints: Hints,
    context: Context,
    asked: Asked | None,
    profile: Profile | None,
) -> InTime:
    """What runs where the answer has to be there in time.

    Args:
        choice: what would run if it had not.
        asked: the promise of SSIM that is to be kept as well.
        profile: what is known of the SSIM of recipes.

    Raises:
        PlanError: the time is too short for anything, or for what keeps the SSIM or the hints.
    """
    chosen = choice.chosen
    if not workload.positions:
        return _images_alone(choice, within, workload)
    if chosen.operator.name != STOPPABLE:
        if workload.network.traced and within.holds(chosen.cost.seconds):
            return InTime(choice, f"estimated to take {within.told(chosen.cost.seconds)}")
        if hints.operator is not None:
            raise _hint_too_slow(chosen, within, workload, asked)
        if asked is not None:
            raise both_impossible(chosen, asked, within, workload, hints, context)
    if workload.runs is not None:
        profile = None  # it tells of whole maps
    found = list(_planned(within, workload, hints, context, profile))
    best = found[-1]
    if best.candidate.cost.memory > workload.memory_limit:
        raise no_memory(best.candidate, workload.memory_limit)
    if best.reach is not None and best.reach.least > within.an_image:
        raise PlanError(
            f"{within} is too short: the unoccluded image and the first few cells are estimated to take "
            f"{within.told(best.reach.least)}",
            hint=f"{within.enough(best.reach.least)} can be kept, by a coarse map.",
        )
    losers = [Rejected(each.candidate.operator, each.candidate.cost, each.against, each.candidate.description)
              for each in found[:-1]]  # fmt: skip
    if chosen.operator.name != STOPPABLE:
        exact = Rejected(chosen.operator, chosen.cost, "", chosen.description)
        losers += [_too_slow(each, within, workload) for each in (exact, *choice.rejected)]
    return InTime(
        Choice(best.candidate, tuple(losers), _reason(choice, within, workload)), best.note, True, best.expected
    )


def _images_alone(choice: Choice, within: Within, workload: Workload) -> InTime:
    """What runs where no cell is asked for, and yet every image goes through the network as it is."""
    seconds = choice.chosen.cost.seconds
    if not workload.network.traced or within.images is None:
        return InTime(choice, "no cell is computed; what the images as they are take is not known")
    if within.holds(seconds):
        return InTime(choice, f"estimated to take {within.told(seconds)}")
    raise PlanError(
        f"{within} is too short: the unoccluded image is estimated to take {within.told(seconds)}",
        hint=f"{within.enough(seconds)} can be kept.",
    )


@dataclass(frozen=True)
class _Planned:
    """A way to use the time, how far it comes, and the SSIM to expect of that; None for what is not known."""

    candidate: Candidate
    reach: Reach | None
    expected: float | None
    note: str = ""
    against: str = ""


def _planned(
    within: Within, workload: Workload, hints: Hints, context: Context, profile: Profile | None
) -> Iterator[_Planned]:
    """Ways to use the time, from the best SSIM of the profile down to the first that there is time for, the last."""
    kind = cast("type[Stoppable]", next(kind for kind in context.operators if kind.name == STOPPABLE))
    rates = context.rates(workload.device).in_precision(workload.precision)

    def planned(operator: Stoppable) -> tuple[Candidate, Reach | None]:
        cost, said = operator.estimate(workload, rates), operator.describe(workload)
        if not workload.network.traced or within.images is None:
            return Candidate(operator, cost, said, workload.precision), None
        reach = operator.reach(workload, rates, within.an_image)
        cost = replace(cost, seconds=reach.seconds, flops=reach.flops, phases=())
        said = f"about {reach.positions:,} cells computed, {said}"
        return Candidate(operator, cost, said, workload.precision), reach

    rounds: Stoppable = kind.candidates(workload, rates, hints.for_operators())[0]
    whole, reach = planned(rounds.for_enough_time())
    all_cells: tuple[float | None, str] = 1.0, "time for every cell is expected"
    if workload.precision in REDUCED_PRECISIONS:
        all_cells = None, f"{all_cells[1]}; what SSIM to expect in {workload.precision} is not known"
    if reach is not None and reach.step == 1 and within.is_enough(reach.seconds):
        yield _Planned(whole, reach, *all_cells)
        return
    plain, reach = planned(rounds)
    if reach is not None and reach.step == 1:
        yield _Planned(plain, reach, *all_cells)
        return
    if profile is not None and reach is not None:
        for recipe, expected in _followed(profile):
            for operator in kind.planned(recipe, workload, rates, hints.for_operators()):
                candidate, comes = planned(operator)
                assert comes is not None
                against = ""
                if candidate.cost.memory > workload.memory_limit:
                    against = "needs more than the memory limit"
                elif comes.step > recipe.step or comes.guided < recipe.capped:
                    against = f"SSIM {expected:.3f} expected of {recipe}, which takes longer"
                told = f"SSIM {expected:.3f} expected: the median of {profile.images:,} images with {recipe}"
                yield _Planned(candidate, comes, expected, told, against)
                if not against:
                    return
    yield _Planned(plain, reach, None, f"what SSIM to expect is not known: {_unknown(within, workload, profile)}")


def _followed(profile: Profile) -> list[tuple[Recipe, float]]:
    """The recipes that rounds go through, with the median SSIM of the profile's images; the best first."""
    medians = np.median(profile.samples, axis=0)
    followed = [
        (recipe, float(median))
        for recipe, median in zip(profile.recipes, medians, strict=True)
        if not recipe.fraction
        and not recipe.doubt
        and not recipe.precision  # it computes in the precision that is asked for
        and (recipe.operator == "refined" or (recipe.operator == "drill-down" and not recipe.capped))
    ]
    return sorted(followed, key=lambda each: -each[1])


def _unknown(within: Within, workload: Workload, profile: Profile | None) -> str:
    if not workload.network.traced:
        return "the network could not be traced, so that nobody knows how far it comes"
    if within.images is None:
        return "how many images share the time is only known when they have been found"
    if workload.runs is not None:
        return "profiles tell of whole maps, and a part is asked for"
    return "no profile" if profile is None else "the profile has no recipe as coarse as that"


def _too_slow(loser: Rejected, within: Within, workload: Workload) -> Rejected:
    if loser.cost is None or not workload.network.traced:
        return replace(loser, reason="cannot stop in time, and takes nobody knows how long")
    if within.holds(loser.cost.seconds):
        return loser
    return replace(loser, reason=f"not sure to keep {within}")


def _reason(choice: Choice, within: Within, workload: Workload) -> str:
    best = f"{STOPPABLE} makes the best map that it can and stops when the time is over"
    exact = choice.chosen
    if exact.operator.name == STOPPABLE or not workload.network.traced:
        return best
    return f"{best}; {exact.operator.name}, the cheapest exact operator, takes {within.told(exact.cost.seconds)}"


def _hint_too_slow(chosen: Candidate, within: Within, workload: Workload, asked: Asked | None) -> PlanError:
    if not workload.network.traced:
        takes = "nobody knows how long it takes, for the network could not be traced"
    elif within.images is None:
        takes = "how many images there are is only known when they have been found"
    else:
        takes = f"it is estimated to take {within.told(chosen.cost.seconds)}"
    hint = f"Without that hint {STOPPABLE} runs, which stops in time"
    if asked is not None:
        hint = f"Without that hint whatever keeps {asked} may run, or else the nearest that can be kept is named"
    if workload.network.traced and within.images is not None:
        hint += f"; with it, {within.enough(chosen.cost.seconds)} can be kept"
    return PlanError(f"USING {chosen.operator.name} is not sure to keep {within}: {takes}", hint=f"{hint}.")
