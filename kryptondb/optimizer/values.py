"""Option values: from an expression to a Python value, or a BindError that says what the option takes."""

from __future__ import annotations

import math
from collections.abc import Iterable

from kryptondb.errors import BindError, did_you_mean
from kryptondb.grammar.statements import Column, Expression, ListLiteral, Literal, Option, Unary


def no_such(what: str, name: str, known: Iterable[str], option: Option | Expression) -> BindError:
    """`no option named "pach"`, with the nearest names or all of them."""
    known = list(known)
    everything = f"The {what}s are {', '.join(known)}."
    return BindError(
        f'no {what} named "{name}"', position=option.position, hint=did_you_mean(name, known) or everything
    )


def bad(option: Option, wanted: str, hint: str | None = None) -> BindError:
    """`patch must be a whole number of pixels, not 'a'`, at the value."""
    return BindError(
        f"{option.name} must be {wanted}, not {option.value}",
        position=option.value.position or option.position,
        hint=hint,
    )


def number(expression: Expression) -> int | float | None:
    """The number that a literal stands for, its sign included; None when it is none."""
    if isinstance(expression, Unary) and expression.operator == "-":
        value = number(expression.operand)
        return None if value is None else -value
    if isinstance(expression, Literal) and isinstance(expression.value, (int, float)):
        value = expression.value
        return value if not isinstance(value, bool) and math.isfinite(value) else None
    return None


def whole(expression: Expression) -> int | None:
    """The whole number that a literal stands for; None when it is none."""
    value = number(expression)
    return value if isinstance(value, int) else None


def text(option: Option, example: str) -> str:
    """A string option's value."""
    if isinstance(option.value, Literal) and isinstance(option.value.value, str):
        return option.value.value
    if isinstance(option.value, Column):
        raise bad(option, f"a string, such as '{example}'", hint=f"Did you mean '{option.value.name}'? Quote it.")
    raise bad(option, f"a string, such as '{example}'")


def one_of(option: Option, known: Iterable[str], example: str) -> str:
    """A string option's value that must be one of a few, in any case."""
    given = text(option, example)
    for name in known:
        if name.casefold() == given.casefold():
            return name
    everything = ", ".join(f"'{name}'" for name in known)
    raise bad(option, f"one of {everything}", hint=did_you_mean(given, known))


def pair(option: Option, least: int = 1) -> tuple[int, int]:
    """`16` or `(16, 24)` as (height, width), both at least `least`."""
    items = option.value.items if isinstance(option.value, ListLiteral) else (option.value,) * 2
    sizes = tuple(size for size in map(whole, items) if size is not None)
    if len(items) != 2 or len(sizes) != 2 or min(sizes) < least:
        raise bad(option, f"a whole number of pixels, at least {least}, or a pair (height, width)")
    return sizes[0], sizes[1]
