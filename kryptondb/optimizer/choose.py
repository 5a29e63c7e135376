"""The cheapest operator that keeps the promise, and why the others were left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kryptondb.errors import PlanError
from kryptondb.network.cache import cached_on_network
from kryptondb.network.graph import ONE_BY_ONE
from kryptondb.optimizer.approximations import Approximation, Asked, admitted, approximations, fastest_kept
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.logical import Context, Hints
from kryptondb.optimizer.operator import Candidate, Operator
from kryptondb.optimizer.physical import Rejected
from kryptondb.optimizer.workload import Workload
from kryptondb.text.units import bytes_text, seconds_text

#: Full inference of every position, which all others are compared with.
FULL = "full"


@dataclass(frozen=True)
class Choice:
    """The candidate that runs, those that do not, and the reason in a sentence.

    Attributes:
        approximation: of a chosen candidate that a profile admits, by itself or as USING asks; None for all others.
        why_exact: why no profile admits one, where a promise was asked for.
    """

    chosen: Candidate
    rejected: tuple[Rejected, ...]
    reason: str
    approximation: Approximation | None = None
    why_exact: str = ""


def choose(workload: Workload, hints: Hints, context: Context, asked: Asked | None = None) -> Choice:
    """Costs every candidate and takes the cheapest that keeps the promise and fits in memory, or what USING asks for.

    An approximate operator is a candidate only where a profile admits it, or USING asks for it.

    Args:
        asked: the promise of SSIM; None for an exact answer.

    Raises:
        PlanError: a hint leaves none, or none fits in the memory limit.
    """
    candidates = _candidates(workload, hints, context)
    wanted = [candidate for candidate in candidates if hints.operator in (None, candidate.operator.name)]
    if not wanted:
        raise _impossible(workload, hints, context)
    fitting = [candidate for candidate in wanted if candidate.cost.memory <= workload.memory_limit]
    if not fitting:
        least = min(wanted, key=lambda candidate: candidate.cost.memory)
        raise no_memory(least, workload.memory_limit)
    chosen = min(fitting, key=lambda candidate: candidate.cost.seconds)
    if asked is not None and hints.operator is None and workload.positions:
        return _with_approximations(chosen, candidates, fitting, asked, workload, hints, context)
    losers = sorted((c for c in candidates if c is not chosen), key=lambda candidate: candidate.cost.seconds)
    rejected = tuple(
        Rejected(loser.operator, loser.cost, _against(loser, chosen, workload, hints), loser.description)
        for loser in losers
    )
    known = None if asked is None or not workload.positions else admitted(chosen, asked, workload)
    return Choice(chosen, rejected, _reason(chosen, fitting, workload, hints), known)


def no_memory(least: Candidate, limit: int) -> PlanError:
    """The error where even the candidate that needs least does not fit in the memory limit."""
    return PlanError(
        f"no plan fits in memory: {least.operator.name} needs {bytes_text(least.cost.memory)}, "
        f"and the limit is {bytes_text(limit)}",
        hint="SET memory_limit raises the limit; 'auto' is half of what is free.",
    )


def _with_approximations(
    exact: Candidate,
    candidates: Sequence[Candidate],
    fitting: Sequence[Candidate],
    asked: Asked,
    workload: Workload,
    hints: Hints,
    context: Context,
) -> Choice:
    """The choice between the cheapest exact candidate and what the profile admits."""
    rates = context.rates(workload.device)
    found = approximations(asked, workload, rates, context.operators, hints.for_operators())
    best = fastest_kept(found, exact.cost.seconds, workload.memory_limit)
    chosen = exact if best is None else best.candidate
    rejected = [
        Rejected(each.operator, each.cost, _against(each, chosen, workload, hints), each.description)
        for each in candidates
        if each is not chosen
    ]
    for each in found.tried:
        if each is not best:
            if each.keeps:
                why = _against(each.candidate, chosen, workload, hints)
            elif each.bound is not None and each.bound >= asked.ssim:
                why = f"by itself; not sure to keep {asked} as one of {len(found.tried)} that were tried"
            else:
                why = f"may not keep {asked}"
            loser = each.candidate
            rejected.append(Rejected(loser.operator, loser.cost, f"{each.about}, {why}", loser.description))
    rejected.sort(key=lambda loser: loser.cost.seconds if loser.cost is not None else 0.0)
    if best is None:
        why_exact = found.why_none or "what the profile admits is not estimated to be faster"
        return Choice(exact, tuple(rejected), _reason(exact, fitting, workload, hints), why_exact=why_exact)
    against = f"{exact.operator.name}, the cheapest exact operator, takes {_times(exact, chosen)}"
    full = next((each for each in candidates if each.operator.name == FULL and each is not exact), None)
    if full is not None:
        against += f", {FULL} {_times(full, chosen)}"
    return Choice(chosen, tuple(rejected), f"{best.recipe} is the cheapest that keeps {asked}; {against}", best)


def _candidates(workload: Workload, hints: Hints, context: Context) -> list[Candidate]:
    rates = context.rates(workload.device).in_precision(workload.precision)
    given = tuple(sorted(hints.for_operators().items()))
    found = [
        candidate
        for kind in context.operators
        if kind.exact or kind.name == hints.operator
        for candidate in _of_kind(workload, kind, rates, given)
    ]
    if any(each.operator.rounded for each in found):  # to round everything is seldom worth its time
        found = [each for each in found if each.operator.rounded or each.operator.name == hints.operator]
    return found


@cached_on_network(64)
def _of_kind(
    workload: Workload, kind: type[Operator], rates: Rates, hints: tuple[tuple[str, Any], ...]
) -> Sequence[Candidate]:
    """One operator's candidates. Kept: to find them takes a quarter of a second, and the next query asks the same."""
    return tuple(Candidate.of(operator, workload, rates) for operator in kind.candidates(workload, rates, dict(hints)))


def _impossible(workload: Workload, hints: Hints, context: Context) -> PlanError:
    why, tail = workload.network.undivided, workload.network.tail
    hint = f"{why[0].upper()}{why[1:]}." if why else None
    if hint is None and tail is not None:
        hint = f"The network runs as a whole from {tail.node} on, which {tail.reason}."
    asked = f"USING operator => '{hints.operator}'" if hints.operator else "this query"
    return PlanError(f"no operator can answer {asked}", hint=hint)


def _against(loser: Candidate, chosen: Candidate, workload: Workload, hints: Hints) -> str:
    if hints.operator not in (None, loser.operator.name):
        return f"USING asks for {hints.operator}"
    if loser.cost.memory > workload.memory_limit:
        return f"needs more than the memory limit of {bytes_text(workload.memory_limit)}"
    if chosen.cost.seconds > 0 and loser.cost.seconds > chosen.cost.seconds:
        return f"{loser.cost.seconds / chosen.cost.seconds:.1f} x the time"
    return "no faster"


def _reason(chosen: Candidate, fitting: Sequence[Candidate], workload: Workload, hints: Hints) -> str:
    return _why_chosen(chosen, fitting, workload, hints) + _batch_note(chosen, workload, hints)


def _batch_note(chosen: Candidate, workload: Workload, hints: Hints) -> str:
    """Says why pictures run one by one, and which batch that USING asks for is not kept; empty otherwise."""
    runs, asked = getattr(chosen.operator, "batch", None), min(hints.batch or 1, workload.positions)
    unkept = f"batch => {hints.batch} is not kept" if runs is not None and runs < asked else ""
    if workload.network.batch_statistics and workload.positions:
        why = f"{ONE_BY_ONE}, so they run one by one"
    elif unkept:
        why = f"{runs} at a time are what the memory limit of {bytes_text(workload.memory_limit)} allows"
    else:
        return ""
    return f"; {unkept}: {why}" if unkept else f"; {why}"


def _why_chosen(chosen: Candidate, fitting: Sequence[Candidate], workload: Workload, hints: Hints) -> str:
    name = chosen.operator.name
    if workload.positions == 0:
        return "no position is computed"
    if hints.operator is not None:
        return f"USING asks for {name}"
    if workload.network.undivided is not None:
        return f"{name} alone can answer: {workload.network.undivided}"
    others = [candidate for candidate in fitting if candidate.operator.name != name]
    settings = sum(candidate.operator.name == name for candidate in fitting)
    among = f" with the best of its {settings} settings" if settings > 1 else ""
    if not others:
        return f"{name} is the only operator for this query" + among
    second = min(others, key=lambda candidate: candidate.cost.seconds)
    against = f"{second.operator.name} takes {_times(second, chosen)}"
    return f"{name} is the cheapest exact operator{among}; {against}"


def _times(loser: Candidate, chosen: Candidate) -> str:
    """How much longer it takes, and how long that is."""
    times = loser.cost.seconds / chosen.cost.seconds if chosen.cost.seconds > 0 else 1.0
    return f"{times:.1f} times as long ({seconds_text(loser.cost.seconds)})"
