"""Values from statements and from Python: parameters bound, literals and lists read, options checked by their rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kryptondb.errors import BindError, Position, did_you_mean
from kryptondb.grammar.statements import (
    Column,
    Expression,
    ListLiteral,
    Literal,
    Option,
    Parameter,
    Statement,
    Unary,
)
from kryptondb.options.option import Table

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


class OptionValues(dict[str, Any]):
    """Values by the names of their options, and where each stands in the text.

    Args:
        options: those of the statement, by name; values from Python have none.
    """

    def __init__(self, values: Mapping[str, Any], options: Mapping[str, Option] | None = None) -> None:
        super().__init__(values)
        self.options = options or {}

    def position(self, name: str) -> Position | None:
        """Where an option's value stands in the text."""
        option = self.options.get(name)
        return None if option is None else option.value.position or option.position

    def name_position(self, name: str) -> Position | None:
        """Where an option's name stands in the text."""
        place = self.options[name].position if name in self.options else None
        return None if place is None else dataclasses.replace(place, end=min(place.end, place.start + len(name)))

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Gives a BindError of a room that knows no text the place of the option that it is about."""
        try:
            yield
        except BindError as error:
            if error.position is None and error.option is not None:
                error.position = self.position(error.option)
            raise


def given_in(options: Iterable[Option], bindings: Mapping[str, object], *, words: bool = False) -> OptionValues:
    """The values that a statement gives, not checked yet. What has no Python value stays an expression.

    Args:
        bindings: what its parameters are bound to.
        words: whether a bare word stands for itself.
    """
    found = {option.name.casefold(): option for option in options}
    values = {name: value_of(option.value, bindings, words=words, strict=False) for name, option in found.items()}
    return OptionValues(values, found)


def read(table: Table, values: Mapping[str, Any], *, defaults: bool = False) -> OptionValues:
    """Values as the engine uses them.

    Args:
        defaults: whether the defaults of the options that are not given come too.

    Raises:
        BindError: an option that the table does not have, or a value that it does not take, with its place.
    """
    given = values if isinstance(values, OptionValues) else OptionValues(values)
    known = {name: table.find(name, given.name_position(name)) for name in given}
    found = {option.name: option.read(given[name], given.position(name)) for name, option in known.items()}
    if defaults:
        rows = (row for row in table.rows if row.default is not None and row.name not in found)
        found |= {row.name: row.read(row.default) for row in rows}
    return OptionValues(found, given.options)


def bind(
    table: Table, options: Iterable[Option], bindings: Mapping[str, object] | None = None, *, defaults: bool = False
) -> OptionValues:
    """A statement's options as the engine uses them; see `read`."""
    return read(table, given_in(options, bindings or {}, words=table.words), defaults=defaults)


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
