"""The strategy of WITH TIME: the plan that would run anyway, or the best map that the time allows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from kryptondb.errors import PlanError, at
from kryptondb.optimizer.operator import Candidate, Reach, Stoppable
from kryptondb.optimizer.physical import Quality, Rejected
from kryptondb.optimizer.promise import Profile
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.strategies.exact import exact, no_memory, rejected
from kryptondb.optimizer.strategies.promised import approximations, promised
from kryptondb.optimizer.strategies.request import STOPPABLE, Decision, Request, SsimPromise, TimeLimit
from kryptondb.optimizer.workload import REDUCED_PRECISIONS


def in_time(request: Request) -> Decision | None:
    """Applies to queries WITH TIME.

    Raises:
        PlanError: the time is too short for anything, or for what keeps the SSIM or the hints.
    """
    if request.time_limit is None:
        return None
    decision = promised(request) or exact(request)
    assert request.promise is not None
    with at(request.operator_position or request.promise.position):
        return _kept_in_time(decision, request.time_limit, request)


def _kept_in_time(decision: Decision, limit: TimeLimit, request: Request) -> Decision:
    """A decision where the answer has to be there in time as well."""
    chosen, workload = decision.chosen, request.workload
    if not workload.positions:
        return _images_alone(decision, limit, request)
    if chosen.operator.name != STOPPABLE:
        if workload.network.traced and limit.holds(chosen.cost.seconds):
            return _unhurried(decision, f"estimated to take {limit.text(chosen.cost.seconds)}")
        if request.hints.operator is not None:
            raise _hint_too_slow(chosen, limit, request)
        if request.ssim is not None:
            raise _both_impossible(chosen, request.ssim, limit, request)
    ways = list(_ways(limit, request))
    best = ways[-1]
    if best.candidate.cost.memory > workload.memory_limit:
        raise no_memory(best.candidate, workload.memory_limit)
    if best.reach is not None and best.reach.least > limit.per_image:
        raise PlanError(
            f"{limit} is too short: the unoccluded image and the first few cells are estimated to take "
            f"{limit.text(best.reach.least)}",
            hint=f"{limit.possible(best.reach.least)} can be kept, by a coarse map.",
        )
    losers = [rejected(way.candidate, way.against) for way in ways[:-1]]
    if chosen.operator.name != STOPPABLE:
        others = (rejected(chosen, ""), *decision.rejected)
        losers += [_too_slow(loser, limit, request) for loser in others]
    return Decision(
        chosen=best.candidate,
        rejected=tuple(losers),
        reason=_reason(chosen, limit, request),
        quality=Quality("approximate", request.promise, best.note, expected=best.expected),
        seconds=limit.seconds,
    )


def _unhurried(decision: Decision, note: str) -> Decision:
    """A decision that stands as it is, and how it keeps the time."""
    quality = replace(decision.quality, note="; ".join(text for text in (decision.quality.note, note) if text))
    return replace(decision, quality=quality)


def _images_alone(decision: Decision, limit: TimeLimit, request: Request) -> Decision:
    """What runs where no cell is asked for, and yet every image goes through the network as it is."""
    seconds = decision.chosen.cost.seconds
    if not request.workload.network.traced or limit.images is None:
        return _unhurried(decision, "no cell is computed; the time for the images themselves is unknown")
    if limit.holds(seconds):
        return _unhurried(decision, f"estimated to take {limit.text(seconds)}")
    raise PlanError(
        f"{limit} is too short: the unoccluded image is estimated to take {limit.text(seconds)}",
        hint=f"{limit.possible(seconds)} can be kept.",
    )


@dataclass(frozen=True)
class _Way:
    """A way to use the time, how far it comes, and the SSIM to expect of that; None for what is not known."""

    candidate: Candidate
    reach: Reach | None
    expected: float | None
    note: str = ""
    against: str = ""


def _ways(limit: TimeLimit, request: Request) -> Iterator[_Way]:
    """Ways to use the time, from the best SSIM of the profile down to the first that there is time for, the last."""
    workload, hints = request.workload, request.hints
    profile = request.profile if workload.runs is None else None  # profiles are of whole maps
    kind = cast("type[Stoppable]", next(kind for kind in request.operators if kind.name == STOPPABLE))
    rates = request.rates.in_precision(workload.precision)

    def planned(operator: Stoppable) -> tuple[Candidate, Reach | None]:
        cost, said = operator.estimate(workload, rates), operator.describe(workload)
        if not workload.network.traced or limit.images is None:
            return Candidate(operator, cost, said, workload.precision), None
        reach = operator.reach(workload, rates, limit.per_image)
        cost = replace(cost, seconds=reach.seconds, flops=reach.flops, phases=())
        said = f"about {reach.positions:,} cells computed, {said}"
        return Candidate(operator, cost, said, workload.precision), reach

    rounds: Stoppable = kind.candidates(workload, rates, hints.for_operators())[0]
    whole, reach = planned(rounds.for_enough_time())
    all_cells: tuple[float | None, str] = 1.0, "time for every cell is expected"
    if workload.precision in REDUCED_PRECISIONS:
        all_cells = None, f"{all_cells[1]}; the expected SSIM in {workload.precision} is unknown"
    if reach is not None and reach.step == 1 and limit.is_enough(reach.seconds):
        yield _Way(whole, reach, *all_cells)
        return
    plain, reach = planned(rounds)
    if reach is not None and reach.step == 1:
        yield _Way(plain, reach, *all_cells)
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
                yield _Way(candidate, comes, expected, told, against)
                if not against:
                    return
    yield _Way(plain, reach, None, f"the expected SSIM is unknown: {_unknown(limit, request, profile)}")


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


def _unknown(limit: TimeLimit, request: Request, profile: Profile | None) -> str:
    workload = request.workload
    if not workload.network.traced:
        return "the network could not be traced, so its progress cannot be estimated"
    if limit.images is None:
        return "the number of images that share the time is not known beforehand"
    if workload.runs is not None:
        return "profiles describe whole maps, and the query asks for a part"
    return "no profile" if profile is None else "the profile has no recipe as coarse as that"


def _too_slow(loser: Rejected, limit: TimeLimit, request: Request) -> Rejected:
    if loser.cost is None or not request.workload.network.traced:
        return replace(loser, reason="cannot stop in time, and its time is unknown")
    if limit.holds(loser.cost.seconds):
        return loser
    return replace(loser, reason=f"cannot guarantee {limit}")


def _reason(exact: Candidate, limit: TimeLimit, request: Request) -> str:
    best = f"{STOPPABLE} makes the best map that it can and stops when time is up"
    if exact.operator.name == STOPPABLE or not request.workload.network.traced:
        return best
    return f"{best}; {exact.operator.name}, the cheapest exact operator, takes {limit.text(exact.cost.seconds)}"


def _hint_too_slow(chosen: Candidate, limit: TimeLimit, request: Request) -> PlanError:
    traced = request.workload.network.traced
    if not traced:
        takes = "its time is unknown, because the network could not be traced"
    elif limit.images is None:
        takes = "the number of images is not known beforehand"
    else:
        takes = f"it is estimated to take {limit.text(chosen.cost.seconds)}"
    hint = f"Without that hint {STOPPABLE} runs, which stops in time"
    if request.ssim is not None:
        hint = (
            f"Without that hint any plan that keeps {request.ssim} may run; "
            "if none does, the error names the nearest promise"
        )
    if traced and limit.images is not None:
        hint += f"; with it, {limit.possible(chosen.cost.seconds)} can be kept"
    return PlanError(f"USING {chosen.operator.name} cannot guarantee {limit}: {takes}", hint=f"{hint}.")


def _both_impossible(fastest: Candidate, ssim: SsimPromise, limit: TimeLimit, request: Request) -> PlanError:
    """The error where the fastest plan that keeps the SSIM is not sure to be done in time."""
    refused = f"no plan can guarantee both {ssim} and {limit}"
    if not request.workload.network.traced:
        return PlanError(
            f"{refused}: the network could not be traced, so its time is unknown",
            hint=f"{limit} alone gives an approximate map, {ssim} alone an exact one.",
        )
    if limit.images is None:
        return PlanError(
            f"{refused}: the number of images is not known beforehand",
            hint="Name the images without a condition on image, or ask for one of the two.",
        )
    takes = limit.text(fastest.cost.seconds)
    best = _best_ssim(ssim, limit, request)
    other = f"SSIM >= {best:g} in that time" if best else "no SSIM can be promised in that time"
    if not best and ssim.profile is None:
        other += " without a profile, which ANALYZE makes"
    return PlanError(
        f"{refused}: {fastest.operator.name}, the fastest that keeps the SSIM, is estimated to take {takes}",
        hint=f"The nearest that can be kept: {limit.possible(fastest.cost.seconds)} with that SSIM; {other}.",
    )


def _best_ssim(ssim: SsimPromise, limit: TimeLimit, request: Request) -> float:
    """The highest target, in hundredths, that some recipe of the profile is certified to keep in time; 0 for none."""
    workload, hints = request.workload, request.hints.for_operators()

    def fails(hundredths: int) -> bool:
        target = replace(ssim, ssim=hundredths / 100)
        tried = approximations(target, workload, request.rates, request.operators, hints).tried
        costs = [approximation.candidate.cost for approximation in tried if approximation.keeps]
        return not any(limit.holds(cost.seconds) and cost.memory <= workload.memory_limit for cost in costs)

    return bisect_left(range(1, 100), True, key=fails) / 100
