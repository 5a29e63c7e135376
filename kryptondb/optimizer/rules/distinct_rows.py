"""SELECT DISTINCT: rows that are equal in every output are one."""

from __future__ import annotations

import dataclasses

from kryptondb.errors import BindError
from kryptondb.grammar.statements import Column, Expression, ImageItem
from kryptondb.optimizer.logical import Context, LogicalPlan
from kryptondb.optimizer.nodes import Aggregate, Limit, PlanNode, Project, Sort


def distinct_rows(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Groups the outputs by all of them, and sorts what is left.

    Before:  Project(y % 2 AS odd) < Limit(5) < Sort(odd DESC) < Occlusion
    After:   Limit(5) < Sort(odd DESC) < Aggregate(by odd) < Project(y % 2 AS odd) < Occlusion

    Raises:
        BindError: maps, which are not compared, or an order by what is not an output.
    """
    project = plan.root
    if not plan.statement.distinct:
        return plan
    assert isinstance(project, Project)
    for item in plan.statement.items:
        if isinstance(item.expression, ImageItem):
            raise BindError(f"DISTINCT cannot compare {item.expression}", position=item.expression.position)
    outputs: dict[Expression, str] = {}
    for expression, name in project.items:
        outputs.setdefault(expression, name)
    above: list[PlanNode] = []
    rows = project.input
    while isinstance(rows, (Limit, Sort)):
        above.append(rows)
        rows = rows.input
    root: PlanNode = dataclasses.replace(project, input=rows)
    root = Aggregate(root, tuple(Column(name) for _, name in project.items), ())
    for node in reversed(above):
        if isinstance(node, Sort):
            keys = ((_output(key, outputs), descending, nulls) for key, descending, nulls in node.keys)
            root = Sort(root, tuple(keys))
        elif isinstance(node, Limit):
            root = dataclasses.replace(node, input=root)
    return dataclasses.replace(plan, root=root)


def _output(key: Expression, outputs: dict[Expression, str]) -> Expression:
    """A key of ORDER BY over the outputs."""

    def change(part: Expression) -> Expression | None:
        if part in outputs:
            return Column(outputs[part], position=part.position)
        if isinstance(part, Column):
            raise BindError(
                f"rows that DISTINCT merges may differ in {part}, so ORDER BY cannot use it",
                position=part.position,
                hint=f"Select {part} too.",
            )
        return None

    output: Expression = key.rewrite(change)
    return output
