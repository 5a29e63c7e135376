"""A SELECT becomes the cheapest physical plan that keeps its promise: the optimizer's table of contents."""

from __future__ import annotations

from collections.abc import Callable

from kryptondb.grammar.statements import Select
from kryptondb.optimizer.logical import Context, LogicalPlan, build
from kryptondb.optimizer.physical import PhysicalPlan
from kryptondb.optimizer.physicalize import physicalize
from kryptondb.optimizer.rules.bind_columns import bind_columns
from kryptondb.optimizer.rules.bind_hints import bind_hints
from kryptondb.optimizer.rules.bind_parameters import bind_parameters
from kryptondb.optimizer.rules.bind_source import bind_source
from kryptondb.optimizer.rules.distinct_rows import distinct_rows
from kryptondb.optimizer.rules.group_cells import group_cells
from kryptondb.optimizer.rules.prune_columns import prune_columns
from kryptondb.optimizer.rules.push_classes import push_classes
from kryptondb.optimizer.rules.push_images import push_images
from kryptondb.optimizer.rules.push_region_into_grid import push_region_into_grid
from kryptondb.optimizer.rules.resolve_classes import resolve_classes

Rule = Callable[[LogicalPlan, Context], LogicalPlan]

RULES: tuple[Rule, ...] = (
    bind_source,
    bind_hints,
    resolve_classes,
    bind_columns,
    group_cells,
    distinct_rows,
    push_images,
    push_region_into_grid,
    push_classes,
    prune_columns,
)


def logical_plan(select: Select, context: Context) -> LogicalPlan:
    """What a statement asks for: bound, and with every condition where it saves the most work."""
    plan = build(bind_parameters(select, context.bindings))
    for rule in RULES:
        plan = rule(plan, context)
    return plan


def optimize(select: Select, context: Context) -> PhysicalPlan:
    """How a statement runs.

    Raises:
        BindError: a name, option or value that means nothing here.
        PlanError: a promise or hint that cannot be kept.
        ModelError: the model cannot be built.
    """
    return physicalize(logical_plan(select, context), context)
