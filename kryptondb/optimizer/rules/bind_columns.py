"""Columns get their meaning: names in any case, `*`, aliases and ordinals in GROUP BY and ORDER BY, types."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Container, Mapping, Sequence

from kryptondb.errors import BindError, did_you_mean
from kryptondb.grammar.statements import Call, Column, Expression, ImageItem, Literal, Select, Star
from kryptondb.grammar.words import IMAGE_ITEMS
from kryptondb.optimizer.expressions import (
    CELL_TYPES,
    REDUNDANCY_TYPES,
    has_aggregate,
    is_aggregate,
    need_condition,
    type_of,
)
from kryptondb.optimizer.logical import Context, LogicalPlan, source
from kryptondb.optimizer.nodes import MAP_COLUMNS, Aggregate, Filter, PlanNode, Project, Sort, column_name
from kryptondb.optimizer.physical import Redundancy

Items = tuple[tuple[Expression, str], ...]


def bind_columns(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Resolves every column of the statement and checks that values fit together.

    Before:  Project(*, drop * 100 AS percent) < Sort(percent) < Filter(Y < 32)
    After:   Project(image, ..., exact, drop * 100 AS percent) < Sort(drop * 100) < Filter(y < 32)

    Raises:
        BindError: an unknown column or function, an aggregate where none may stand, types that do not fit.
    """
    table = source(plan)
    columns = REDUNDANCY_TYPES if isinstance(table, Redundancy) else CELL_TYPES
    project = plan.root
    assert isinstance(project, Project)
    items = _items(project.items, table.columns, columns)
    aliases = _aliases(plan.statement, items)

    def bind(node: PlanNode) -> PlanNode:
        if isinstance(node, Filter) and isinstance(node.input, Aggregate):
            return dataclasses.replace(node, predicate=_having(node.predicate, node.input.keys, columns, aliases))
        if isinstance(node, Filter):
            return dataclasses.replace(node, predicate=_where(node.predicate, columns, aliases))
        if isinstance(node, Aggregate):
            keys = (_output(key, "GROUP BY", items, columns, aliases) for key in node.keys)
            return dataclasses.replace(node, keys=tuple(dict.fromkeys(_group_key(key) for key in keys)))
        if isinstance(node, Sort):
            sorts: dict[Expression, tuple[Expression, bool, bool | None]] = {}
            for key, down, nulls in node.keys:
                bound = _output(key, "ORDER BY", items, columns, aliases)
                sorts.setdefault(bound, (bound, down, nulls))  # a key that comes again decides nothing
            return dataclasses.replace(node, keys=tuple(sorts.values()))
        return dataclasses.replace(node, items=items) if isinstance(node, Project) else node

    return dataclasses.replace(plan, root=plan.root.transform(bind))


def _items(items: Items, every: Sequence[str], columns: Mapping[str, str]) -> Items:
    """The select list with `*` spelled out and every column resolved; no two outputs share a name."""
    found: list[tuple[Expression, str]] = []
    for expression, name in items:
        if isinstance(expression, Star):
            found.extend((Column(column, position=expression.position), column) for column in every)
        elif isinstance(expression, ImageItem):
            if columns is not CELL_TYPES:
                raise BindError(
                    f"{expression} is made of cells, which only occlude yields", position=expression.position
                )
            word = str(expression)
            found.append((expression, word.lower() if name == word else name))
        else:
            bound = _resolve(expression, columns, "the select list")
            type_of(bound, columns)
            found.append((bound, name if column_name(expression) != name else column_name(bound)))
    return _unique(found)


def _aliases(statement: Select, items: Items) -> Mapping[str, Expression]:
    """What names of outputs stand for: those that the statement gives come before those that columns bring."""
    found: dict[str, Expression] = {}
    stars = sum(isinstance(item.expression, Star) for item in statement.items)
    width = (len(items) - len(statement.items) + stars) // max(1, stars)
    place = 0
    for item in statement.items:
        if item.alias is not None:
            found.setdefault(item.alias.casefold(), items[place][0])
        place += width if isinstance(item.expression, Star) else 1
    for expression, name in items:
        found.setdefault(name.casefold(), expression)
    return found


def _unique(items: list[tuple[Expression, str]]) -> Items:
    """The second `drop` becomes `drop_1`: a table in Python has one column a name."""
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    unique = []
    for expression, name in items:
        candidate = name
        while candidate.casefold() in taken:
            numbers[name] += 1
            candidate = f"{name}_{numbers[name]}"
        taken.add(candidate.casefold())
        unique.append((expression, candidate))
    return tuple(unique)


def _where(predicate: Expression, columns: Mapping[str, str], aliases: Mapping[str, Expression]) -> Expression:
    aliased = _aliased(predicate, columns, aliases)
    for part in aliased.walk():
        if is_aggregate(part):
            raise BindError(
                f"WHERE picks cells before they are grouped, so it cannot ask for {part}",
                position=part.position or predicate.position,
                hint=f"HAVING picks groups, and may ask for {part}.",
            )
    bound = _resolve(aliased, columns, "WHERE", known=tuple(aliases))
    need_condition(bound, columns, "WHERE")
    return bound


def _having(
    predicate: Expression,
    keys: Sequence[Expression],
    columns: Mapping[str, str],
    aliases: Mapping[str, Expression],
) -> Expression:
    """A condition on groups: a name is what they are grouped by, then an output, then a column for aggregates."""
    known = {key.name for key in keys if isinstance(key, Column)}
    bound = _resolve(_aliased(predicate, known, aliases), columns, "HAVING", known=tuple(aliases))
    need_condition(bound, columns, "HAVING")
    return bound


def _aliased(expression: Expression, columns: Container[str], aliases: Mapping[str, Expression]) -> Expression:
    """The expression with outputs in the place of their names; a name in `columns` is a column first.

    Inside an aggregate names are columns: what is aggregated are cells, which have no outputs.
    """

    def output(part: Expression) -> Expression | None:
        if is_aggregate(part):
            return part
        if not isinstance(part, Column) or part.name.casefold() in columns:
            return None
        return aliases.get(part.name.casefold())

    aliased: Expression = expression.rewrite(output)
    return aliased


def _output(
    expression: Expression,
    clause: str,
    items: Items,
    columns: Mapping[str, str],
    aliases: Mapping[str, Expression],
) -> Expression:
    """A GROUP BY or ORDER BY expression, where `2` is the second output and an output's name stands for it.

    As in DuckDB a name that is an output's and a column's is the output where it is all of a key of ORDER BY, and the
    column everywhere else.
    """
    if isinstance(expression, Literal):
        return _ordinal(expression, clause, _outputs(items))
    alone = clause == "ORDER BY" and isinstance(expression, Column)
    aliased = _aliased(expression, () if alone else columns, aliases)
    bound = _resolve(aliased, columns, clause, known=tuple(aliases))
    for part in bound.walk():
        if isinstance(part, ImageItem):
            raise BindError(f"{clause} cannot use {part}, which has no order", position=expression.position)
    type_of(bound, columns)
    return bound


def _outputs(items: Items) -> Items:
    """The output columns: items of an image and class alone bring its columns, which come first."""
    alone = all(isinstance(item, ImageItem) for item, _ in items)
    return (*((Column(name), name) for name in MAP_COLUMNS), *items) if alone else items


def _ordinal(expression: Literal, clause: str, items: Items) -> Expression:
    place = expression.value
    if isinstance(place, int) and not isinstance(place, bool) and 1 <= place <= len(items):
        found = items[place - 1][0]
        if isinstance(found, ImageItem):
            raise BindError(f"{clause} {expression} is {found}, which has no order", position=expression.position)
        return found
    raise BindError(
        f"{clause} {expression} has no meaning: it takes columns, or the number of an output from 1 to {len(items)}",
        position=expression.position,
    )


def _group_key(key: Expression) -> Expression:
    if has_aggregate(key):
        raise BindError(f"GROUP BY cannot use an aggregate: {key}", position=key.position)
    return key


def _resolve(
    expression: Expression,
    columns: Mapping[str, str],
    clause: str,
    known: Sequence[str] = (),
) -> Expression:
    """The expression with its columns under their own names."""

    def column(part: Expression) -> Expression | None:
        if isinstance(part, (ImageItem, Star)) and part is not expression:
            raise BindError(f"{part} stands alone, not inside an expression", position=part.position)
        if isinstance(part, Call) and part.function.upper() in IMAGE_ITEMS:
            raise BindError(f"{part.function.upper()} is written without parentheses", position=part.position)
        if not isinstance(part, Column):
            return None
        if part.name.casefold() in columns:
            return Column(part.name.casefold(), position=part.position)
        if part.name.upper() in IMAGE_ITEMS:
            word = part.name.upper()
            if clause != "the select list":
                raise BindError(f"{word} has no place in {clause}", position=part.position)
            if part is not expression:
                raise BindError(f"{word} stands alone, not inside an expression", position=part.position)
            raise BindError(
                f'no column named "{part.name}"', position=part.position, hint=f"{word} is written without quotes."
            )
        raise BindError(
            f'no column named "{part.name}"',
            position=part.position,
            hint=did_you_mean(part.name, (*columns, *known)) or f"The columns are {', '.join(columns)}.",
        )

    resolved: Expression = expression.rewrite(column)
    return resolved
