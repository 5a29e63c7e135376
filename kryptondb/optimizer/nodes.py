"""Plan nodes: frozen dataclasses that know their inputs and print as a tree, and those that work on rows alone.

Steps on rows are the same in a logical and in a physical plan: there is nothing to choose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kryptondb.grammar.statements import Call, Column, Expression
from kryptondb.optimizer.cost import Cost


@dataclass(frozen=True)
class PlanNode:
    """One step of a logical or physical plan. Compares by value; `str(node)` is the tree below it."""

    @property
    def inputs(self) -> tuple[PlanNode, ...]:
        """The nodes whose rows this one reads: the fields that are nodes, in order."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(value for value in values if isinstance(value, PlanNode))

    @property
    def cost(self) -> Cost | None:
        """What this step is estimated to cost for one image; None where it costs next to nothing."""
        return None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of its rows, in order."""
        raise NotImplementedError

    def label(self) -> str:
        """The step's name in a tree."""
        return type(self).__name__

    def details(self) -> str:
        """What the step does, in a few words behind its name."""
        return ""

    def walk(self) -> Iterator[PlanNode]:
        """The node and all below it, from the top."""
        yield self
        for node in self.inputs:
            yield from node.walk()

    def transform(self, change: Callable[[PlanNode], PlanNode]) -> PlanNode:
        """The tree with `change` applied to every node, inputs before the nodes that read them."""
        changed = {
            field.name: value.transform(change)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), PlanNode)
        }
        return change(dataclasses.replace(self, **changed) if changed else self)

    def __str__(self) -> str:
        return "\n".join(f"{branch}{node.label()}  {node.details()}".rstrip() for branch, node in branches(self))


def branches(node: PlanNode) -> Iterator[tuple[str, PlanNode]]:
    """Every node with the lines that are drawn before its name: `''`, `'└─ '`, `'   └─ '`."""
    return _branches(node, "", "")


def _branches(node: PlanNode, own: str, below: str) -> Iterator[tuple[str, PlanNode]]:
    yield own, node
    last = len(node.inputs) - 1
    for index, child in enumerate(node.inputs):
        corner, line = ("└─ ", "   ") if index == last else ("├─ ", "│  ")
        yield from _branches(child, below + corner, below + line)


MAP_COLUMNS = ("image", "class", "label", "base")


def column_name(expression: Expression) -> str:
    """The name an expression's column gets when nobody gave one: a column's own name, else its canonical SQL."""
    return expression.name if isinstance(expression, Column) else str(expression)


@dataclass(frozen=True)
class Filter(PlanNode):
    """The rows for which the predicate is true (neither false nor null)."""

    input: PlanNode
    predicate: Expression

    @property
    def columns(self) -> tuple[str, ...]:
        return self.input.columns

    def details(self) -> str:
        return str(self.predicate)


@dataclass(frozen=True)
class Aggregate(PlanNode):
    """One row a group; without keys one row in all, even of no rows.

    Its columns are the keys, named `column_name(key)`, then the aggregates under their output names.
    """

    input: PlanNode
    keys: tuple[Expression, ...]
    aggregates: tuple[tuple[Call, str], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return (*(column_name(key) for key in self.keys), *(name for _, name in self.aggregates))

    def details(self) -> str:
        calls = ", ".join(str(call) for call, _ in self.aggregates)
        return calls + (" by " if calls else "by ") + ", ".join(map(str, self.keys)) if self.keys else calls


@dataclass(frozen=True)
class HeatMaps(PlanNode):
    """One row an image and class: image, class, label, base [, heatmap] [, attribution] [, prediction].

    A heat map has a value a cell, grid rows x grid columns; an attribution one a pixel of the model's input.

    Every class that was computed gets its row: a cell that does not come in (a region or a Filter left it out) is
    NaN, and with no cell at all the map is all NaN. A Filter above, on image, class, label or base, picks the maps.
    """

    input: PlanNode
    heatmap: bool = True
    attribution: bool = False
    prediction: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        wanted = (("heatmap", self.heatmap), ("attribution", self.attribution), ("prediction", self.prediction))
        return (*MAP_COLUMNS, *(name for name, there in wanted if there))

    def details(self) -> str:
        parts = (("attributions", self.attribution), ("predictions", self.prediction))
        named = " and ".join(name for name, there in parts if there)
        return f"with {named}" if named else ""


@dataclass(frozen=True)
class Predictions(PlanNode):
    """One row an image and class: image, class, label, base, prediction. No cell is computed for it."""

    input: PlanNode

    @property
    def columns(self) -> tuple[str, ...]:
        return (*MAP_COLUMNS, "prediction")


@dataclass(frozen=True)
class Project(PlanNode):
    """The output columns: expressions over the input's columns, and their names."""

    input: PlanNode
    items: tuple[tuple[Expression, str], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.items)

    def details(self) -> str:
        return ", ".join(
            str(item) if column_name(item) == name else f"{item} AS {Column(name)}" for item, name in self.items
        )


@dataclass(frozen=True)
class Sort(PlanNode):
    """The rows in order of `(key, descending, nulls first)`; None for nulls is SQL's habit here: nulls last."""

    input: PlanNode
    keys: tuple[tuple[Expression, bool, bool | None], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.input.columns

    def details(self) -> str:
        nulls = {None: "", True: " NULLS FIRST", False: " NULLS LAST"}
        return ", ".join(f"{key}{' DESC' if descending else ''}{nulls[first]}" for key, descending, first in self.keys)


@dataclass(frozen=True)
class Limit(PlanNode):
    """The first rows after `offset` of them; all of these without a count. Directly above a Sort they are a top-k."""

    input: PlanNode
    count: int | None
    offset: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        return self.input.columns

    def details(self) -> str:
        first = "" if self.count is None else f"{self.count:,}"
        return f"{first} after {self.offset:,}".strip() if self.offset else first
