"""Classes that a WHERE clause excludes are not scored."""

from __future__ import annotations

import dataclasses

import numpy as np

from kryptondb.grammar.statements import Expression
from kryptondb.optimizer.evaluate import decide, numbers, strings
from kryptondb.optimizer.experiment import ClassChoice
from kryptondb.optimizer.logical import Context, LogicalPlan, Occlusion, source
from kryptondb.optimizer.nodes import Aggregate, Filter, HeatMaps, PlanNode


def push_classes(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Keeps the classes for which the lowest filter that picks rows of `class` or `label` can be true.

    Before:  Filter(label LIKE 'tabby%' AND drop > 0.1) < Occlusion(class ALL)
    After:   Filter(drop > 0.1) < Occlusion(class 281)

    What TOP k means depends on the image, so there the filter stays, as does a condition that the class alone does not
    decide. A query that no class can satisfy computes no position at all, and the filter stays to say so.
    """
    table = source(plan)
    target = _target(plan)
    if target is None or not isinstance(table, Occlusion):
        return plan
    model, asked = plan.bound, table.experiment.classes
    every = asked.indices if asked.kind == "list" else tuple(range(model.classes))
    known = {
        "class": numbers(np.array(every)),
        "label": strings([model.labels[index] if index < len(model.labels) else None for index in every]),
    }
    possible, rest = decide(target.predicate, known, len(every))
    kept = tuple(index for index, keep in zip(every, possible, strict=True) if keep)
    if not kept:
        return _replace(plan, target, target.predicate, table.asking(runs=()))
    if asked.kind == "top":
        return plan
    classes = asked if len(kept) == len(every) else ClassChoice("list", indices=kept)
    return _replace(plan, target, rest, table.asking(classes=classes))


def _target(plan: LogicalPlan) -> Filter | None:
    """The filter that decides which classes have rows: the only one below groups, or the one above the maps."""
    filters = [node for node in plan.root.walk() if isinstance(node, Filter) and not isinstance(node.input, Aggregate)]
    above = [node for node in filters if not isinstance(node.input, Occlusion)]
    grouped = any(isinstance(node, HeatMaps) for node in plan.root.walk())
    return next(iter(above if grouped else filters), None)


def _replace(plan: LogicalPlan, target: Filter, predicate: Expression | None, table: Occlusion) -> LogicalPlan:
    def change(node: PlanNode) -> PlanNode:
        if isinstance(node, Occlusion):
            return table
        if isinstance(node, Filter) and node.predicate is target.predicate:
            return node.input if predicate is None else dataclasses.replace(node, predicate=predicate)
        return node

    return dataclasses.replace(plan, root=plan.root.transform(change))
