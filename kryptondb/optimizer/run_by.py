"""An experiment and the candidate that runs it."""

from __future__ import annotations

from dataclasses import replace

from kryptondb.optimizer.operator import Candidate
from kryptondb.optimizer.physical import Occlude


def run_by(node: Occlude, candidate: Candidate, *, traced: bool = True) -> Occlude:
    """The experiment with this candidate for its operator; with several images it looks ahead where memory allows.

    Args:
        traced: whether the network is, so that somebody knows what the candidate costs.
    """
    cost = candidate.cost if traced else None
    ahead = False
    if cost is not None:
        ahead = node.input.count != 1 and cost.memory + cost.ahead <= node.memory_limit
        if ahead:
            cost = replace(cost, memory=cost.memory + cost.ahead)
        cost = cost.within(node.memory_limit)
    return replace(
        node,
        operator=candidate.operator,
        cost=cost,
        precision=candidate.precision,
        description=candidate.description,
        ahead=ahead,
    )
