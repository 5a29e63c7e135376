"""Values in statements other than SELECT: parameters bound, literals and lists as Python values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kryptondb.errors import BindError, did_you_mean
from kryptondb.grammar.statements import (
    Column,
    Expression,
    ListLiteral,
    Literal,
    Parameter,
    Statement,
    Unary,
)

#: Values for `?` in order, or for `$name` by name.
Parameters = Sequence[object] | Mapping[str, object] | None


def bindings_of(parameters: Parameters) -> dict[str, object]:
    """Parameters by key: '0', '1', ... for a sequence, the names for a mapping (with or without their `$`).

    Raises:
        BindError: a single value where a sequence or mapping is meant.
    """
    if parameters is None:
        return {}
    if isinstance(parameters, Mapping):
        return {str(name).removeprefix("$"): value for name, value in parameters.items()}
    if isinstance(parameters, (list, tuple)):
        return {str(index): value for index, value in enumerate(parameters)}
    raise BindError(
        f"parameters are a list or a mapping, not a {type(parameters).__name__}",
        hint="For one ?, give a list of one: db.sql(text, [value]).",
    )


def bindings_for(statement: Statement, bindings: Mapping[str, object]) -> dict[str, object]:
    """The bindings that a statement uses.

    Raises:
        BindError: at the first parameter that has none.
    """
    return {parameter.key: bound_to(parameter, bindings) for parameter in parameters_of(statement)}


def check_all_used(statements: Iterable[Statement], bindings: Mapping[str, object]) -> None:
    """Some statement uses each of the bindings; an unused one is a mistake in its name or in the text.

    Raises:
        BindError: naming it.
    """
    used = {parameter.key for statement in statements for parameter in parameters_of(statement)}
    unused = [key for key in bindings if key not in used]
    if not unused:
        return
    if all(key.isdigit() for key in unused):
        marks = sum(key.isdigit() for key in used)
        raise BindError(f"{marks + len(unused)} values are given for {marks} parameters (?)")
    name = next(key for key in unused if not key.isdigit())
    named = [key for key in used if not key.isdigit()]
    raise BindError(f"no statement has a parameter ${name}", hint=did_you_mean(name, named))


def parameters_of(statement: Statement) -> list[Parameter]:
    """The parameters of a statement, in the order of its fields."""
    return [node for node in statement.walk() if isinstance(node, Parameter)]


def bound_to(parameter: Parameter, bindings: Mapping[str, object]) -> object:
    """The value that was given for a parameter.

    Raises:
        BindError: none was.
    """
    if parameter.key in bindings:
        return bindings[parameter.key]
    if parameter.name is not None:
        raise BindError(
            f"the parameter ${parameter.name} has no value",
            position=parameter.position,
            hint=did_you_mean(parameter.name, [name for name in bindings if not name.isdigit()])
            or "Give it in sql(text, {'name': value}), or with --param name=value.",
        )
    number = (parameter.index or 0) + 1
    raise BindError(
        f"the {_ordinal(number)} ? has no value",
        position=parameter.position,
        hint=f"Give it in sql(text, [value, ...]), or with --param {number - 1}=value.",
    )


def value_of(expression: object, bindings: Mapping[str, object], *, words: bool = False, strict: bool = True) -> Any:
    """The Python value of an option or argument: a number, string, bool, None, list, or what a parameter is bound to.

    Args:
        words: whether a bare word stands for itself, as in `SET device = cpu` and `(FORMAT csv)`.
        strict: whether an expression without a value is an error; it stays as it is otherwise.

    Raises:
        BindError: anything that has no value here.
    """
    if isinstance(expression, Literal):
        return expression.value
    if isinstance(expression, ListLiteral):
        return [value_of(item, bindings, words=words, strict=strict) for item in expression.items]
    if isinstance(expression, Parameter):
        return bound_to(expression, bindings)
    if isinstance(expression, Unary) and expression.operator == "-":
        number = value_of(expression.operand, bindings, strict=strict)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return -number
    if words and isinstance(expression, Column):
        return expression.name
    if strict and isinstance(expression, Expression):
        raise BindError(f"{expression} is not a value", position=expression.position)
    return expression


def text_of(value: str | Parameter, bindings: Mapping[str, object], what: str) -> str:
    """A string that may be a parameter: the name of a source, the path of a COPY."""
    bound = value_of(value, bindings)
    if hasattr(bound, "__fspath__"):
        bound = bound.__fspath__()
    if not isinstance(bound, str):
        position = value.position if isinstance(value, Parameter) else None
        raise BindError(f"{what} is a string, not {type(bound).__name__}", position=position)
    return bound


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
