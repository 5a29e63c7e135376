"""The strategy of a promise of SSIM: the cheapest plan that keeps it, by the quality profile of the experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from kryptondb.errors import PlanError
from kryptondb.network.cache import cached_on_network
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.operator import Approximate, Candidate, Operator
from kryptondb.optimizer.physical import Quality
from kryptondb.optimizer.promise import lower_bound
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.strategies.exact import CheapestPlan, cheapest, reason_against, rejected, times
from kryptondb.optimizer.strategies.request import Decision, Request, SsimPromise
from kryptondb.optimizer.workload import Workload

#: Full inference of every position, which all others are compared with.
FULL = "full"


def promised(request: Request) -> Decision | None:
    """Applies to queries WITH SSIM.

    Raises:
        PlanError: USING asks for something that is not known to keep the promise.
    """
    if request.ssim is None:
        return None
    plan = cheapest(request)
    if request.hints.operator is None and request.workload.positions:
        return _cheapest_that_keeps(request.ssim, plan, request)
    found = certified(plan.chosen, request.ssim, request.workload) if request.workload.positions else None
    if found is not None:
        quality = _by_profile(found, request)
    elif request.is_exact(plan.chosen):
        why = f"USING asks for {plan.chosen.operator.name}" if request.hints.operator else "no cell is computed"
        quality = _exactly(why, request)
    else:
        raise _broken(plan.chosen, request)
    return Decision(plan.chosen, plan.losers(), plan.reason, quality)


def _cheapest_that_keeps(ssim: SsimPromise, plan: CheapestPlan, request: Request) -> Decision:
    """The choice between the cheapest exact candidate and what the profile admits."""
    exact, workload = plan.chosen, request.workload
    found = approximations(ssim, workload, request.rates, request.operators, request.hints.for_operators())
    best = fastest_kept(found, exact.cost.seconds, workload.memory_limit)
    chosen = exact if best is None else best.candidate
    losers = list(plan.losers(against=chosen))
    for tried in found.tried:
        if tried is not best:
            if tried.keeps:
                why = reason_against(tried.candidate, chosen, request)
            elif tried.bound is not None and tried.bound >= ssim.ssim:
                why = f"by itself; cannot guarantee {ssim} as one of {len(found.tried)} that were tried"
            else:
                why = f"cannot guarantee {ssim}"
            losers.append(rejected(tried.candidate, f"{tried.about}, {why}"))
    losers.sort(key=lambda loser: loser.cost.seconds if loser.cost is not None else 0.0)
    if best is None:
        if not request.is_exact(exact):
            raise _broken(exact, request)
        why_exact = found.why_none or "no recipe that the profile admits is estimated to be faster"
        return Decision(exact, tuple(losers), plan.reason, _exactly(why_exact, request))
    against = f"{exact.operator.name}, the cheapest exact operator, takes {times(exact, chosen)}"
    full = next((other for other in plan.candidates if other.operator.name == FULL and other is not exact), None)
    if full is not None:
        against += f", {FULL} {times(full, chosen)}"
    reason = f"{best.recipe} is the cheapest that keeps {ssim}; {against}"
    return Decision(chosen, tuple(losers), reason, _by_profile(best, request))


def _by_profile(found: Approximation, request: Request) -> Quality:
    assert request.ssim is not None
    note = f"{found.recipe}: {found.about}"
    return Quality("approximate", request.promise, note, request.ssim.confidence, found.images)


def _exactly(why: str, request: Request) -> Quality:
    return Quality("exact", request.promise, f"{why}: the exact plan keeps {request.ssim}")


def _broken(chosen: Candidate, request: Request) -> PlanError:
    """The error where USING asks for something approximate that no profile certifies."""
    operator, profile = chosen.operator, request.profile
    names = ("tau", "precision") if operator.exact else ("tau", "operator")
    hint = next(option for option in request.hint_options if option.name in names)
    what = operator.name if not operator.exact else f"{operator.name} in {request.workload.precision}"
    shows = "no profile shows" if profile is None else f"the profile of {profile.images:,} images does not show"
    return PlanError(
        f"USING {hint} breaks the promise: {shows} that {what} keeps {request.ssim}",
        position=hint.position,
        hint="Without that hint the exact plan runs, which keeps it; without WITH the approximate one runs.",
    )


@dataclass(frozen=True)
class Approximation:
    """A recipe of the profile as a candidate.

    Attributes:
        bound: of its SSIM at the confidence asked for.
        images: how many certify it.
        keeps: whether the promise is kept with it.
    """

    candidate: Candidate
    recipe: Recipe
    bound: float | None
    images: int
    keeps: bool

    @property
    def about(self) -> str:
        """The bound and where it comes from."""
        bound = "" if self.bound is None else f"SSIM >= {self.bound:.3f} "
        return f"{bound}(n={self.images})"


@dataclass(frozen=True)
class Approximations:
    """The recipes that were tried for a promise, and why none of them keeps it where that is so."""

    tried: tuple[Approximation, ...] = ()
    why_none: str = ""


def approximations(
    ssim: SsimPromise, workload: Workload, rates: Rates, kinds: Sequence[type[Operator]], hints: Mapping[str, Any]
) -> Approximations:
    """The recipes along the profile's path as candidates.

    With every recipe that is certified the next image keeps the target, all at once: whichever of these is the
    fastest by the estimate may run.
    """
    profile = ssim.profile
    if profile is None:
        return Approximations(why_none="no profile")
    if workload.runs is not None:
        return Approximations(why_none="a profile describes whole maps, and the query asks for a part")
    admission = profile.admit(ssim.ssim, ssim.confidence)
    if profile.images < admission.needed:
        why = f"a profile of {profile.images:,} images is too small for a confidence of {ssim.confidence:g}"
        return Approximations(why_none=f"{why}, which needs {admission.needed:,}")
    tried = []
    for column in admission.path:
        recipe = profile.recipes[column]
        bound = lower_bound(profile.samples[-admission.images :, column], ssim.confidence)
        for candidate in candidates_for(
            workload, profile.planned(column), rates, tuple(kinds), tuple(sorted(hints.items()))
        ):
            tried.append(Approximation(candidate, recipe, bound, admission.images, column in admission.certified))
    if not any(approximation.keeps for approximation in tried):
        return Approximations(tuple(tried), f"no faster recipe of the profile of {profile.images:,} images keeps it")
    return Approximations(tuple(tried))


def certified(candidate: Candidate, ssim: SsimPromise, workload: Workload) -> Approximation | None:
    """An approximate operator that USING asks for, where the profile certifies it for the promise; else None.

    Only a recipe along the path is certified: users who read a profile and ask for what looks best in it have chosen by
    the same samples, as the planner does, and a bound of that one recipe alone would promise too much.
    """
    profile, operator = ssim.profile, candidate.operator
    if profile is None or workload.runs is not None or operator.exact:
        return None
    recipe = cast("Approximate", operator).recipe.essence
    essences = [known.essence for known in profile.recipes]
    admission = profile.admit(ssim.ssim, ssim.confidence)
    if recipe.operator != operator.name or recipe not in [essences[column] for column in admission.certified]:
        return None
    column = essences.index(recipe)
    bound = lower_bound(profile.samples[-admission.images :, column], ssim.confidence)
    return Approximation(candidate, profile.recipes[column], bound, admission.images, keeps=True)


def fastest_kept(found: Approximations, than: float, memory_limit: int) -> Approximation | None:
    """The fastest that keeps the promise, fits in memory and is faster than the exact plan; None for none."""
    fitting = [tried for tried in found.tried if tried.keeps and tried.candidate.cost.memory <= memory_limit]
    best = min(fitting, key=lambda tried: tried.candidate.cost.seconds, default=None)
    return None if best is None or best.candidate.cost.seconds >= than else best


@cached_on_network(64)
def candidates_for(
    workload: Workload,
    recipe: Recipe,
    rates: Rates,
    kinds: tuple[type[Operator], ...],
    hints: tuple[tuple[str, Any], ...],
) -> list[Candidate]:
    """The operator that follows a recipe, with its best settings; none where no operator here does.

    Kept: to plan all recipes of a path takes seconds, and queries of one shape are asked one after the other.
    """
    precision = recipe.precision or workload.precision
    workload, rates = replace(workload, precision=precision), rates.in_precision(precision)
    kind = next((kind for kind in kinds if kind.name == recipe.operator), None)
    if kind is None:
        return []
    if kind.exact:
        operators = kind.candidates(workload, rates, dict(hints))
    else:
        operators = cast("type[Approximate]", kind).planned(recipe, workload, rates, dict(hints))
    found = [Candidate.of(operator, workload, rates) for operator in operators]
    return sorted(found, key=lambda candidate: candidate.cost.seconds)[:1]
