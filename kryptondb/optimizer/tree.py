"""A plan node: a frozen dataclass that knows its inputs and prints itself as a tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
