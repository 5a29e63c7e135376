"""What a promise of SSIM admits beside the exact plan, by the profile of the model and the shape of the query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from kryptondb.network.cache import cached_on_network
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.operator import Approximate, Candidate, Operator
from kryptondb.optimizer.promise import Profile, lower_bound
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Workload


@dataclass(frozen=True)
class Asked:
    """A promise of SSIM, and the profile that may let an approximate plan keep it; None where there is none."""

    ssim: float
    confidence: float
    profile: Profile | None

    def __str__(self) -> str:
        return f"SSIM >= {self.ssim:g}"


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
    asked: Asked, workload: Workload, rates: Rates, kinds: Sequence[type[Operator]], hints: Mapping[str, Any]
) -> Approximations:
    """The recipes along the profile's path as candidates.

    With every recipe that is certified the next image keeps the target, all at once: whichever of these is the
    fastest by the estimate may run.
    """
    profile = asked.profile
    if profile is None:
        return Approximations(why_none="no profile")
    if workload.runs is not None:
        return Approximations(why_none="the profile tells of whole maps, and a part is asked for")
    admission = profile.admit(asked.ssim, asked.confidence)
    if profile.images < admission.needed:
        why = f"a profile of {profile.images:,} images is too small for a confidence of {asked.confidence:g}"
        return Approximations(why_none=f"{why}, which needs {admission.needed:,}")
    tried = []
    for column in admission.path:
        recipe = profile.recipes[column]
        bound = lower_bound(profile.samples[-admission.images :, column], asked.confidence)
        for candidate in planned(workload, profile.planned(column), rates, tuple(kinds), tuple(sorted(hints.items()))):
            tried.append(Approximation(candidate, recipe, bound, admission.images, column in admission.certified))
    if not any(each.keeps for each in tried):
        return Approximations(tuple(tried), f"no faster recipe of the profile of {profile.images:,} images keeps it")
    return Approximations(tuple(tried))


def admitted(candidate: Candidate, asked: Asked, workload: Workload) -> Approximation | None:
    """An approximate operator that USING asks for, where the profile certifies it for the promise; else None.

    Only a recipe along the path is certified: whoever reads a profile and asks for what looks best in it has chosen by
    the same samples, as the planner does, and a bound of that one recipe alone would promise too much.
    """
    profile, operator = asked.profile, candidate.operator
    if profile is None or workload.runs is not None or operator.exact:
        return None
    recipe = cast("Approximate", operator).recipe.essence
    essences = [each.essence for each in profile.recipes]
    admission = profile.admit(asked.ssim, asked.confidence)
    if recipe.operator != operator.name or recipe not in [essences[column] for column in admission.certified]:
        return None
    column = essences.index(recipe)
    bound = lower_bound(profile.samples[-admission.images :, column], asked.confidence)
    return Approximation(candidate, profile.recipes[column], bound, admission.images, keeps=True)


def fastest_kept(found: Approximations, than: float, memory_limit: int) -> Approximation | None:
    """The fastest that keeps the promise, fits in memory and takes fewer seconds than the exact plan; None for none."""
    fitting = [each for each in found.tried if each.keeps and each.candidate.cost.memory <= memory_limit]
    best = min(fitting, key=lambda each: each.candidate.cost.seconds, default=None)
    return None if best is None or best.candidate.cost.seconds >= than else best


@cached_on_network(64)
def planned(
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
