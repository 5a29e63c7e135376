"""An operator as the planner weighs it."""

from __future__ import annotations

from dataclasses import dataclass

from kryptondb.optimizer.cost import Cost
from kryptondb.optimizer.operator import Operator


@dataclass(frozen=True)
class Candidate:
    """An operator with its settings, what it would cost for one image, and what it says of itself.

    Attributes:
        precision: what it runs in, one of `workload.ELEMENT_BYTES`.
    """

    operator: Operator
    cost: Cost
    description: str
    precision: str
