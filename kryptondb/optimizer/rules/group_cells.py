"""Aggregates, HEATMAP, ATTRIBUTION and PREDICTION: where rows stop being cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kryptondb.errors import BindError
from kryptondb.grammar.statements import Attribution, Call, Column, Expression, HeatMap, ImageItem, Prediction
from kryptondb.optimizer.expressions import columns_of, conjunction, conjuncts, is_aggregate
from kryptondb.optimizer.logical import Context, LogicalPlan, Occlusion
from kryptondb.optimizer.nodes import (
    MAP_COLUMNS,
    Aggregate,
    Filter,
    HeatMaps,
    PlanNode,
    Predictions,
    Project,
    Sort,
    column_name,
)


def group_cells(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Puts the step that groups cells into the tree, and lets what is above it read the groups.

    Before:  Project(label, max(drop) - min(drop) AS range) < Aggregate(by label) < Occlusion
    After:   Project(label, "max(drop)" - "min(drop)" AS range) < Aggregate(max(drop), min(drop) by label) < Occlusion

    Before:  Project(HEATMAP) < Filter(class = 3 AND drop > 0) < Occlusion
    After:   Project(image, class, label, base, heatmap) < Filter(class = 3) < HeatMaps < Filter(drop > 0) < Occlusion

    HEATMAP, ATTRIBUTION and PREDICTION alone bring `image, class, label, base` with them; beside named columns they
    bring themselves. A condition on an image or class picks maps; any other leaves cells out of them.

    Raises:
        BindError: outputs that do not belong together: cells beside groups, cells beside maps.
    """
    project = plan.root
    assert isinstance(project, Project)
    maps: list[Expression] = [item for item, _ in project.items if isinstance(item, ImageItem)]
    if maps:
        return dataclasses.replace(plan, root=_map_items(_group_maps(project, maps)))
    if any(isinstance(node, Aggregate) for node in plan.root.walk()):
        return dataclasses.replace(plan, root=_group_rows(project))
    return plan


# Aggregates


def _group_rows(project: Project) -> PlanNode:
    keys = next(node.keys for node in project.walk() if isinstance(node, Aggregate))
    outputs = [item for item, _ in project.items]
    outputs += [key for node in project.walk() if isinstance(node, Sort) for key, *_ in node.keys]
    outputs += [node.predicate for node in project.walk() if isinstance(node, Filter) and _picks_groups(node)]
    calls: dict[Call, str] = {}
    for output in outputs:
        for part in output.walk():
            if isinstance(part, Call) and is_aggregate(part):
                calls[part] = str(part)

    known = dict.fromkeys(keys)

    def above(expression: Expression) -> Expression:
        changed: Expression = expression.rewrite(lambda part: _grouped(part, known, calls))
        return changed

    def change(node: PlanNode) -> PlanNode:
        if isinstance(node, Aggregate):
            return dataclasses.replace(node, aggregates=tuple(calls.items()))
        if isinstance(node, Filter) and _picks_groups(node):
            return dataclasses.replace(node, predicate=above(node.predicate))
        if isinstance(node, Sort):
            return dataclasses.replace(node, keys=tuple((above(key), down, nulls) for key, down, nulls in node.keys))
        if isinstance(node, Project):
            return dataclasses.replace(node, items=tuple((above(item), name) for item, name in node.items))
        return node

    return project.transform(change)


def _picks_groups(node: Filter) -> bool:
    """Whether it is HAVING's."""
    return isinstance(node.input, Aggregate)


def _grouped(part: Expression, keys: Mapping[Expression, None], calls: Mapping[Call, str]) -> Expression | None:
    """What stands for a part of an output above the Aggregate."""
    if part in keys:
        return Column(column_name(part), position=part.position)
    if isinstance(part, Call) and part in calls:
        return Column(calls[part], position=part.position)
    if isinstance(part, Column):
        groups = "GROUP BY " + ", ".join(map(str, (*keys, part)))
        raise BindError(
            f"{part.name} varies within a group",
            position=part.position,
            hint=f"Group by it ({groups}), or aggregate it (for example max({part})).",
        )
    return None


# Maps


def _group_maps(project: Project, maps: list[Expression]) -> Project:
    word = str(maps[0])
    for node in project.walk():
        if isinstance(node, Aggregate):
            aggregate = next((call for item, _ in project.items for call in item.walk() if is_aggregate(call)), None)
            culprit = aggregate or (node.keys[0] if node.keys else maps[0])
            raise BindError(
                f"{word} returns one row per image and class, so {culprit} cannot stand beside it",
                position=culprit.position or maps[0].position,
                hint="Select aggregates of cells in a query of their own.",
            )
    sorts = [key for node in project.walk() if isinstance(node, Sort) for key, *_ in node.keys]
    for expression in (*(item for item, _ in project.items), *sorts):
        _need_map_columns(expression, word)
    heatmap, attribution, prediction = (
        any(isinstance(item, kind) for item in maps) for kind in (HeatMap, Attribution, Prediction)
    )

    def change(node: PlanNode) -> PlanNode:
        if isinstance(node, Filter):
            whole, cells = _split(node.predicate)
            if cells is not None and not (heatmap or attribution):
                raise BindError(
                    f"PREDICTION is made without cells, so WHERE cannot ask for {cells}",
                    position=cells.position,
                    hint=f"It can use {', '.join(MAP_COLUMNS)}.",
                )
            return _filtered(grouped(_filtered(node.input, cells)), whole)
        if isinstance(node, Occlusion) and not any(isinstance(above, Filter) for above in project.walk()):
            return grouped(node)
        return node

    def grouped(cells: PlanNode) -> PlanNode:
        if not (heatmap or attribution):
            return Predictions(cells)
        return HeatMaps(cells, heatmap=heatmap, attribution=attribution, prediction=prediction)

    changed = project.transform(change)
    assert isinstance(changed, Project)
    return changed


def _need_map_columns(expression: Expression, word: str) -> None:
    for part in expression.walk():
        if isinstance(part, Column) and part.name not in MAP_COLUMNS:
            raise BindError(
                f"{word} returns one row per image and class; {part.name} varies within it",
                position=part.position,
                hint=f"Beside {word} there can be {', '.join(MAP_COLUMNS)}.",
            )


def _split(predicate: Expression) -> tuple[Expression | None, Expression | None]:
    """The conditions on images and classes, and those on cells."""
    parts = conjuncts(predicate)
    whole = [part for part in parts if columns_of(part) <= set(MAP_COLUMNS)]
    return conjunction(whole), conjunction(part for part in parts if part not in whole)


def _filtered(node: PlanNode, predicate: Expression | None) -> PlanNode:
    return node if predicate is None else Filter(node, predicate)


def _map_items(project: Project) -> Project:
    alone = all(isinstance(item, ImageItem) for item, _ in project.items)
    items: list[tuple[Expression, str]] = [(Column(name), name) for name in MAP_COLUMNS] if alone else []
    for item, name in project.items:
        if isinstance(item, ImageItem):
            item = Column(str(item).lower(), position=item.position)
        items.append((item, name))
    return dataclasses.replace(project, items=tuple(items))
