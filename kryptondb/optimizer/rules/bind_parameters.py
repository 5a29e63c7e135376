"""Parameters become the values that were given for them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from kryptondb.errors import BindError, did_you_mean
from kryptondb.grammar.statements import Expression, ListLiteral, Literal, Node, Parameter, Select


def bind_parameters(select: Select, bindings: Mapping[str, Any]) -> Select:
    """Puts plain values in the place of parameters; a picture stays a parameter, for the executor to look up.

    Before:  SELECT y, drop FROM occlude($net, ?, class => ?) LIMIT $n     ['cat', <array>] with net = 'chest', n = 10
    After:   SELECT y, drop FROM occlude('chest', ?, class => 'cat') LIMIT 10

    Raises:
        BindError: a parameter without a value, or a value of a kind that fits nothing. A value without a parameter is
            no error here: other statements of the same text may use it.
    """
    pictures = select.source.arguments[1:2] if select.source.function == "occlude" else ()
    bound = _Binder(bindings, frozenset(id(argument) for argument in pictures)).bind(select)
    assert isinstance(bound, Select)
    return bound


def parameter_key(parameter: Parameter) -> str:
    """The key of a parameter in the bindings: `'0'`, `'1'` for `?`, the name for `$name`."""
    return parameter.name if parameter.name is not None else str(parameter.index)


def plain(value: Any) -> Any:
    """A value as None, bool, int, float, str or a list of these; unchanged where it is something else."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value


class _Binder:
    def __init__(self, bindings: Mapping[str, Any], pictures: frozenset[int]) -> None:
        self.bindings = bindings
        self.pictures = pictures

    def bind(self, value: Any) -> Any:
        if isinstance(value, Parameter):
            return self._value(value)
        if isinstance(value, tuple):
            return tuple(self.bind(item) for item in value)
        if not isinstance(value, Node):
            return value
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        changed = {name: self.bind(old) for name, old in fields.items() if isinstance(old, (Node, tuple))}
        if isinstance(value, Select) and isinstance(value.limit, Parameter):
            changed["limit"] = _limit(changed["limit"], value.limit)
        return dataclasses.replace(value, **changed) if changed else value

    def _value(self, parameter: Parameter) -> Expression:
        key = parameter_key(parameter)
        if key not in self.bindings:
            raise _missing(parameter, self.bindings)
        literal = _literal(self.bindings[key], parameter)
        if literal is not None:
            return literal
        if id(parameter) in self.pictures:
            return parameter
        kind = type(self.bindings[key]).__name__
        raise BindError(
            f"{_shown(parameter)} is bound to a {kind}, which has no meaning here",
            position=parameter.position,
            hint="A number, a string, or a list of them fits here; a picture fits as the second argument of occlude.",
        )


def _literal(value: Any, parameter: Parameter) -> Expression | None:
    value = plain(value)
    position = parameter.position
    if value is None or isinstance(value, (bool, str)):
        return Literal(value, position=position)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise BindError(f"{_shown(parameter)} does not fit a 64-bit integer", position=position)
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise BindError(f"{_shown(parameter)} is {value}, which is not a number", position=position)
        return Literal(value, position=position)
    if isinstance(value, (list, tuple)):
        items = [_literal(item, parameter) for item in value]
        known = tuple(item for item in items if item is not None)
        return ListLiteral(known, position=position) if items and len(known) == len(items) else None
    return None


def _limit(value: Any, parameter: Parameter) -> int:
    number = value.value if isinstance(value, Literal) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise BindError(f"LIMIT must be a whole number from 0, not {value}", position=parameter.position)
    return number


def _shown(parameter: Parameter) -> str:
    return f"parameter ${parameter.name}" if parameter.name else f"parameter {1 + (parameter.index or 0)} (?)"


def _missing(parameter: Parameter, bindings: Mapping[str, Any]) -> BindError:
    named = [key for key in bindings if not key.isdigit()]
    hint = did_you_mean(parameter.name, named) if parameter.name else None
    return BindError(f"no value is given for {_shown(parameter)}", position=parameter.position, hint=hint)
