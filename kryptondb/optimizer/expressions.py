"""Rewriting expressions, and the few questions that rules ask of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable

from kryptondb.grammar.statements import Binary, Call, Column, Expression, Like, Literal, Node
from kryptondb.grammar.tree import walk
from kryptondb.grammar.words import AGGREGATES


def rewrite(expression: Expression, change: Callable[[Expression], Expression | None]) -> Expression:
    """An expression with `change` offered every part, outermost first; what it returns is not looked into again."""
    changed = change(expression)
    if changed is not None:
        return changed
    parts: dict[str, object] = {}
    for field in dataclasses.fields(expression):
        value = getattr(expression, field.name)
        if isinstance(value, Expression):
            parts[field.name] = rewrite(value, change)
        elif isinstance(value, tuple):
            parts[field.name] = tuple(rewrite(item, change) if isinstance(item, Expression) else item for item in value)
    return dataclasses.replace(expression, **parts) if parts else expression  # type: ignore[arg-type]


def conjuncts(predicate: Expression) -> list[Expression]:
    """`a AND (b AND c)` as `[a, b, c]`."""
    if isinstance(predicate, Binary) and predicate.operator == "AND":
        return conjuncts(predicate.left) + conjuncts(predicate.right)
    return [predicate]


def conjunction(predicates: Iterable[Expression]) -> Expression | None:
    """`[a, b, c]` as `a AND b AND c`; None of none."""
    joined: Expression | None = None
    for predicate in predicates:
        joined = predicate if joined is None else Binary("AND", joined, predicate)
    return joined


def like_regex(like: Like) -> str | None:
    r"""The pattern of a LIKE as a regular expression of Arrow's; None for NULL, which matches nothing.

    Arrow's own `match_like` takes a backslash for an escape, and still looks for both of '%\\x%'. Its regular
    expressions match in time that is linear in the text, whatever the pattern.
    """
    pattern, escape = (part.value if isinstance(part, Literal) else None for part in (like.pattern, like.escape))
    if not isinstance(pattern, str) or (like.escape is not None and not isinstance(escape, str)):
        return None
    pieces: list[str] = []
    characters = iter(pattern)
    for character in characters:
        wild = {"%": ".*", "_": "."}.get(character)
        if character == escape:
            character, wild = next(characters, ""), None
        pieces.append(re.escape(character) if wild is None else wild)
    return rf"(?s)\A{''.join(pieces)}\z"


def columns_of(expression: Expression) -> frozenset[str]:
    """The names of the columns that an expression reads."""
    return frozenset(part.name for part in walk(expression) if isinstance(part, Column))


def is_aggregate(expression: Node) -> bool:
    """Whether this very expression is a call of an aggregate."""
    return isinstance(expression, Call) and expression.function in AGGREGATES


def has_aggregate(expression: Expression) -> bool:
    """Whether an aggregate is called anywhere in an expression."""
    return any(is_aggregate(part) for part in walk(expression))
