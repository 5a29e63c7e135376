"""Parameters become the values that were given for them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from kryptondb.errors import BindError
from kryptondb.grammar.statements import Expression, In, ListLiteral, Literal, Node, Parameter, Select, TableFunction
from kryptondb.options.reader import bound_to
from kryptondb.text.plain_text import printable

#: Values of one list for IN: the statement that says so is still one that can be parsed.
MAX_LIST = 20_000


def bind_parameters(select: Select, bindings: Mapping[str, Any]) -> Select:
    """Puts plain values in the place of parameters; a picture stays a parameter, for the executor to look up.

    Before:  SELECT y, drop FROM occlude($net, ?, class => ?) LIMIT $n     ['cat', <array>] with net = 'chest', n = 10
    After:   SELECT y, drop FROM occlude('chest', ?, class => 'cat') LIMIT 10

    Raises:
        BindError: a parameter without a value, or a value of a kind that fits nothing. A value without a parameter is
            no error here: other statements of the same text may use it.
    """
    bound: Select = select.rewrite(_Binder(bindings, select.source.images).bind)
    if isinstance(select.limit, Parameter):
        bound = dataclasses.replace(bound, limit=_rows("LIMIT", bound.limit, select.limit))
    if isinstance(select.offset, Parameter):
        bound = dataclasses.replace(bound, offset=_rows("OFFSET", bound.offset, select.offset))
    printed: Select = bound.rewrite(_printable)
    return printed


def _printable(part: Node) -> Node | None:
    """Text as names of pictures, labels and columns are written; paths, which the source has, stay as they are."""
    if isinstance(part, Literal) and isinstance(part.value, str):
        return dataclasses.replace(part, value=printable(part.value))
    return part if isinstance(part, TableFunction) else None


def plain(value: Any) -> Any:
    """A value as None, bool, int, float, str or a list of these; unchanged where it is something else."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value


class _Binder:
    def __init__(self, bindings: Mapping[str, Any], images: Expression | None) -> None:
        self.bindings = bindings
        self.images = images

    def bind(self, part: Node) -> Expression | None:
        """What stands in the place of a part; None where its own parts are looked at."""
        if isinstance(part, Parameter):
            return self._value(part)
        return self._membership(part) if isinstance(part, In) else None

    def _membership(self, node: In) -> Expression:
        """`x IN (?)` with the items of a list in the parameter's place; x is in no empty list."""
        items: list[Expression] = []
        for item in node.items:
            several = self._several(item) if isinstance(item, Parameter) else None
            items.extend([item.rewrite(self.bind)] if several is None else several)
        if not items:
            return Literal(node.negated, position=node.position)
        return dataclasses.replace(node, value=node.value.rewrite(self.bind), items=tuple(items))

    def _several(self, parameter: Parameter) -> list[Expression] | None:
        """The items of a parameter that is bound to a list; None for a single value."""
        values = _items(self.bindings.get(parameter.key))
        if values is None:
            return None
        if len(values) > MAX_LIST:
            message = f"{_shown(parameter)} holds {len(values):,} values; the limit is {MAX_LIST:,}"
            raise BindError(message, position=parameter.position)
        found: list[Expression] = []
        for value in values:
            literal = _literal(value, parameter)
            if not isinstance(literal, Literal):
                message = f"{_shown(parameter)} holds a {type(value).__name__}, which nothing here is compared with"
                raise BindError(message, position=parameter.position, hint="IN takes numbers and strings.")
            found.append(literal)
        return found

    def _value(self, parameter: Parameter) -> Expression:
        value = bound_to(parameter, self.bindings)
        literal = _literal(value, parameter)
        if literal is not None:
            return literal
        if parameter is self.images:
            return parameter
        kind = type(value).__name__
        raise BindError(
            f"{_shown(parameter)} is bound to a {kind}, which has no meaning here",
            position=parameter.position,
            hint="A number, a string, or a list of them fits here; a picture fits as the second argument of occlude.",
        )


def _items(value: Any) -> Sequence[Any] | None:
    """What a list, a tuple, a set, a range, or an array or series of one axis holds; None for anything else."""
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return tuple(value)
    if getattr(value, "ndim", 1) != 1:
        return None
    for method in ("tolist", "to_pylist", "to_list"):  # numpy and pandas, pyarrow, Polars
        if hasattr(value, method):
            return tuple(getattr(value, method)())
    return None


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


def _rows(clause: str, value: Any, parameter: Parameter) -> int:
    number = value.value if isinstance(value, Literal) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise BindError(f"{clause} must be a whole number from 0, not {value}", position=parameter.position)
    return number


def _shown(parameter: Parameter) -> str:
    return f"parameter ${parameter.name}" if parameter.name else f"parameter {1 + (parameter.index or 0)} (?)"
