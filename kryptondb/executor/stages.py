"""Stages of a running plan: streams of rows that are pulled from the top, so that stopping the reader stops all work.

A `Stage` is a schema, known before anything runs, and a way to start its rows. Rows come in `Piece`s, each of one image
(or of none, once rows of many images are mixed); the last piece of an image is marked. The reader of pieces closes
their iterator when done, early or not: that ends the work below at once.

Filter, Project, Sort and Limit run in Arrow's own engine (acero). Filter and Project work piece by piece. Sort keeps
all rows, or only the first of them below a Limit. Limit stops the work below as soon as it has its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import acero

from kryptondb.errors import BindError
from kryptondb.executor.expressions import Typed, compile_expression, compile_predicate, type_name
from kryptondb.executor.resources import RowMemory
from kryptondb.grammar.statements import Expression
from kryptondb.optimizer.physical import Redundancy

if TYPE_CHECKING:
    from kryptondb.catalog import ModelStore
    from kryptondb.executor.operators import Scores


#: How many rows of one image are held before they are handed on.
BATCH_ROWS = 65_536


class ImageRun(Protocol):
    """One image's occlusion experiment: what is known of the image as it is; iterating it yields `Scores` by tiles."""

    prediction: np.ndarray  # float64 [classes], probabilities
    classes: list[int]  # the k classes that are scored
    base: np.ndarray  # float64 [k], their scores with nothing occluded
    unsteady: str | None  # why no cell is exact, where the model has answered the image in two ways

    @property
    def flops(self) -> float:
        """Operations done so far."""

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds so far, by phase (`optimizer.cost.Phase`)."""

    def allot(self, time_left: Callable[[], float]) -> None:
        """Called before it is iterated: seconds that it may still take."""

    def __iter__(self) -> Iterator[Scores]: ...


@dataclass(frozen=True)
class ImageAnswer:
    """What is known of the image that a piece belongs to."""

    name: str
    run: ImageRun
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """Some rows. `image` is None when they belong to no single image; `last` ends one (its batch may be empty)."""

    batch: pa.RecordBatch
    image: ImageAnswer | None = None
    last: bool = False


@dataclass(frozen=True)
class Stage:
    """One step of a plan, ready to run: `start` begins its rows, with nothing done before the first is asked for."""

    schema: pa.Schema
    start: Callable[[], Generator[Piece, None, None]]

    def tables(self, rows: int = BATCH_ROWS) -> Generator[pa.Table, None, None]:
        """The rows as tables: one for each image, more where an image has over `rows` rows; none is empty."""
        held: list[pa.RecordBatch] = []
        count = 0
        with closing(self.start()) as pieces:
            for piece in pieces:
                if piece.batch.num_rows:
                    held.append(piece.batch)
                    count += piece.batch.num_rows
                if held and (piece.last or count >= rows):
                    yield pa.Table.from_batches(held, schema=self.schema)
                    held, count = [], 0
        if held:
            yield pa.Table.from_batches(held, schema=self.schema)


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """A table as one record batch, without copying when it holds one already."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else empty_batch(table.schema)


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """No rows of a schema."""
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def run_node(table: pa.Table, node: str, options: Any) -> pa.Table:
    """One acero node over a table, in the calling thread (so that rows keep their order)."""
    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    return acero.Declaration(node, options, [source]).to_table(use_threads=False)


def evaluate(batch: pa.RecordBatch, expressions: Sequence[pc.Expression]) -> list[pa.Array]:
    """The values of expressions over a batch, one array each."""
    if not expressions:
        return []
    names = [str(index) for index in range(len(expressions))]
    table = run_node(pa.Table.from_batches([batch]), "project", acero.ProjectNodeOptions(list(expressions), names))
    return [one_array(column) for column in table.columns]


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([*column.chunks, pa.array([], column.type)])


def filtered(source: Stage, predicate: Expression) -> Stage:
    """The rows for which the predicate is true."""
    condition = compile_predicate(predicate, source.schema)

    def start() -> Generator[Piece, None, None]:
        with closing(source.start()) as pieces:
            for piece in pieces:
                batch = piece.batch
                if batch.num_rows:
                    table = run_node(pa.Table.from_batches([batch]), "filter", acero.FilterNodeOptions(condition))
                    batch = pa.RecordBatch.from_arrays(one_batch(table).columns, schema=source.schema)
                yield Piece(batch, piece.image, piece.last)

    return Stage(source.schema, start)


def projected(source: Stage, items: Sequence[tuple[Expression, str]]) -> Stage:
    """The output columns. A column that is only renamed is passed on as it is, whatever its type."""
    typed = [compile_expression(expression, source.schema) for expression, _ in items]
    columns = [item.column for item in typed]
    computed = [item.expression for item, column in zip(typed, columns, strict=True) if column is None]
    schema = pa.schema(
        [
            pa.field(name, item.type) if column is None else source.schema.field(column).with_name(name)
            for (_, name), item, column in zip(items, typed, columns, strict=True)
        ]
    )

    def start() -> Generator[Piece, None, None]:
        with closing(source.start()) as pieces:
            for piece in pieces:
                values = iter(evaluate(piece.batch, computed))
                arrays = [next(values) if column is None else piece.batch.column(column) for column in columns]
                yield Piece(pa.RecordBatch.from_arrays(arrays, schema=schema), piece.image, piece.last)

    return Stage(schema, start)


def limited(source: Stage, count: int | None, offset: int = 0) -> Stage:
    """The first `count` rows after `offset` of them, all of these without a count. With 0 nothing below is started."""

    def start() -> Generator[Piece, None, None]:
        before, left = offset, count
        if left == 0:
            return
        with closing(source.start()) as pieces:
            for piece in pieces:
                batch = piece.batch.slice(before)
                before -= piece.batch.num_rows - batch.num_rows
                if left is not None:
                    batch = batch.slice(0, left)
                    left -= batch.num_rows
                yield Piece(batch, piece.image, piece.last or left == 0)
                if left == 0:
                    return

    return Stage(source.schema, start)


def sorted_rows(
    source: Stage,
    keys: Sequence[tuple[Expression, bool, bool | None]],
    first: int | None = None,
    memory: RowMemory | None = None,
) -> Stage:
    """The rows in order of `(key, descending, nulls first)`; only the first `first` of them, when that is given.

    Equal rows keep the order they came in. NULLs come last in either direction unless the key says otherwise; NaNs come
    after all numbers. Holds all rows, or about twice `first`.
    """
    typed = [compile_expression(expression, source.schema) for expression, _, _ in keys]
    for (expression, _, _), item in zip(keys, typed, strict=True):
        if isinstance(item.type, pa.FixedShapeTensorType) or pa.types.is_nested(item.type):
            raise BindError(
                f"rows have no order by {expression}, which is a {type_name(item.type)}", position=expression.position
            )
    # Each key is sorted by whether it is NULL and then by its value: that places NULLs one key at a time.
    expressions: list[pc.Expression] = []
    directions: list[str] = []
    for item, (_, descending, nulls_first) in zip(typed, keys, strict=True):
        value = item.cast(pa.bool_()) if item.type == pa.null() else item.expression
        expressions += [pc.is_null(item.expression), value]
        directions += ["descending" if nulls_first else "ascending", "descending" if descending else "ascending"]
    names = [f"key {index}" for index in range(len(expressions))]
    key_schema = pa.schema(
        [(name, pa.bool_() if i % 2 == 0 else _key_type(typed[i // 2])) for i, name in enumerate(names)]
    )

    def ordered(rows: list[pa.Table], sort_by: list[pa.Table], count: int | None) -> tuple[pa.Table, pa.Table]:
        all_rows, all_keys = pa.concat_tables(rows), pa.concat_tables(sort_by)
        order = pc.sort_indices(all_keys, sort_keys=list(zip(names, directions, strict=True)))
        kept = order if count is None else order.slice(0, count)
        return all_rows.take(kept), all_keys.take(kept)

    def hold(size: int) -> None:
        if memory is not None:
            memory.hold("the rows to be sorted", size)

    def start() -> Generator[Piece, None, None]:
        if first is not None and first <= 0:
            return
        rows, sort_by = [source.schema.empty_table()], [key_schema.empty_table()]
        held = size = 0
        with closing(source.tables()) as tables:
            for table in tables:
                batch = one_batch(table)
                rows.append(pa.Table.from_batches([batch]))
                size += batch.nbytes + len(expressions) * 8 * batch.num_rows
                hold(2 * size)  # they are copied in their order
                sort_by.append(pa.Table.from_arrays(evaluate(batch, expressions), schema=key_schema))
                held += batch.num_rows
                if first is not None and held > max(2 * first, BATCH_ROWS):
                    kept, kept_keys = ordered(rows, sort_by, first)
                    rows, sort_by, held = [kept], [kept_keys], kept.num_rows
                    size = kept.nbytes + kept_keys.nbytes
        whole, _ = ordered(rows, sort_by, first)
        del rows, sort_by
        hold(0)  # the reader counts what it keeps of them
        for begin in range(0, whole.num_rows, BATCH_ROWS):
            yield Piece(one_batch(whole.slice(begin, BATCH_ROWS)), last=True)

    return Stage(source.schema, start)


def _key_type(item: Typed) -> pa.DataType:
    return pa.bool_() if item.type == pa.null() else item.type


def matching(predicate: pc.Expression, batch: pa.RecordBatch) -> int:
    """For how many rows of the batch the predicate is true."""
    table = run_node(pa.Table.from_batches([batch]), "filter", acero.FilterNodeOptions(predicate))
    return int(table.num_rows)


#: Sizes are NULL where there is no single one (the total), ratios where nothing is computed.
REDUNDANCY = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("operator", pa.string()),
        pa.field("channels", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("gflops_full", pa.float64()),
        pa.field("gflops_incremental", pa.float64()),
        pa.field("ratio", pa.float64()),
        pa.field("uniform_ratio", pa.float64()),
        pa.field("centre_ratio", pa.float64()),
    ]
)


def redundancy_rows(node: Redundancy, models: ModelStore) -> Stage:
    """The rows as a stage; the model is traced when they are asked for."""

    def start() -> Generator[Piece, None, None]:
        from kryptondb.network import Grid
        from kryptondb.network.regions import redundancy_table

        grid = Grid(node.height, node.width, node.patch, node.stride)
        layers = redundancy_table(models.network(node.model), grid)
        columns = [pa.array([getattr(layer, field.name) for layer in layers], field.type) for field in REDUNDANCY]
        yield Piece(pa.RecordBatch.from_arrays(columns, schema=REDUNDANCY), last=True)

    return Stage(REDUNDANCY, start)
