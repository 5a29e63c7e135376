"""Expressions: what rules ask of them, and the kind of value that each has.

Numbers are not compared with strings, and WHERE needs a condition. The grammar already knows which functions exist and
how many arguments they take.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from kryptondb.errors import BindError
from kryptondb.grammar.statements import (
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Column,
    Expression,
    In,
    IsNull,
    Like,
    ListLiteral,
    Literal,
    Node,
    Unary,
)
from kryptondb.grammar.words import AGGREGATES, MAX_PATTERN


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
    return frozenset(part.name for part in expression.walk() if isinstance(part, Column))


def is_aggregate(expression: Node) -> bool:
    """Whether this very expression is a call of an aggregate."""
    return isinstance(expression, Call) and expression.function in AGGREGATES


def has_aggregate(expression: Expression) -> bool:
    """Whether an aggregate is called anywhere in an expression."""
    return any(is_aggregate(part) for part in expression.walk())


NUMBER, STRING, BOOLEAN, NULL = "number", "string", "condition", "null"

CELL_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("class", "row", "col", "y", "x", "height", "width", "base", "score", "drop"), NUMBER),
    **dict.fromkeys(("image", "label"), STRING),
    "exact": BOOLEAN,
}
REDUNDANCY_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("layer", "operator"), STRING),
    **dict.fromkeys(("channels", "height", "width"), NUMBER),
    **dict.fromkeys(("gflops_full", "gflops_incremental", "ratio", "uniform_ratio", "centre_ratio"), NUMBER),
}

_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")


def type_of(expression: Expression, columns: Mapping[str, str]) -> str:
    """NUMBER, STRING, BOOLEAN or NULL (fits everything), of an expression whose columns are bound.

    Raises:
        BindError: an operator or function does not take what it is given; the error stands at the culprit.
    """
    if isinstance(expression, Literal):
        return _type_of_value(expression.value)
    if isinstance(expression, Column):
        return columns[expression.name]
    if isinstance(expression, Unary):
        _need(expression.operand, BOOLEAN if expression.operator == "NOT" else NUMBER, expression.operator, columns)
        return BOOLEAN if expression.operator == "NOT" else NUMBER
    if isinstance(expression, Binary):
        return _type_of_binary(expression, columns)
    if isinstance(expression, Between):
        _comparable(expression.value, expression.low, columns)
        _comparable(expression.value, expression.high, columns)
        return BOOLEAN
    if isinstance(expression, In):
        for item in expression.items:
            _comparable(expression.value, item, columns)
        return BOOLEAN
    if isinstance(expression, IsNull):
        type_of(expression.value, columns)
        return BOOLEAN
    if isinstance(expression, Like):
        _check_like(expression, columns)
        return BOOLEAN
    if isinstance(expression, Case):
        return _type_of_case(expression, columns)
    if isinstance(expression, Cast):
        type_of(expression.value, columns)
        return {"VARCHAR": STRING, "BOOLEAN": BOOLEAN}.get(expression.type, NUMBER)
    if isinstance(expression, Call):
        return _type_of_call(expression, columns)
    raise BindError(_no_value(expression), position=expression.position)


def need_condition(predicate: Expression, columns: Mapping[str, str], clause: str) -> None:
    """A clause of WHERE or HAVING is a condition, or a BindError says what it is instead."""
    found = type_of(predicate, columns)
    if found not in (BOOLEAN, NULL):
        raise BindError(f"{clause} needs a condition, but {predicate} is a {found}", position=predicate.position)


def _type_of_value(value: object) -> str:
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOLEAN
    return STRING if isinstance(value, str) else NUMBER


def _type_of_binary(expression: Binary, columns: Mapping[str, str]) -> str:
    if expression.operator in _COMPARISONS:
        _comparable(expression.left, expression.right, columns)
        return BOOLEAN
    wanted = BOOLEAN if expression.operator in ("AND", "OR") else NUMBER
    _need(expression.left, wanted, expression.operator, columns)
    _need(expression.right, wanted, expression.operator, columns)
    return wanted


def _type_of_case(case: Case, columns: Mapping[str, str]) -> str:
    for test in case.tests:
        _need(test, BOOLEAN, "WHEN", columns)
    results = case.results if case.otherwise is None else (*case.results, case.otherwise)
    kinds = [type_of(result, columns) for result in results]
    found = next((kind for kind in kinds if kind != NULL), NULL)
    for result, kind in zip(results, kinds, strict=True):
        if kind not in (found, NULL):
            message = (
                f"CASE gives a {found} in one branch and a {kind} in another: "
                f"{results[kinds.index(found)]} and {result}"
            )
            raise BindError(message, position=result.position, hint="CAST(... AS VARCHAR) makes a string of either.")
    return found


def _type_of_call(call: Call, columns: Mapping[str, str]) -> str:
    if call.function in AGGREGATES:
        return _type_of_aggregate(call, columns)
    for argument in call.arguments:
        _need(argument, NUMBER, call.function, columns)
    if len(call.arguments) == 2 and not _is_small_integer(call.arguments[1]):
        raise BindError(
            f"the digits of round must be a whole number from -15 to 15, not {call.arguments[1]}",
            position=call.arguments[1].position or call.position,
        )
    return NUMBER


def _check_like(like: Like, columns: Mapping[str, str]) -> None:
    word = "ILIKE" if like.any_case else "LIKE"
    _need(like.value, STRING, word, columns)
    pattern = _text_of(like.pattern, f"{word} takes a pattern in quotes", columns)
    escape = "" if like.escape is None else _text_of(like.escape, "ESCAPE takes a character in quotes", columns)
    if len(escape) > 1:
        raise BindError(f"ESCAPE takes one character, not {len(escape):,}", position=like.position)
    if len(pattern) > MAX_PATTERN:
        article = "an" if like.any_case else "a"
        message = f"{article} {word} pattern of {len(pattern):,} characters is too long; the limit is {MAX_PATTERN:,}"
        raise BindError(message, position=like.pattern.position)
    if escape and (len(pattern) - len(pattern.rstrip(escape))) % 2:
        message = f"the pattern of {word} must not end with its escape character"
        raise BindError(message, position=like.pattern.position, hint="Twice, it stands for itself.")


def _text_of(expression: Expression, otherwise: str, columns: Mapping[str, str]) -> str:
    """The text of a literal, empty for NULL."""
    _need(expression, STRING, otherwise.split()[0], columns)
    if not isinstance(expression, Literal):
        raise BindError(otherwise, position=expression.position)
    return str(expression.value or "")


def _is_small_integer(expression: Expression) -> bool:
    if isinstance(expression, Unary):
        return _is_small_integer(expression.operand)
    value = expression.value if isinstance(expression, Literal) else None
    return isinstance(value, int) and not isinstance(value, bool) and -15 <= value <= 15


def _type_of_aggregate(call: Call, columns: Mapping[str, str]) -> str:
    if call.star:
        return NUMBER
    (argument,) = call.arguments
    if has_aggregate(argument):
        raise BindError(f"an aggregate cannot stand inside another: {call}", position=call.position)
    if call.distinct and call.function in ("sum", "avg"):
        raise BindError(f"DISTINCT goes with count alone, not with {call.function}", position=call.position)
    found = type_of(argument, columns)
    if call.function == "count":
        return NUMBER
    if call.function in ("avg", "sum") or found not in (NUMBER, STRING, NULL):
        _need(argument, NUMBER, call.function, columns)
        return NUMBER
    return found


def _need(expression: Expression, wanted: str, by: str, columns: Mapping[str, str]) -> None:
    found = type_of(expression, columns)
    if found not in (wanted, NULL):
        raise BindError(f"{by} takes a {wanted}, but {expression} is a {found}", position=expression.position)


def _comparable(left: Expression, right: Expression, columns: Mapping[str, str]) -> None:
    kinds = type_of(left, columns), type_of(right, columns)
    if NULL in kinds or kinds[0] == kinds[1]:
        return
    hint = None
    for side, kind, other in ((left, kinds[0], right), (right, kinds[1], left)):
        if side == Column("label") and "class" in columns and isinstance(other, Literal) and kind == STRING:
            hint = f"label is the class's name; its number is class: class = {other}"
        if side == Column("class") and isinstance(other, Literal) and isinstance(other.value, str):
            hint = f"class is the number of a class; its name is label: label = {other}"
    raise BindError(
        f"{left} is a {kinds[0]} and {right} is a {kinds[1]}: they cannot be compared",
        position=right.position if isinstance(right, Literal) else left.position or right.position,
        hint=hint,
    )


def _no_value(expression: Expression) -> str:
    if isinstance(expression, ListLiteral):
        return f"a list has no place here: {expression}"
    return f"{expression} has no place inside an expression"
