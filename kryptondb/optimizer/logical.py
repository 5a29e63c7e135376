"""The logical plan: what a SELECT asks for, before anything is chosen.

A statement becomes the obvious tree; the rules of `optimizer.RULES` rewrite it, one idea each:

    Project  y, x, drop
    └─ Limit  10
       └─ Sort  drop DESC
          └─ Filter  y BETWEEN 32 AND 160 AND drop > 0.05
             └─ TableCall  occlude(chest, 'a.png', class => TOP 3)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kryptondb.grammar.statements import Expression, Parameter, Select, TableFunction
from kryptondb.optimizer.experiment import CELL_COLUMNS, Experiment
from kryptondb.optimizer.expressions import has_aggregate
from kryptondb.optimizer.nodes import Aggregate, Filter, Limit, PlanNode, Project, Sort, column_name
from kryptondb.optimizer.physical import Redundancy

if TYPE_CHECKING:
    from kryptondb.catalog import Model, ModelStore, Settings
    from kryptondb.optimizer.cost import Rates
    from kryptondb.optimizer.operator import Operator
    from kryptondb.optimizer.promise import Profile


@dataclass(frozen=True)
class TableCall(PlanNode):
    """The table function as it was written."""

    call: TableFunction

    def details(self) -> str:
        return str(self.call)


@dataclass(frozen=True)
class Occlusion(PlanNode):
    """An experiment whose names and options have a meaning; how it is computed is still open.

    `class_option` is the option as written, until `resolve_classes` has looked its labels up.
    """

    experiment: Experiment
    class_option: Expression | None = None

    @property
    def inputs(self) -> tuple[PlanNode, ...]:
        return (self.experiment.images,)

    @property
    def columns(self) -> tuple[str, ...]:
        return CELL_COLUMNS

    def asking(self, **changes: Any) -> Occlusion:
        """The same with some fields of its experiment changed."""
        return replace(self, experiment=replace(self.experiment, **changes))

    def details(self) -> str:
        asked = self.experiment
        some = "" if asked.runs is None else f", {asked.positions:,} positions"
        images = "" if asked.image_filter is None else f", images where {asked.image_filter}"
        classes = asked.classes if self.class_option is None else self.class_option
        return f"{asked.model}  grid {asked.rows} x {asked.cols}{some}, class {classes}{images}"


@dataclass(frozen=True)
class Hints:
    """USING, looked up: what is not given is left to the optimizer.

    Attributes:
        values: by the names of `options.tables.USING`, as the engine uses them.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operator(self) -> str | None:
        """The name of the operator that is asked for."""
        return self.values.get("operator")

    @property
    def device(self) -> str | None:
        """The device that is asked for."""
        return self.values.get("device")

    @property
    def batch(self) -> int | None:
        """How many positions are to run at once."""
        return self.values.get("batch")

    def for_operators(self) -> Mapping[str, float | str]:
        """The hints that `Operator.candidates` gets: all but those that the optimizer itself follows."""
        own = ("operator", "device")
        return {name: value for name, value in self.values.items() if name not in own}


@dataclass(frozen=True)
class LogicalPlan:
    """A tree, and what goes with it: the statement it came from, the hints, and the model that it is bound to."""

    statement: Select
    root: PlanNode
    hints: Hints = field(default_factory=Hints)
    model: Model | None = None

    @property
    def bound(self) -> Model:
        """The model that `bind_source` has looked up."""
        assert self.model is not None, "bind_source is the first rule"
        return self.model

    def put(self, node: PlanNode) -> LogicalPlan:
        """The plan with another table that it reads."""
        old = source(self)
        return replace(self, root=self.root.transform(lambda other: node if other is old else other))

    def __str__(self) -> str:
        return str(self.root)


def build(select: Select) -> LogicalPlan:
    """The obvious tree of a statement: nothing looked up, nothing moved."""
    root: PlanNode = TableCall(select.source)
    if select.where is not None:
        root = Filter(root, select.where)
    outputs = [item.expression for item in select.items] + [item.expression for item in select.order_by]
    if select.group_by or select.having is not None or any(has_aggregate(output) for output in outputs):
        root = Aggregate(root, select.group_by, ())
    if select.having is not None:
        root = Filter(root, select.having)
    if select.order_by:
        root = Sort(root, tuple((item.expression, item.descending, item.nulls_first) for item in select.order_by))
    if select.limit is not None or select.offset is not None:
        assert not isinstance(select.limit, Parameter) and not isinstance(select.offset, Parameter)  # they are bound
        root = Limit(root, select.limit, select.offset or 0)
    named = ((item.expression, item.alias or column_name(item.expression)) for item in select.items)
    return LogicalPlan(select, Project(root, tuple(named)))


def source(plan: LogicalPlan) -> PlanNode:
    """The table that a plan reads: its `TableCall`, later its `Occlusion` or `Redundancy`."""
    return next(node for node in plan.root.walk() if isinstance(node, (TableCall, Occlusion, Redundancy)))


@dataclass(frozen=True)
class Context:
    """Models by name, session settings, bound parameters, a device's rates, the operators there are, and profiles.

    `profiles` gives the one of an experiment on a torch device, or None.
    `bindings` holds Python objects: '0', '1' for `?` in order of appearance, the name for `$name`.
    """

    models: ModelStore
    settings: Settings
    bindings: Mapping[str, Any]
    rates: Callable[[str], Rates]
    operators: Sequence[type[Operator]]
    profiles: Callable[[Experiment, str], Profile | None] = lambda *_: None
