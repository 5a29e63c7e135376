"""The face that every physical operator has; the executor's classes have it, the optimizer knows no more of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from kryptondb.optimizer.cost import Cost, Rates
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Workload


@runtime_checkable
class Operator(Protocol):
    """A way to compute cells. Implementations are frozen dataclasses of plain fields, so that plans are plain data."""

    name: ClassVar[str]
    exact: ClassVar[bool]

    @property
    def rounded(self) -> bool:
        """Whether a reduced precision rounds what an occlusion changes and no more; else it rounds all there is."""
        ...

    @classmethod
    def candidates(cls, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[Any]:
        """The settings of this operator worth costing for a workload; empty when it cannot answer it.

        `hints` may hold `batch`, a number of positions that run at once; `convolution`: 'direct' leaves every
        convolution to torch, 'accurate' computes none from differences but in small blocks, which round less; `tau`,
        the share of every node's height and width that regions keep; `step`, `fraction` and `doubt`, as in a `Recipe`,
        and `chosen`, which is its `where`.
        """
        ...

    def estimate(self, workload: Workload, rates: Rates) -> Cost:
        """Seconds, operations and memory of one image."""
        ...

    def describe(self, workload: Workload) -> str:
        """One line for EXPLAIN: what was chosen, and how much redundancy it removes."""
        ...


@runtime_checkable
class Approximate(Operator, Protocol):
    """What approximate operators have beside that: they follow recipes."""

    @property
    def recipe(self) -> Recipe:
        """What determines its answer."""
        ...

    @classmethod
    def planned(cls, recipe: Recipe, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[Any]:
        """The settings with the lowest estimate that follow a recipe of this operator."""
        ...


@dataclass(frozen=True)
class Reach:
    """How far an operator that can stop at any time is estimated to come.

    Attributes:
        step: of the finest lattice that is complete; 1 for the whole map.
        guided: whether a guide is complete too.
        positions: how many cells are computed exactly.
        seconds: the time that this takes an image.
        flops: the operations that it takes.
        least: the time that the least it gives takes, the unoccluded image and the first lattice.
    """

    step: int
    guided: bool
    positions: int
    seconds: float
    flops: float
    least: float


@runtime_checkable
class Stoppable(Approximate, Protocol):
    """What an operator has beside that which gives the best map it can in whatever time there is."""

    def for_enough_time(self) -> Stoppable:
        """The same for a time that is expected to be enough for every cell."""
        ...

    def reach(self, workload: Workload, rates: Rates, seconds: float) -> Reach:
        """How far a run is estimated to come in so many seconds an image; the network must be a traced one."""
        ...


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
