"""Promises that cannot be kept together, and the nearest ones that can."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

from kryptondb.errors import PlanError
from kryptondb.optimizer.approximations import Asked, approximations
from kryptondb.optimizer.logical import Context, Hints
from kryptondb.optimizer.operator import Candidate
from kryptondb.optimizer.within import Within
from kryptondb.optimizer.workload import Workload


def both_impossible(
    fastest: Candidate, asked: Asked, within: Within, workload: Workload, hints: Hints, context: Context
) -> PlanError:
    """The error where the fastest plan that keeps the SSIM is not sure to be done in time."""
    refused = f"no plan is sure to keep both {asked} and {within}"
    if not workload.network.traced:
        return PlanError(
            f"{refused}: the network could not be traced, so that nobody knows how long it takes",
            hint=f"{within} alone gives an approximate map, {asked} alone an exact one.",
        )
    if within.images is None:
        return PlanError(
            f"{refused}: how many images there are is only known when they have been found",
            hint="Name the images without a condition on image, or ask for one of the two.",
        )
    takes = within.told(fastest.cost.seconds)
    best = _best_ssim(asked, within, workload, hints, context)
    other = f"SSIM >= {best:g} in that time" if best else "no SSIM can be promised in that time"
    if not best and asked.profile is None:
        other += " without a profile, which ANALYZE makes"
    return PlanError(
        f"{refused}: {fastest.operator.name}, the fastest that keeps the SSIM, is estimated to take {takes}",
        hint=f"The nearest that can be kept: {within.enough(fastest.cost.seconds)} with that SSIM; {other}.",
    )


def _best_ssim(asked: Asked, within: Within, workload: Workload, hints: Hints, context: Context) -> float:
    """The highest target, in hundredths, that some recipe of the profile is certified to keep in time; 0 for none."""
    rates = context.rates(workload.device)

    def fails(hundredths: int) -> bool:
        target = replace(asked, ssim=hundredths / 100)
        tried = approximations(target, workload, rates, context.operators, hints.for_operators()).tried
        costs = [each.candidate.cost for each in tried if each.keeps]
        return not any(within.holds(cost.seconds) and cost.memory <= workload.memory_limit for cost in costs)

    return bisect_left(range(1, 100), True, key=fails) / 100
