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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kryptondb.grammar.statements import Expression, Parameter, Select, TableFunction
from kryptondb.network import Grid
from kryptondb.optimizer.expressions import has_aggregate
from kryptondb.optimizer.nodes import Aggregate, Filter, Limit, PlanNode, Project, Sort, column_name
from kryptondb.optimizer.physical import CELL_COLUMNS, REDUNDANCY_COLUMNS, ClassChoice, Images
from kryptondb.optimizer.workload import Runs, cells_in

if TYPE_CHECKING:
    from kryptondb.catalog import ModelStore, Settings
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
    """An experiment whose names and options have a meaning; nothing is said yet of how it is computed.

    `classes` is the option's expression until `resolve_classes` has looked the labels up.
    """

    input: Images
    model: str
    fingerprint: str
    channels: int
    height: int
    width: int
    patch: tuple[int, int]
    stride: tuple[int, int]
    fill: str
    score: str
    classes: ClassChoice | Expression
    edges: str = "fit"
    runs: Runs | None = None
    image_filter: Expression | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return CELL_COLUMNS

    @property
    def grid(self) -> Grid:
        """Every position of the patch."""
        return Grid(self.height, self.width, self.patch, self.stride, self.edges)

    def details(self) -> str:
        rows, cols = self.grid.rows, self.grid.cols
        some = "" if self.runs is None else f", {cells_in(self.runs):,} positions"
        images = "" if self.image_filter is None else f", images where {self.image_filter}"
        return f"{self.model}  grid {rows} x {cols}{some}, class {self.classes}{images}"


@dataclass(frozen=True)
class RedundancyTable(PlanNode):
    """The rows of `redundancy(model, ...)`."""

    model: str
    fingerprint: str
    height: int
    width: int
    patch: tuple[int, int]
    stride: tuple[int, int]

    @property
    def columns(self) -> tuple[str, ...]:
        return REDUNDANCY_COLUMNS

    def details(self) -> str:
        return self.model


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
    def precision(self) -> str:
        """In which numbers the network runs."""
        return str(self.values.get("precision", "float32"))

    @property
    def batch(self) -> int | None:
        """How many positions are to run at once."""
        return self.values.get("batch")

    def for_operators(self) -> Mapping[str, float | str]:
        """The hints that `Operator.candidates` gets: all but those that the optimizer itself follows."""
        own = ("operator", "device", "precision")
        return {name: value for name, value in self.values.items() if name not in own}


@dataclass(frozen=True)
class LogicalPlan:
    """A tree, and what goes with it: the statement it came from and the hints."""

    statement: Select
    root: PlanNode
    hints: Hints = field(default_factory=Hints)

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
    """The table that a plan reads: its `TableCall`, later its `Occlusion` or `RedundancyTable`."""
    return next(node for node in plan.root.walk() if isinstance(node, (TableCall, Occlusion, RedundancyTable)))


@dataclass(frozen=True)
class Context:
    """Models by name, session settings, bound parameters, a device's rates, the operators there are, and profiles.

    `profiles` gives that of a fingerprint, a shape of query (`profile.query_shape`) and a torch device, or None.
    `bindings` holds Python objects: '0', '1' for `?` in order of appearance, the name for `$name`.
    """

    models: ModelStore
    settings: Settings
    bindings: Mapping[str, Any]
    rates: Callable[[str], Rates]
    operators: Sequence[type[Operator]]
    profiles: Callable[[str, Mapping[str, Any], str], Profile | None] = lambda *_: None
