"""GROUP BY and the aggregates, by acero's hash aggregation, in memory that grows with the groups and not the rows.

Acero's own sources read ahead of the aggregation, in threads of their own, and the rows here come from a network that
is running. So each image's rows are aggregated when they come, to partial aggregates (`count` and `sum` for `avg`), and
the partial aggregates of many images are aggregated again, by acero too. `count(DISTINCT x)` keeps the distinct values
of each group instead.

SQL's rules: NULLs are left out; without rows `count` is 0 and the others NULL; without GROUP BY there is one row in
all. `sum` of integers is an integer and an overflow is an error; `avg` is always a float. NaN makes a sum and an
average NaN, and is left out by `min` and `max` unless there is nothing else.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import acero

from kryptondb.errors import BindError, ExecutionError
from kryptondb.executor.expressions import Typed, compile_expression, is_number, type_name
from kryptondb.executor.resources import RowMemory
from kryptondb.executor.stages import BATCH_ROWS, Piece, Stage, evaluate, one_array, one_batch, run_node
from kryptondb.grammar.statements import Call, Expression

_VALID = pc.CountOptions(mode="only_valid")
_LARGEST = 2.0**63


@dataclass(frozen=True)
class _Partial:
    """One partial aggregate: a column of the state, made of rows by `first` and of partial aggregates by `again`."""

    name: str
    first: str  # 'count_all', 'count', 'sum', 'min' or 'max'
    argument: str | None  # the input column, None for count(*)

    @property
    def again(self) -> str:
        return self.first if self.first in ("min", "max") else "sum"


@dataclass(frozen=True)
class _Output:
    """One aggregate of the statement: its argument, its partial aggregates, and how its value is made of them."""

    call: Call
    name: str
    argument: Typed | None
    partials: tuple[_Partial, ...] = ()
    distinct: str | None = None  # the column whose distinct values are kept

    @property
    def type(self) -> pa.DataType:
        if self.call.function == "count":
            return pa.int64()
        assert self.argument is not None
        if self.call.function in ("min", "max"):
            return self.argument.type
        return pa.int64() if self.call.function == "sum" and _is_integer(self.argument) else pa.float64()


def aggregated(
    source: Stage,
    keys: Sequence[tuple[Expression, str]],
    calls: Sequence[tuple[Call, str]],
    memory: RowMemory | None = None,
) -> Stage:
    """One row a group of equal keys, in the order the groups were first met; one row in all without keys.

    Args:
        keys: the grouping expressions and the names of their columns, which come first.
        calls: the aggregates and the names of theirs.

    Raises:
        BindError: an aggregate that its argument's type does not have.
    """
    typed_keys = [_key(expression, source.schema) for expression, _ in keys]
    outputs = [_output(index, call, name, source.schema) for index, (call, name) in enumerate(calls)]
    schema = pa.schema(
        [_key_field(name, key, source.schema) for (_, name), key in zip(keys, typed_keys, strict=True)]
        + [pa.field(output.name, output.type, nullable=output.call.function != "count") for output in outputs]
    )

    def start() -> Generator[Piece, None, None]:
        state = _State(typed_keys, outputs)
        state.add(source.schema.empty_table())  # what there is without rows
        with closing(source.tables()) as tables:
            for table in tables:
                state.add(table)
                if memory is not None:
                    memory.hold("the groups", 2 * state.nbytes)  # once more while they are put together
        groups = state.result()
        del state
        if memory is not None:  # the reader counts what it keeps of them
            memory.hold("the groups", 0)
        rows = pa.RecordBatch.from_arrays(groups, schema=schema)
        for begin in range(0, rows.num_rows, BATCH_ROWS):
            yield Piece(rows.slice(begin, BATCH_ROWS), last=True)

    return Stage(schema, start)


def _key(expression: Expression, schema: pa.Schema) -> Typed:
    key = compile_expression(expression, schema)
    if isinstance(key.type, pa.FixedShapeTensorType) or pa.types.is_nested(key.type):
        raise BindError(f"rows cannot be grouped by a {type_name(key.type)}", position=expression.position)
    return key


def _key_field(name: str, key: Typed, schema: pa.Schema) -> pa.Field:
    return pa.field(name, _stored(key.type), nullable=key.column is None or schema.field(key.column).nullable)


def _stored(kind: pa.DataType) -> pa.DataType:
    """The type of a key's column: that of a bare NULL is boolean, which acero can group by."""
    return pa.bool_() if kind == pa.null() else kind


def _is_integer(item: Typed) -> bool:
    return bool(pa.types.is_integer(item.type))


def _output(index: int, call: Call, name: str, schema: pa.Schema) -> _Output:
    """Checks one aggregate, and chooses its partial aggregates."""
    function, at = call.function, call.position
    if call.star:
        if function != "count":
            raise BindError(f"{function}(*) has no meaning: only count takes *", position=at)
        return _Output(call, name, None, (_Partial(f"p{index}", "count_all", None),))
    if len(call.arguments) != 1:
        raise BindError(f"{function} takes one argument: {call}", position=at)
    argument = compile_expression(call.arguments[0], schema)
    if argument.type == pa.null():
        argument = Typed(argument.cast(pa.float64()), pa.float64())
    if function in ("sum", "avg") and not is_number(argument.type):
        raise BindError(
            f"{function} takes numbers, and {call.arguments[0]} is a {type_name(argument.type)}", position=at
        )
    odd = isinstance(argument.type, pa.FixedShapeTensorType) or pa.types.is_nested(argument.type)
    if odd and (function != "count" or call.distinct):
        raise BindError(f"{function} does not take a {type_name(argument.type)}", position=at)
    column, partial = f"a{index}", f"p{index}"
    if call.distinct and function in ("sum", "avg"):
        raise BindError(f"DISTINCT goes with count alone, not with {function}", position=at)
    if call.distinct and function == "count":
        return _Output(call, name, argument, distinct=column)
    if function in ("min", "max", "count"):
        return _Output(call, name, argument, (_Partial(partial, function, column),))
    if function == "sum":
        # An integer sum is kept as a float besides, which shows whether the integer one has wrapped.
        checks = (_Partial(f"{partial} float", "sum", f"{column} float"),) if _is_integer(argument) else ()
        return _Output(call, name, argument, (_Partial(partial, "sum", column), *checks))
    if function == "avg":
        parts = (_Partial(f"{partial} sum", "sum", f"{column} float"), _Partial(f"{partial} count", "count", column))
        return _Output(call, name, argument, parts)
    raise BindError(f"no aggregate named {function}", position=at)


@dataclass
class _Rows:
    """Tables that are put together, and made smaller, once they hold twice what they held after the last time."""

    tables: list[pa.Table] = field(default_factory=list)
    held: int = 0
    limit: int = BATCH_ROWS

    def add(self, table: pa.Table) -> bool:
        """Keeps the table; True when it is time to make the whole smaller."""
        self.tables.append(table)
        self.held += table.num_rows
        return self.held > self.limit or len(self.tables) > 256

    def replace(self, table: pa.Table) -> None:
        """The smaller whole."""
        self.tables, self.held, self.limit = [table], table.num_rows, max(BATCH_ROWS, 2 * table.num_rows)

    def whole(self) -> pa.Table:
        return pa.concat_tables(self.tables)


class _State:
    """Partial aggregates of all rows so far, and the distinct values where a DISTINCT asks for them."""

    def __init__(self, keys: Sequence[Typed], outputs: Sequence[_Output]) -> None:
        self.outputs = outputs
        self.keys = [f"k{index}" for index in range(len(keys))]
        self.partials = [partial for output in outputs for partial in output.partials]
        self.inputs: dict[str, pc.Expression] = {name: _grouped(key) for name, key in zip(self.keys, keys, strict=True)}
        for index, output in enumerate(outputs):
            if output.argument is not None:
                self.inputs[f"a{index}"] = _grouped(output.argument) if output.distinct else output.argument.expression
                if is_number(output.argument.type):
                    self.inputs[f"a{index} float"] = output.argument.cast(pa.float64())
        self.main = _Rows()
        self.distinct = {output.distinct: _Rows() for output in outputs if output.distinct}

    def add(self, table: pa.Table) -> None:
        """Takes in the rows of one table."""
        names = list(self.inputs)
        if names:
            arrays = evaluate(one_batch(table), list(self.inputs.values()))
            inputs = pa.Table.from_arrays(arrays, names=names)
        else:
            inputs = table  # count(*) alone
        if self.partials or self.keys:
            partial = self._aggregate(inputs, [(p.name, p.first, p.argument) for p in self.partials])
            if self.main.add(partial):
                self.main.replace(self._combined())
        for column, kept in self.distinct.items():
            if kept.add(self._distinct(inputs, column)):
                kept.replace(self._distinct(kept.whole(), column))

    @property
    def nbytes(self) -> int:
        """What is kept, in bytes."""
        return sum(table.nbytes for kept in (self.main, *self.distinct.values()) for table in kept.tables)

    def result(self) -> list[pa.Array]:
        """The columns: keys, then aggregates."""
        groups = self._finished()
        columns = {name: one_array(groups.column(name)) for name in groups.column_names}
        return [columns[name] for name in self.keys] + [_value(output, columns) for output in self.outputs]

    def _aggregate(self, table: pa.Table, aggregates: Sequence[tuple[str, str, str | None]]) -> pa.Table:
        """Acero's aggregation of (output, function, input column), by the keys."""
        prefix = "hash_" if self.keys else ""
        specs = [
            (column if column is not None else [], prefix + function, _VALID if function == "count" else None, name)
            for name, function, column in aggregates
        ]
        found = run_node(table, "aggregate", acero.AggregateNodeOptions(specs, keys=self.keys))
        return found.select([*self.keys, *(name for name, _, _ in aggregates)])

    def _combined(self) -> pa.Table:
        """The partial aggregates of what are partial aggregates already."""
        return self._aggregate(self.main.whole(), [(p.name, p.again, p.name) for p in self.partials])

    def _distinct(self, table: pa.Table, column: str) -> pa.Table:
        """The distinct values of a column in each group."""
        names = [*self.keys, column]
        return run_node(table.select(names), "aggregate", acero.AggregateNodeOptions([], keys=names)).select(names)

    def _finished(self) -> pa.Table:
        """One row a group: all partial aggregates, and what is asked of the distinct values.

        Both states go through one last aggregation together, each with NULL in the other's columns, so that their
        groups meet without a join (which would not match a NULL key).
        """
        tables = [self.main.whole()] if self.main.tables else []
        tables += [self._distinct(kept.whole(), column) for column, kept in self.distinct.items()]
        last = [(p.name, p.again, p.name) for p in self.partials]
        for output in self.outputs:
            if output.distinct:
                last.append((output.distinct, "count", output.distinct))
        return self._aggregate(pa.concat_tables(tables, promote_options="default"), last)


def _grouped(key: Typed) -> pc.Expression:
    """A value that rows are grouped by: -0.0 becomes 0.0, which acero tells apart and SQL does not."""
    if pa.types.is_floating(key.type):
        return pc.add(key.expression, pc.scalar(pa.scalar(0.0, key.type)))
    return key.cast(_stored(key.type))


def _value(output: _Output, columns: dict[str, pa.Array]) -> pa.Array:
    """An aggregate's values, one a group, from its partial aggregates."""
    if output.distinct:
        return columns[output.distinct]
    parts = [columns[partial.name] for partial in output.partials]
    if output.call.function == "avg":
        total, count = parts
        return pc.divide(total, pc.cast(count, pa.float64()))  # NULL where the sum is: there the count is 0
    if output.call.function == "sum" and len(parts) == 2:
        largest = pc.max(pc.abs(parts[1])).as_py()
        if largest is not None and largest >= _LARGEST:
            raise ExecutionError(f"{output.call} does not fit a 64-bit integer", position=output.call.position)
    return parts[0] if parts[0].type == output.type else parts[0].cast(output.type)
