"""A physical plan: all that is needed to run one SELECT, as plain data that another machine can run too.

Frozen dataclasses that print as a tree, compare by value, and go to JSON and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from kryptondb.grammar.statements import Promise
from kryptondb.network import Cap
from kryptondb.optimizer import plan_json
from kryptondb.optimizer.cost import Cost, LayerRate, LayerShape, Phase, Rates
from kryptondb.optimizer.experiment import CELL_COLUMNS, ClassChoice, Experiment, Images
from kryptondb.optimizer.nodes import (
    Aggregate,
    Filter,
    HeatMaps,
    Limit,
    PlanNode,
    Predictions,
    Project,
    Sort,
)
from kryptondb.optimizer.recipe import Pass, Recipe
from kryptondb.optimizer.self_tuning import MapOperator, SelfTuning

if TYPE_CHECKING:
    from kryptondb.optimizer.operator import Candidate, Operator


REDUNDANCY_COLUMNS = (
    *("layer", "operator", "channels", "height", "width"),
    *("gflops_full", "gflops_incremental", "ratio", "uniform_ratio", "centre_ratio"),
)


@dataclass(frozen=True)
class Occlude(PlanNode):
    """An experiment and how it runs: its cells in the 13 columns of LANGUAGE.md, one row per position, class and image.

    Attributes:
        device: a torch device string.
        memory_limit: bytes that activations may take.
        precision: that the operator runs in; an approximate one may run in less than the experiment asks for.
        cost: the estimate for one image; None for a network that could not be traced.
        ahead: whether the next image is opened and its base made while one runs, as memory allows.
        seconds: the time for all images together; None where nothing has to stop.
        tuning: how the batch tunes itself: the operator then runs some of the images, and these decide what runs the
            others.
        description: what the operator says about itself, for readers.
        tail: where the network's dense tail begins and why.
        unsteady: why the model may answer one picture in two ways, where it does.
    """

    experiment: Experiment
    operator: Operator
    device: str
    memory_limit: int
    precision: str = "float32"
    cost: Cost | None = None
    ahead: bool = False
    seconds: float | None = None
    tuning: SelfTuning | None = None
    description: str = ""
    tail: str | None = None
    unsteady: str | None = None

    @property
    def inputs(self) -> tuple[PlanNode, ...]:
        return (self.experiment.images,)

    @property
    def columns(self) -> tuple[str, ...]:
        return CELL_COLUMNS

    def run_by(self, candidate: Candidate) -> Occlude:
        """The same with this candidate for its operator; with several images it looks ahead where memory allows."""
        ahead = self.experiment.images.count != 1 and candidate.cost.memory + candidate.cost.ahead <= self.memory_limit
        memory = candidate.cost.memory + (candidate.cost.ahead if ahead else 0)
        return replace(
            self,
            operator=candidate.operator,
            cost=replace(candidate.cost, memory=memory).within(self.memory_limit),
            precision=candidate.precision,
            description=candidate.description,
            ahead=ahead,
        )

    def label(self) -> str:
        return self.operator.name.capitalize()

    def details(self) -> str:
        experiment = self.experiment
        some = f"{experiment.positions:,} of {experiment.rows * experiment.cols:,} positions"
        return ", ".join(part for part in (self.description, some, f"class {experiment.classes}") if part)


@dataclass(frozen=True)
class Redundancy(PlanNode):
    """The paper's Figure 5 for one model: one row a layer and a total."""

    model: str
    fingerprint: str
    patch: tuple[int, int]
    stride: tuple[int, int]
    height: int
    width: int

    @property
    def columns(self) -> tuple[str, ...]:
        return REDUNDANCY_COLUMNS

    def details(self) -> str:
        patch, stride = (" x ".join(map(str, pair)) for pair in (self.patch, self.stride))
        return f"{self.model}  patch {patch}, stride {stride}, input {self.height} x {self.width}"


@dataclass(frozen=True)
class Rejected:
    """A candidate that was costed and not taken, and why."""

    operator: Operator
    cost: Cost | None
    reason: str
    description: str = ""


@dataclass(frozen=True)
class Quality:
    """How good the answer is.

    Attributes:
        promise: what was asked for.
        note: how that is kept, or what an approximate answer is.
        confidence: with what probability an approximate plan keeps it, by a profile.
        images: how many certify that.
        expected: the SSIM that is expected of an answer without such a promise; None where it is not known.
    """

    kind: Literal["exact", "approximate"]
    promise: Promise | None = None
    note: str = ""
    confidence: float | None = None
    images: int | None = None
    expected: float | None = None


@dataclass(frozen=True)
class PhysicalPlan:
    """One SELECT, ready to run.

    `statement` is its canonical SQL with parameters filled in; `schema` the names of the output columns.
    """

    root: PlanNode
    rejected: tuple[Rejected, ...]
    quality: Quality
    reason: str
    statement: str
    schema: tuple[str, ...]

    @property
    def occlude(self) -> Occlude | None:
        """The plan's experiment and how it runs, if it has one (a query of `redundancy` has none)."""
        return next((node for node in self.root.walk() if isinstance(node, Occlude)), None)

    def __str__(self) -> str:
        return str(self.root)


_CLASSES: tuple[type[Any], ...] = (
    *(PhysicalPlan, Quality, Rejected, Experiment, ClassChoice, Cost, Phase, Promise, Cap, Recipe),
    *(SelfTuning, MapOperator, Pass, Rates, LayerRate, LayerShape),
    *(Images, Occlude, Redundancy, Filter, Aggregate, HeatMaps, Predictions, Project, Sort, Limit),
)


def to_json(plan: PhysicalPlan) -> str:
    """The plan as JSON text; expressions stand in it as canonical SQL."""
    return plan_json.encode(plan, _CLASSES)


def from_json(text: str, operators: Sequence[type[Operator]]) -> PhysicalPlan:
    """The plan that `to_json` wrote. `operators` are the classes that an operator's name may mean.

    Raises:
        PlanError: the text is no plan, or names what this version does not have.
    """
    plan: PhysicalPlan = plan_json.decode(text, PhysicalPlan, _CLASSES, operators)
    return plan
