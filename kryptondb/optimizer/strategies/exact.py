"""The strategy of queries that promise nothing: the cheapest exact operator, or the one that USING asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kryptondb.errors import PlanError, at
from kryptondb.network.cache import cached_on_network
from kryptondb.network.graph import ONE_BY_ONE
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.operator import Candidate, Operator
from kryptondb.optimizer.physical import Quality, Rejected
from kryptondb.optimizer.strategies.request import STOPPABLE, Decision, Request
from kryptondb.optimizer.workload import Workload
from kryptondb.text.units import bytes_text, seconds_text


def exact(request: Request) -> Decision:
    """Applies to every query that no other strategy takes.

    Raises:
        PlanError: a hint leaves no operator, none fits in the memory limit, or one that runs until time is up has none.
    """
    exact_plan = cheapest(request)
    name = exact_plan.chosen.operator.name
    if name == STOPPABLE and request.time_limit is None:
        raise PlanError(
            f"the operator '{STOPPABLE}' runs until a time limit, and none is given",
            position=request.operator_position,
            hint="WITH TIME <= 10 SECONDS gives it one.",
        )
    quality = Quality("exact", request.promise)
    if not request.is_exact(exact_plan.chosen):
        quality = Quality("approximate", request.promise, "there is no guarantee of accuracy")
    return Decision(exact_plan.chosen, exact_plan.losers(), exact_plan.reason, quality)


@dataclass(frozen=True)
class CheapestPlan:
    """The cheapest of the exact operators and of those that USING asks for, and what it is compared with.

    Attributes:
        candidates: all of them.
        fitting: those that may run, and fit in the memory limit.
    """

    request: Request
    chosen: Candidate
    candidates: Sequence[Candidate]
    fitting: Sequence[Candidate]

    @property
    def reason(self) -> str:
        """Why it is chosen, in a sentence."""
        return _why_chosen(self.chosen, self.fitting, self.request) + _batch_note(self.chosen, self.request)

    def losers(self, against: Candidate | None = None) -> tuple[Rejected, ...]:
        """The others, from the fastest on, each with the reason why this one runs, or another candidate does."""
        winner = against or self.chosen
        others = sorted((c for c in self.candidates if c is not winner), key=lambda candidate: candidate.cost.seconds)
        return tuple(rejected(loser, reason_against(loser, winner, self.request)) for loser in others)


def cheapest(request: Request) -> CheapestPlan:
    """Costs every candidate and takes the cheapest that fits in memory, or what USING asks for.

    Raises:
        PlanError: a hint leaves none, or none fits in the memory limit.
    """
    hint, limit = request.hints.operator, request.workload.memory_limit
    with at(request.operator_position):
        candidates = _candidates(request)
        wanted = [candidate for candidate in candidates if hint in (None, candidate.operator.name)]
        if not wanted:
            raise _impossible(request)
        fitting = [candidate for candidate in wanted if candidate.cost.memory <= limit]
        if not fitting:
            raise no_memory(min(wanted, key=lambda candidate: candidate.cost.memory), limit)
    return CheapestPlan(request, min(fitting, key=lambda candidate: candidate.cost.seconds), candidates, fitting)


def rejected(candidate: Candidate, reason: str) -> Rejected:
    """A candidate that is not taken."""
    return Rejected(candidate.operator, candidate.cost, reason, candidate.description)


def no_memory(least: Candidate, limit: int) -> PlanError:
    """The error where even the candidate that needs least does not fit in the memory limit."""
    return PlanError(
        f"no plan fits in memory: {least.operator.name} needs {bytes_text(least.cost.memory)}, "
        f"and the limit is {bytes_text(limit)}",
        hint="SET memory_limit raises the limit; 'auto' is half of the free memory.",
    )


def _candidates(request: Request) -> list[Candidate]:
    workload, hints = request.workload, request.hints
    rates = request.rates.in_precision(workload.precision)
    given = tuple(sorted(hints.for_operators().items()))
    found = [
        candidate
        for kind in request.operators
        if kind.exact or kind.name == hints.operator
        for candidate in _of_kind(workload, kind, rates, given)
    ]
    if any(each.operator.rounded for each in found):  # to round everything is seldom worth its time
        found = [
            candidate for candidate in found if candidate.operator.rounded or candidate.operator.name == hints.operator
        ]
    return found


@cached_on_network(64)
def _of_kind(
    workload: Workload, kind: type[Operator], rates: Rates, hints: tuple[tuple[str, Any], ...]
) -> Sequence[Candidate]:
    """One operator's candidates. Kept: to find them takes a quarter of a second, and the next query asks the same."""
    return tuple(Candidate.of(operator, workload, rates) for operator in kind.candidates(workload, rates, dict(hints)))


def _impossible(request: Request) -> PlanError:
    network, operator = request.workload.network, request.hints.operator
    why, tail = network.undivided, network.tail
    hint = f"{why[0].upper()}{why[1:]}." if why else None
    if hint is None and tail is not None:
        hint = f"The network runs as a whole from {tail.node} on, which {tail.reason}."
    asked = f"USING operator => '{operator}'" if operator else "this query"
    return PlanError(f"no operator can answer {asked}", hint=hint)


def reason_against(loser: Candidate, chosen: Candidate, request: Request) -> str:
    """Why a candidate does not run where another does."""
    operator, limit = request.hints.operator, request.workload.memory_limit
    if operator not in (None, loser.operator.name):
        return f"USING asks for {operator}"
    if loser.cost.memory > limit:
        return f"needs more than the memory limit of {bytes_text(limit)}"
    if chosen.cost.seconds > 0 and loser.cost.seconds > chosen.cost.seconds:
        return f"{loser.cost.seconds / chosen.cost.seconds:.1f} x the time"
    return "no faster"


def _batch_note(chosen: Candidate, request: Request) -> str:
    """Says why pictures run one by one, and which batch that USING asks for is not kept; empty otherwise."""
    workload, hints = request.workload, request.hints
    runs, asked = getattr(chosen.operator, "batch", None), min(hints.batch or 1, workload.positions)
    unkept = f"batch => {hints.batch} is not kept" if runs is not None and runs < asked else ""
    if workload.network.batch_statistics and workload.positions:
        why = f"{ONE_BY_ONE}, so they run one by one"
    elif unkept:
        why = f"the memory limit of {bytes_text(workload.memory_limit)} allows only {runs} at a time"
    else:
        return ""
    return f"; {unkept}: {why}" if unkept else f"; {why}"


def _why_chosen(chosen: Candidate, fitting: Sequence[Candidate], request: Request) -> str:
    name, workload = chosen.operator.name, request.workload
    if workload.positions == 0:
        return "no position is computed"
    if request.hints.operator is not None:
        return f"USING asks for {name}"
    if workload.network.undivided is not None:
        return f"only {name} can answer: {workload.network.undivided}"
    others = [candidate for candidate in fitting if candidate.operator.name != name]
    settings = sum(candidate.operator.name == name for candidate in fitting)
    among = f" with the best of its {settings} settings" if settings > 1 else ""
    if not others:
        return f"{name} is the only operator for this query" + among
    second = min(others, key=lambda candidate: candidate.cost.seconds)
    against = f"{second.operator.name} takes {times(second, chosen)}"
    return f"{name} is the cheapest exact operator{among}; {against}"


def times(loser: Candidate, chosen: Candidate) -> str:
    """How much longer it takes, and how long that is."""
    times = loser.cost.seconds / chosen.cost.seconds if chosen.cost.seconds > 0 else 1.0
    return f"{times:.1f} times as long ({seconds_text(loser.cost.seconds)})"
