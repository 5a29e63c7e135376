"""Predicates evaluated with numpy where only some columns are known: what can be true, false or null.

The grid knows `y x row col height width` of each cell, a model knows `class label` of each class; the rest (drop,
score, base, image) is known when the query runs. A predicate is then a set of possible truths at each place:

    y < 32                     exactly true or false at each cell
    y < 32 AND drop > 0.1      false below row 32, otherwise anything
    drop > 0.1 OR y < 32       true above row 32, otherwise anything

A place where it cannot be true need not be computed. Only a predicate that is *decided*, with exactly one possible
truth at every place, has nothing left to ask when the query runs: what is not understood here can be anything, and
stays.

Arithmetic is in float64, by the executor's formulas; division by zero, and the remainder by zero, are null; null is
neither true nor false.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_
from typing import Any

import numpy as np

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
    Literal,
    Unary,
)
from kryptondb.optimizer.expressions import conjunction, conjuncts, like_regex

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Truth:
    """At each of n places, whether a predicate can be true, can be false, can be null: three boolean arrays [n]."""

    true: Array
    false: Array
    null: Array

    @property
    def decided(self) -> bool:
        """Whether only one truth is possible at every place."""
        possible = self.true.astype(np.int8) + self.false + self.null
        return bool((possible == 1).all())

    def __invert__(self) -> Truth:
        return Truth(self.false, self.true, self.null)

    def __and__(self, other: Truth) -> Truth:
        null = (self.null & (other.null | other.true)) | (self.true & other.null)
        return Truth(self.true & other.true, self.false | other.false, null)

    def __or__(self, other: Truth) -> Truth:
        return ~(~self & ~other)


@dataclass(frozen=True)
class Values:
    """The known values of an expression at n places: `data` [n], of float64, bool or str, and `null` [n].

    `whole` says whether the query has integers there: by zero they have no remainder, where fractions have NaN.
    """

    data: Array
    null: Array
    whole: bool = False


def truth(predicate: Expression, columns: Mapping[str, Values], places: int) -> Truth:
    """The possible truths of a predicate at each of `places` places, where `columns` are the known columns."""
    return _Evaluator(columns, places).truth(predicate)


def decide(predicate: Expression, columns: Mapping[str, Values], places: int) -> tuple[Array, Expression | None]:
    """At which of `places` places a predicate can be true [places], and what of it is left to ask when the query runs.

    Args:
        columns: those that are known, each of `places` values.
    """
    parts = conjuncts(predicate)
    truths = [truth(part, columns, places) for part in parts]
    rest = conjunction(part for part, found in zip(parts, truths, strict=True) if not found.decided)
    return reduce(and_, truths).true, rest


def numbers(data: Array) -> Values:
    """Known whole numbers as a column without nulls."""
    return Values(np.asarray(data, dtype=np.float64), np.zeros(len(data), dtype=bool), whole=True)


def strings(data: list[str | None]) -> Values:
    """Known strings as a column; None is null."""
    null = np.array([value is None for value in data], dtype=bool)
    return Values(np.array([value or "" for value in data], dtype=np.str_), null)


class _Evaluator:
    def __init__(self, columns: Mapping[str, Values], places: int) -> None:
        self.columns = columns
        self.places = places

    def truth(self, predicate: Expression) -> Truth:
        if isinstance(predicate, Unary) and predicate.operator == "NOT":
            return ~self.truth(predicate.operand)
        if isinstance(predicate, Binary) and predicate.operator in ("AND", "OR"):
            left, right = self.truth(predicate.left), self.truth(predicate.right)
            return left & right if predicate.operator == "AND" else left | right
        if isinstance(predicate, Binary):
            return self._compare(predicate.operator, predicate.left, predicate.right)
        if isinstance(predicate, Between):
            value = predicate.value
            inside = self._compare(">=", value, predicate.low) & self._compare("<=", value, predicate.high)
            return ~inside if predicate.negated else inside
        if isinstance(predicate, In):
            found = self._in(predicate)
            return ~found if predicate.negated else found
        if isinstance(predicate, Like):
            return self._like(predicate)
        if isinstance(predicate, IsNull):
            missing = self._is_null(predicate.value)
            return ~missing if predicate.negated else missing
        values = self.values(predicate)  # a boolean column, TRUE, FALSE or NULL
        return self._anything() if values is None else self._known(values.data.astype(bool), values.null)

    def values(self, expression: Expression) -> Values | None:
        """The values of an expression, or None where it needs a column that is not known.

        A condition is the boolean that it is, as in `(y < 8) = TRUE`.
        """
        if isinstance(expression, Literal):
            return self._constant(expression.value)
        if isinstance(expression, Column):
            return self.columns.get(expression.name)
        if isinstance(expression, Unary) and expression.operator == "-":
            operand = self.values(expression.operand)
            return None if operand is None else _number(-operand.data, operand.null, operand.whole)
        if isinstance(expression, Binary) and expression.operator in _ARITHMETIC:
            left, right = self.values(expression.left), self.values(expression.right)
            return None if left is None or right is None else _arithmetic(expression.operator, left, right)
        if isinstance(expression, Case):
            return self._case(expression)
        if isinstance(expression, Cast):
            value = self.values(expression.value)
            return None if value is None else _cast(expression.type, value)
        if isinstance(expression, Call):
            arguments = [self.values(argument) for argument in expression.arguments]
            known = [argument for argument in arguments if argument is not None]
            return None if len(known) < len(arguments) else _call(expression.function, known)
        if _is_condition(expression):
            found = self.truth(expression)
            return Values(found.true, found.null) if found.decided else None
        return None

    def _is_null(self, value: Expression) -> Truth:
        if _is_condition(value):
            found = self.truth(value)
            return Truth(found.null, found.true | found.false, np.zeros(self.places, dtype=bool))
        values = self.values(value)
        return self._anything(null=False) if values is None else self._known(values.null)

    def _compare(self, operator: str, left: Expression, right: Expression) -> Truth:
        first, second = self.values(left), self.values(right)
        if first is None or second is None:
            nothing = any(side is not None and bool(side.null.all()) for side in (first, second)) and self.places > 0
            return self._nothing() if nothing else self._anything()
        null = first.null | second.null
        if first.data.dtype.kind != second.data.dtype.kind:  # one side is NULL, or the binder was passed by
            return self._nothing() if null.all() else self._anything()
        return self._known(_COMPARE[operator](first.data, second.data), null)

    def _case(self, case: Case) -> Values | None:
        """A CASE whose conditions and results are all known."""
        tests = [self.truth(test) for test in case.tests]
        results = [self.values(result) for result in case.results]
        otherwise = self._constant(None) if case.otherwise is None else self.values(case.otherwise)
        known = [values for values in (*results, otherwise) if values is not None]
        kinds = {values.data.dtype.kind for values in known if not values.null.all()}
        if len(known) <= len(results) or len(kinds) > 1 or not all(test.decided for test in tests):
            return None
        if not kinds:
            return self._constant(None)
        kind = next(values.data.dtype for values in known if values.data.dtype.kind in kinds)
        same = [values.data if values.data.dtype.kind in kinds else np.zeros(self.places, kind) for values in known]
        conditions = [test.true for test in tests]
        data = np.select(conditions, same[:-1], same[-1])
        whole = all(values.whole or bool(values.null.all()) for values in known)
        return Values(data, np.select(conditions, [values.null for values in known[:-1]], known[-1].null), whole)

    def _in(self, predicate: In) -> Truth:
        """`x IN (a, b)` as x = a OR x = b; constants, of which there may be thousands, are looked up at once."""
        value = self.values(predicate.value)
        found = self._known(np.zeros(self.places, dtype=bool))
        constants: list[Any] = []
        for item in predicate.items:
            constant = _scalar(item.value) if isinstance(item, Literal) and item.value is not None else None
            if value is not None and constant is not None and np.array(constant).dtype.kind == value.data.dtype.kind:
                constants.append(constant)
            else:
                found = found | self._compare("=", predicate.value, item)
        if value is not None and constants:
            known = np.array(constants, dtype=None if value.data.dtype.kind == "U" else value.data.dtype)
            found = found | self._known(np.isin(value.data, known), value.null)
        return found

    def _like(self, like: Like) -> Truth:
        pattern = like_regex(like)
        if pattern is None:
            return self._nothing()
        value = self.values(like.value)
        if value is not None and value.null.all():
            return self._nothing()
        if value is None or value.data.dtype.kind != "U":
            return self._anything()
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.match_substring_regex(pa.array(value.data, pa.string()), pattern=pattern, ignore_case=like.any_case)
        known = self._known(np.asarray(found), value.null)
        return ~known if like.negated else known

    def _constant(self, value: bool | float | str | None) -> Values:
        if value is None:
            return Values(np.zeros(self.places), np.ones(self.places, dtype=bool))
        whole = isinstance(value, int) and not isinstance(value, bool)
        return Values(np.full(self.places, _scalar(value)), np.zeros(self.places, dtype=bool), whole)

    def _known(self, true: Array, null: Array | None = None) -> Truth:
        null = np.zeros(self.places, dtype=bool) if null is None else null
        return Truth(true & ~null, ~true & ~null, null)

    def _nothing(self) -> Truth:
        """Null everywhere."""
        return self._known(np.zeros(self.places, dtype=bool), np.ones(self.places, dtype=bool))

    def _anything(self, null: bool = True) -> Truth:
        every = np.ones(self.places, dtype=bool)
        return Truth(every, every, every if null else ~every)


def _scalar(value: bool | float | str) -> bool | float | str:
    """A constant as columns hold it: numbers are floats."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


_LARGEST = {"SMALLINT": 2.0**15 - 1, "INTEGER": 2.0**31 - 1, "BIGINT": 2.0**53}

_COMPARE = {
    "=": np.equal,
    "<>": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


_ARITHMETIC: Mapping[str, Callable[[Array, Array], Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
}


def _is_condition(expression: Expression) -> bool:
    """Whether an expression is true, false or null by what it is, not by what a column holds."""
    if isinstance(expression, Unary):
        return expression.operator == "NOT"
    if isinstance(expression, Binary):
        return expression.operator not in _ARITHMETIC
    return isinstance(expression, (Between, In, IsNull, Like))


def _cast(kind: str, value: Values) -> Values | None:
    """A value as another type; None where that reads or writes a text, or rounds to 32 bits as the executor does."""
    of = value.data.dtype.kind
    if kind == "BOOLEAN" and of in "fb":
        return Values(value.data != 0, value.null)
    if kind == "VARCHAR":
        return value if of == "U" else None
    if kind == "REAL" or of == "U":
        return None
    data = value.data.astype(np.float64)
    if kind == "DOUBLE":
        return Values(data, value.null)
    data, limit = np.rint(data), _LARGEST[kind]
    fits = value.null | ((data >= -limit - 1) & (data <= limit))
    return _number(np.where(value.null, 0.0, data), value.null, True) if fits.all() else None


def _number(data: Array, null: Array, whole: bool) -> Values:
    """What arithmetic gives: integers have no negative zero, by which a division would be minus infinity."""
    return Values(data + 0.0 if whole else data, null, whole)


def _arithmetic(operator: str, left: Values, right: Values) -> Values:
    null = left.null | right.null
    whole = left.whole and right.whole and operator != "/"
    if whole and operator == "%":
        null = null | (right.data == 0)
    with np.errstate(all="ignore"):
        return _number(_ARITHMETIC[operator](left.data, right.data), null, whole)


def _call(function: str, arguments: list[Values]) -> Values | None:
    if function == "abs":
        return replace(arguments[0], data=np.abs(arguments[0].data))
    if function == "round":  # half away from zero, as SQL rounds
        scale = 10.0 ** arguments[1].data if len(arguments) == 2 else 1.0
        scaled = arguments[0].data * scale
        rounded = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled) / scale
        return _number(rounded, arguments[0].null, arguments[0].whole)
    return None
