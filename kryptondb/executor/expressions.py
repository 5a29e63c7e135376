"""An expression of the language as a pyarrow.compute expression, with its type checked before anything runs.

SQL's rules where Arrow's differ:
- three-valued logic: AND, OR and NOT are Kleene's, a comparison with NULL is NULL;
- `/` always yields a float, by zero infinity or NaN; a remainder by zero is NaN of floats, and NULL of integers;
- integer arithmetic is done in 64 bits and an overflow is an error, never a wrapped number;
- `round` rounds halves away from zero;
- a number written beside a float32 column (`score = 0.1`) is compared as float32, the way the column was stored;
- a float becomes the nearest integer, halves the even one, and what does not fit is an error; 1.0 is '1.0' as a string.
NaN is a number that equals nothing, itself included, and is neither smaller nor larger than any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kryptondb.errors import BindError, did_you_mean
from kryptondb.grammar.statements import (
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Column,
    Expression,
    ImageItem,
    In,
    IsNull,
    Like,
    Literal,
    Unary,
)
from kryptondb.optimizer.expressions import like_regex

AGGREGATES = frozenset({"min", "max", "avg", "sum", "count"})
_NULL = pa.null()
_BOOL = pa.bool_()
_COMPARISONS: dict[str, Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    "=": pc.equal,
    "<>": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_ARITHMETIC: dict[str, Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    "+": pc.add_checked,
    "-": pc.subtract_checked,
    "*": pc.multiply_checked,
}


def _remainder(context: pc.UdfContext, *operands: pa.Array | pa.Scalar) -> pa.Array:
    """C's `fmod` of two float64 columns or numbers, null where one of them is: Arrow has no such function."""
    columns = [
        operand if isinstance(operand, pa.Array) else pa.repeat(operand, context.batch_length) for operand in operands
    ]
    null = np.logical_or(*(column.is_null().to_numpy(zero_copy_only=False) for column in columns))
    with np.errstate(invalid="ignore"):
        values = np.fmod(*(column.to_numpy(zero_copy_only=False) for column in columns))
    return pa.array(values, mask=null)


_REMAINDER = "kryptondb_remainder"
pc.register_scalar_function(
    _remainder,
    _REMAINDER,
    {"summary": "remainder of a division", "description": "With the sign of the dividend."},
    {"dividend": pa.float64(), "divisor": pa.float64()},
    pa.float64(),
)

#: What CAST makes, by the names of `words.TYPES`.
_TYPES: dict[str, pa.DataType] = {
    "BOOLEAN": _BOOL,
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "REAL": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
}


@dataclass(frozen=True)
class Typed:
    """A pyarrow expression and the type of its values.

    `literal` for what stands in the text as a constant; `column` for a mere column, its index in the rows.
    """

    expression: pc.Expression
    type: pa.DataType
    literal: bool = False
    column: int | None = None

    def cast(self, kind: pa.DataType) -> pc.Expression:
        """The expression as another type. An integer beyond 2^53 becomes the nearest float."""
        return self.expression if self.type == kind else self.expression.cast(kind, safe=False)


def compile_expression(node: Expression, schema: pa.Schema) -> Typed:
    """The pyarrow expression for `node` over rows of `schema`.

    Raises:
        BindError: an unknown column or function, or an operation that its types do not have.
    """
    return _Compiler(schema).compile(node)


def compile_predicate(node: Expression, schema: pa.Schema) -> pc.Expression:
    """The same for a condition: its type must be boolean (or NULL, which keeps nothing)."""
    return _Compiler(schema).condition(node, "WHERE")


def column_index(name: str, schema: pa.Schema) -> int | None:
    """Where a column stands: by its exact name, else by its name in any case when that is unambiguous."""
    exact = schema.get_all_field_indices(name)
    if exact:
        return int(exact[0])
    folded = [index for index, known in enumerate(schema.names) if known.casefold() == name.casefold()]
    return folded[0] if len(folded) == 1 else None


def type_name(kind: pa.DataType) -> str:
    """A type as a user would call it."""
    if is_number(kind):
        return "number"
    if pa.types.is_string(kind):
        return "string"
    if kind == _BOOL:
        return "boolean"
    if isinstance(kind, pa.FixedShapeTensorType):
        return "heat map"
    return "NULL" if kind == _NULL else str(kind)


def is_number(kind: pa.DataType) -> bool:
    """Integers and floats."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


class _Compiler:
    """Walks an expression bottom up; one method a kind of node."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.taken: tuple[pc.Expression, ...] = ()  # where the branch of a CASE that is compiled is the one taken

    def compile(self, node: Expression) -> Typed:
        if isinstance(node, Literal):
            return self._literal(node)
        if isinstance(node, Column):
            return self._column(node, node.name)
        if isinstance(node, ImageItem):
            return self._column(node, str(node).lower())
        if isinstance(node, Unary):
            return self._unary(node)
        if isinstance(node, Binary):
            return self._binary(node)
        if isinstance(node, Between):
            return self._between(node)
        if isinstance(node, In):
            return self._in(node)
        if isinstance(node, IsNull):
            test = pc.is_null(self.compile(node.value).expression)
            return Typed(pc.invert(test) if node.negated else test, _BOOL)
        if isinstance(node, Like):
            return self._like(node)
        if isinstance(node, Case):
            return self._case(node)
        if isinstance(node, Cast):
            return self._cast(node)
        if isinstance(node, Call):
            return self._call(node)
        raise BindError(f"{node} has no value of its own here", position=node.position)

    def condition(self, node: Expression, where: str) -> pc.Expression:
        """`node` as a boolean expression."""
        found = self.compile(node)
        if found.type not in (_BOOL, _NULL):
            raise BindError(
                f"{where} takes a condition, and {node} is a {type_name(found.type)}", position=node.position
            )
        return found.cast(_BOOL)

    def _literal(self, node: Literal) -> Typed:
        try:
            value = pa.scalar(node.value)
        except (pa.ArrowInvalid, OverflowError):
            raise BindError(f"{node.value} does not fit a 64-bit integer", position=node.position) from None
        return Typed(pc.scalar(value), value.type, literal=True)

    def _column(self, node: Expression, name: str) -> Typed:
        index = column_index(name, self.schema)
        if index is None:
            raise BindError(
                f'no column named "{name}" here',
                position=node.position,
                hint=did_you_mean(name, self.schema.names) or f"Columns: {', '.join(self.schema.names)}.",
            )
        return Typed(pc.field(index), self.schema.field(index).type, column=index)

    def _unary(self, node: Unary) -> Typed:
        if node.operator == "NOT":
            return Typed(pc.invert(self.condition(node.operand, "NOT")), _BOOL)
        operand = self._number(node.operand, "-")
        if pa.types.is_integer(operand.type):
            return Typed(pc.negate_checked(operand.cast(pa.int64())), pa.int64(), operand.literal)
        return Typed(pc.negate(operand.expression), operand.type, operand.literal)

    def _number(self, node: Expression, operation: str) -> Typed:
        """`node` as a number; NULL becomes a NULL float."""
        found = self.compile(node)
        if found.type == _NULL:
            return Typed(found.cast(pa.float64()), pa.float64(), found.literal)
        if not is_number(found.type):
            raise BindError(
                f"{operation} takes numbers, and {node} is a {type_name(found.type)}", position=node.position
            )
        return found

    def _binary(self, node: Binary) -> Typed:
        if node.operator in ("AND", "OR"):
            connect = pc.and_kleene if node.operator == "AND" else pc.or_kleene
            left = self.condition(node.left, node.operator)
            return Typed(connect(left, self.condition(node.right, node.operator)), _BOOL)
        if node.operator in _COMPARISONS:
            return self._compare(node.operator, self.compile(node.left), self.compile(node.right), node)
        left_number, right_number = self._number(node.left, node.operator), self._number(node.right, node.operator)
        integers = pa.types.is_integer(left_number.type) and pa.types.is_integer(right_number.type)
        kind = pa.int64() if integers and node.operator != "/" else pa.float64()
        literal = left_number.literal and right_number.literal
        a, b = left_number.cast(kind), right_number.cast(kind)
        if node.operator in _ARITHMETIC:
            return Typed(_ARITHMETIC[node.operator](a, b), kind, literal)
        if node.operator == "/":
            return Typed(pc.divide(a, b), kind, literal)
        # The remainder has the sign of the dividend, as in SQL and C: integer division in Arrow truncates too.
        if integers:
            b = pc.if_else(pc.equal(b, pc.scalar(pa.scalar(0, kind))), pc.scalar(pa.scalar(None, kind)), b)
            return Typed(pc.subtract(a, pc.multiply(pc.divide(a, b), b)), kind, literal)
        return Typed(pc.Expression._call(_REMAINDER, [a, b]), kind, literal)

    def _compare(self, operator: str, left: Typed, right: Typed, node: Expression) -> Typed:
        kind = self._common(left, right, node)
        return Typed(_COMPARISONS[operator](left.cast(kind), right.cast(kind)), _BOOL)

    def _common(self, left: Typed, right: Typed, node: Expression) -> pa.DataType:
        """The type in which two values are compared."""
        a, b = left.type, right.type
        if a == b and a != _NULL and not isinstance(a, pa.FixedShapeTensorType) and not pa.types.is_nested(a):
            return a
        if a == _NULL or b == _NULL:
            return _BOOL if a == b else (b if a == _NULL else a)
        if is_number(a) and is_number(b):
            if pa.types.is_integer(a) and pa.types.is_integer(b):
                return pa.int64()
            for column, constant in ((left, right), (right, left)):
                if constant.literal and not column.literal and column.type == pa.float32():
                    return column.type
            return pa.float64()
        raise BindError(
            f"a {type_name(a)} and a {type_name(b)} cannot be compared: {node}",
            position=node.position,
        )

    def _between(self, node: Between) -> Typed:
        value = self.compile(node.value)
        low = self._compare(">=", value, self.compile(node.low), node)
        high = self._compare("<=", value, self.compile(node.high), node)
        inside = pc.and_kleene(low.expression, high.expression)
        return Typed(pc.invert(inside) if node.negated else inside, _BOOL)

    def _in(self, node: In) -> Typed:
        """`x IN (a, b)` as x = a OR x = b, so that a NULL in the list makes a miss NULL and not false.

        Constants are looked up in a set for each type they are compared in: there may be thousands of them.
        """
        value = self.compile(node.value)
        sets: dict[pa.DataType, list[object]] = {}
        tests: list[pc.Expression] = []
        for item in node.items:
            typed, constant = self.compile(item), _constant(item)
            if constant is None or value.type == _NULL:
                tests.append(self._compare("=", value, typed, node).expression)
            else:
                kind = self._common(value, typed, node)
                sets.setdefault(kind, []).append(float(constant) if pa.types.is_floating(kind) else constant)
        for kind, constants in sets.items():
            known, looked_up = value.cast(kind), pa.array(constants, kind)
            if pa.types.is_floating(kind):  # -0.0 becomes 0.0, which a set tells apart
                zero = pa.scalar(0.0, kind)
                known, looked_up = pc.add(known, pc.scalar(zero)), pc.add(looked_up, zero)
            missing = pc.scalar(pa.scalar(None, _BOOL))
            tests.append(pc.if_else(pc.is_valid(known), known.isin(looked_up), missing))
        found = _any(tests)
        return Typed(pc.invert(found) if node.negated else found, _BOOL)

    def _case(self, node: Case) -> Typed:
        """The result of the first condition that is true. What is not taken is not computed where it could fail."""
        conditions = [pc.coalesce(self.condition(test, "WHEN"), pc.scalar(False)) for test in node.tests]
        nodes = (*node.results, Literal(None) if node.otherwise is None else node.otherwise)
        results = []
        for index, result in enumerate(nodes):
            may_fail = any(isinstance(part, Cast) for part in result.walk())
            taken = conditions[index : index + 1] if may_fail else []
            if may_fail and index:
                taken.append(pc.invert(_any(conditions[:index])))
            with self._where(taken):
                results.append(self.compile(result))
        kind = _common_of(results, node)
        if kind == _NULL:
            return Typed(pc.scalar(pa.scalar(None)), _NULL)
        names = [str(index) for index in range(len(conditions))]
        test = pc.make_struct(*conditions, field_names=names)
        return Typed(pc.case_when(test, *(result.cast(kind) for result in results)), kind)

    @contextmanager
    def _where(self, conditions: Sequence[pc.Expression]) -> Iterator[None]:
        """Compiles what is only computed for rows at which all of these, which are never NULL, are true."""
        before = self.taken
        self.taken = (*before, *conditions)
        yield
        self.taken = before

    def _cast(self, node: Cast) -> Typed:
        value, kind = self.compile(node.value), _TYPES[node.type]
        expression = value.expression
        if value.type == _NULL or value.type == kind:
            return Typed(value.cast(kind), kind)
        if not (is_number(value.type) or value.type in (_BOOL, pa.string())):
            raise BindError(f"a {type_name(value.type)} is not cast: {node}", position=node.position)
        for condition in self.taken:
            expression = pc.if_else(condition, expression, pc.scalar(pa.scalar(None, value.type)))
        if value.type == pa.string():
            expression = pc.utf8_trim_whitespace(expression)
        elif kind == pa.string() and pa.types.is_floating(value.type):
            return Typed(pc.replace_substring_regex(expression.cast(kind), r"^(-?\d+)$", r"\1.0"), kind)
        elif pa.types.is_integer(kind) and pa.types.is_floating(value.type):
            expression = pc.round(expression, round_mode="half_to_even")
        return Typed(expression.cast(kind, safe=pa.types.is_integer(kind)), kind)

    def _like(self, node: Like) -> Typed:
        value = self.compile(node.value)
        constants = isinstance(node.pattern, Literal) and isinstance(node.pattern.value, (str, type(None)))
        if value.type not in (pa.string(), _NULL) or not constants:
            raise BindError(f"LIKE takes a string and a pattern in quotes: {node}", position=node.position)
        pattern = like_regex(node)
        if pattern is None:
            return Typed(pc.scalar(pa.scalar(None, _BOOL)), _BOOL)
        found = pc.match_substring_regex(value.cast(pa.string()), pattern=pattern, ignore_case=node.any_case)
        return Typed(pc.invert(found) if node.negated else found, _BOOL)

    def _call(self, node: Call) -> Typed:
        if node.function in AGGREGATES:
            raise BindError(f"{node} is an aggregate, which has no place in this clause", position=node.position)
        if node.function not in ("abs", "round") or node.star or node.distinct:
            hint = did_you_mean(node.function, ("abs", "round", *sorted(AGGREGATES)))
            raise BindError(f"no function {node.function} here", position=node.position, hint=hint)
        most = 1 if node.function == "abs" else 2
        if not 1 <= len(node.arguments) <= most:
            raise BindError(f"{node.function} takes {'1' if most == 1 else '1 or 2'} arguments", position=node.position)
        value = self._number(node.arguments[0], node.function)
        if node.function == "abs":
            return Typed(pc.abs_checked(value.expression), value.type)
        digits = _whole_number(node.arguments[1]) if len(node.arguments) == 2 else 0
        if digits is None or abs(digits) > 300:
            raise BindError(f"round takes a whole number of digits: {node}", position=node.arguments[1].position)
        if pa.types.is_integer(value.type) and digits >= 0:
            return value
        rounded = pc.round(value.expression, ndigits=digits, round_mode="half_towards_infinity")
        return Typed(rounded, value.type)


def _any(conditions: Sequence[pc.Expression]) -> pc.Expression:
    """OR of all, as a shallow tree: Arrow walks expressions by recursion."""
    conditions = list(conditions) or [pc.scalar(False)]
    while len(conditions) > 1:
        pairs = [conditions[index : index + 2] for index in range(0, len(conditions), 2)]
        conditions = [pc.or_kleene(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return conditions[0]


def _common_of(results: Sequence[Typed], node: Case) -> pa.DataType:
    """The type of a CASE: a float32 column beside constants and integers stays one, as in DuckDB."""
    kinds = list(dict.fromkeys(result.type for result in results if result.type != _NULL))
    if len(kinds) <= 1:
        kind = kinds[0] if kinds else _NULL
        if isinstance(kind, pa.FixedShapeTensorType) or pa.types.is_nested(kind):
            raise BindError(f"CASE does not take a {type_name(kind)}: {node}", position=node.position)
        return kind
    if not all(map(is_number, kinds)):
        names = " and a ".join(type_name(kind) for kind in kinds)
        raise BindError(f"CASE gives a {names} in different branches: {node}", position=node.position)
    if all(map(pa.types.is_integer, kinds)):
        return pa.int64()
    computed = {result.type for result in results if pa.types.is_floating(result.type) and not result.literal}
    return pa.float32() if computed == {pa.float32()} else pa.float64()


def _whole_number(node: Expression) -> int | None:
    """The value of an integer literal, with or without a sign; None for anything else."""
    value = _constant(node)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _constant(node: Expression) -> bool | int | float | str | None:
    """The value of a literal, with or without a sign; None for NULL and for anything that is computed."""
    if isinstance(node, Unary) and node.operator == "-":
        inner = _constant(node.operand)
        return -inner if isinstance(inner, (int, float)) and not isinstance(inner, bool) else None
    return node.value if isinstance(node, Literal) else None
