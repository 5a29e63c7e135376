"""Steps that gather all rows before they yield one carry only the columns that are read above them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from kryptondb.grammar.statements import Column, Expression
from kryptondb.optimizer.expressions import columns_of
from kryptondb.optimizer.logical import Context, LogicalPlan, Occlusion
from kryptondb.optimizer.nodes import Aggregate, HeatMaps, PlanNode, Predictions, Project, Sort


def prune_columns(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Narrows what a Sort or an Aggregate holds, and drops a Project that changes nothing.

    Before:  Project(y, x) < Sort(drop DESC) < Occlusion
    After:   Project(y, x) < Sort(drop DESC) < Project(y, x, drop) < Occlusion

    Before:  Project(image, class, label, base, heatmap) < HeatMaps
    After:   HeatMaps
    """
    root = _narrowed(plan.root, frozenset(plan.root.columns))
    if isinstance(root, Project) and root.items == tuple((Column(name), name) for name in root.input.columns):
        root = root.input
    return dataclasses.replace(plan, root=root)


def _narrowed(node: PlanNode, wanted: frozenset[str]) -> PlanNode:
    """The tree with less in its rows, as long as the columns `wanted` of `node` stay."""
    if isinstance(node, (HeatMaps, Predictions, Occlusion)) or not node.inputs:
        return node
    (below,) = node.inputs
    needed = _reads(node, wanted)
    below = _narrowed(below, needed)
    kept = tuple(name for name in below.columns if name in needed)
    gathers = isinstance(node, (Sort, Aggregate)) and not isinstance(below, (HeatMaps, Predictions, Aggregate))
    if gathers and kept and len(kept) < len(below.columns):
        below = Project(below, tuple((Column(name), name) for name in kept))
    return dataclasses.replace(node, input=below)  # type: ignore[call-arg]


def _reads(node: PlanNode, wanted: frozenset[str]) -> frozenset[str]:
    """The columns of its input that a node reads or hands on."""
    if isinstance(node, Project):
        return _columns(item for item, _ in node.items)
    if isinstance(node, Aggregate):
        return _columns((*node.keys, *(call for call, _ in node.aggregates)))
    if isinstance(node, Sort):
        return wanted | _columns(key for key, *_ in node.keys)
    predicate = getattr(node, "predicate", None)
    return wanted | (columns_of(predicate) if isinstance(predicate, Expression) else frozenset())


def _columns(expressions: Iterable[Expression]) -> frozenset[str]:
    return frozenset().union(*(columns_of(expression) for expression in expressions))
