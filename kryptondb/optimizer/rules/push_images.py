"""Images that a WHERE clause excludes are never opened."""

from __future__ import annotations

import dataclasses

from kryptondb.optimizer.expressions import columns_of, conjunction, conjuncts
from kryptondb.optimizer.logical import Context, LogicalPlan, Occlusion
from kryptondb.optimizer.nodes import Aggregate, Filter, PlanNode


def push_images(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Moves conditions on `image` alone to where images are found.

    Before:  Filter(image LIKE 'a%' AND drop > 0.1) < Occlusion
    After:   Filter(drop > 0.1) < Occlusion(images where image LIKE 'a%')
    """
    if not any(isinstance(node, Occlusion) for node in plan.root.walk()):
        return plan
    pushed = [
        part
        for node in plan.root.walk()
        if isinstance(node, Filter) and not isinstance(node.input, Aggregate)
        for part in conjuncts(node.predicate)
        if columns_of(part) == {"image"}
    ]

    def push(node: PlanNode) -> PlanNode:
        if isinstance(node, Filter) and not isinstance(node.input, Aggregate):
            rest = conjunction(part for part in conjuncts(node.predicate) if part not in pushed)
            return node.input if rest is None else dataclasses.replace(node, predicate=rest)
        if isinstance(node, Occlusion):
            return node.asking(image_filter=conjunction(pushed))
        return node

    return dataclasses.replace(plan, root=plan.root.transform(push)) if pushed else plan
