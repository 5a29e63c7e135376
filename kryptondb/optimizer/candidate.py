"""An operator as the planner weighs it."""

from __future__ import annotations

from dataclasses import dataclass

from kryptondb.optimizer.cost import Cost, Rates
from kryptondb.optimizer.operator import Operator
from kryptondb.optimizer.workload import Workload


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

    @classmethod
    def of(cls, operator: Operator, workload: Workload, rates: Rates) -> Candidate:
        """An operator for a workload, at the rates of its precision."""
        alone = f"{workload.precision}, the unoccluded image alone"
        said = operator.describe(workload) if workload.positions else alone
        return cls(operator, operator.estimate(workload, rates), said, workload.precision)
