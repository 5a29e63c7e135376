"""Result: what a statement gives a user to hold. A query's rows are read when they are first asked for.

A query is planned, and its errors raised, when the statement is given; it runs when its rows are first read. `arrow()`
keeps the rows, and everything that follows reads those; `batches()` streams them image by image and keeps nothing, so
reading again after streaming runs the query again.

The functions at the end are for the package's own sinks, so that `dir(result)` has only what users need.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from html import escape
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TextIO

from kryptondb.errors import BindError, SkippedImages, warn
from kryptondb.show.notebook import Pictures, first_picture, html
from kryptondb.show.terminal import Terminal, failures_text, print_rows
from kryptondb.show.values import is_tensor, require_pandas, table_of, tensors
from kryptondb.text.plain_text import MESSAGE, plain, plain_line, shortened

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from kryptondb.executor import Execution, ImageFailure, Stats
    from kryptondb.optimizer.physical import PhysicalPlan


class Result:
    """The answer to one statement.

    `Session.sql` makes it. Read a result in one thread at a time.
    """

    def __init__(
        self,
        start: Callable[[], Execution] | None = None,
        *,
        table: pa.Table | None = None,
        run: Execution | None = None,
        errors: Sequence[ImageFailure] = (),
        plan: PhysicalPlan | None = None,
        message: str | None = None,
        note: str | None = None,
        document: str | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        """
        Args:
            start: starts the query; called when rows are first read, and again if they are read anew.
            table: the rows of a statement that has run already; no rows where neither this nor `start` is given.
            run: the finished run behind the table, for `stats` and `errors`.
            errors: the images that were skipped, of a statement without such a run.
            plan: the physical plan of a query, explained and copied ones included; None for other statements.
            message: a sentence that stands for the rows when the result is shown (a plan's text, a model's summary).
            note: a sentence that stands below the rows when they are shown as a table.
            document: the answer as one JSON document, when it is one (EXPLAIN FORMAT json).
            pictures: opens the query's pictures again, to draw heat maps over them in a notebook.
        """
        self._start = start
        self._table = table_of((), []) if start is None and table is None else table
        self._run = run
        self._consumed = run is not None
        self._errors = errors
        self._warned = False
        self.plan = plan
        self.message = None if message is None else plain(message)
        self.note = None if note is None else plain(note)
        self._document = document
        self._pictures = pictures
        self._warn()

    @property
    def schema(self) -> pa.Schema:
        """Names, types, and in its metadata how the answer is made. Does not run the query.

        Of a batch that tunes itself the metadata is only final once rows have come.
        """
        return self._table.schema if self._table is not None else self._current().schema

    @property
    def stats(self) -> Stats | None:
        """What the run counted; runs the query if nothing has been read yet.

        The fields are `seconds`, `flops`, `positions`, `images`, `failed`, `peak_memory` (of the process, in bytes),
        `query_memory` (of the query alone), `rows` and `phases` (seconds by name). None where no query ran, as for
        SHOW and ANALYZE.
        """
        self._read()
        return None if self._run is None else self._run.stats

    @property
    def kept(self) -> bool:
        """Whether all rows were read already and are kept, so that reading them again computes nothing."""
        return self._table is not None

    @property
    def errors(self) -> Failures:
        """The images that were skipped, and why; `.arrow()` and `.df()` give them as a table.

        Runs the query if nothing has been read yet.
        """
        self._read()
        return Failures(skipped_so_far(self))

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """Streams the rows as record batches, image by image, keeping nothing."""
        if self._table is not None:
            yield from self._table.to_batches()
            return
        run = self._fresh()
        self._consumed = True
        try:
            yield from run.batches()
            self._warn()
        finally:
            run.close()

    def arrow(self) -> pa.Table:
        """All rows as a pyarrow table, kept: a second call does not run the query again.

        Raises:
            ExecutionError: they take more than the setting `memory_limit` leaves; `batches()` and COPY keep none.
        """
        import pyarrow as pa

        if self._table is None:
            batches: list[pa.RecordBatch] = []
            size = 0
            with closing(self.batches()) as stream:
                for batch in stream:
                    size += batch.nbytes
                    self._current().keep(size)
                    batches.append(batch)
            self._table = pa.Table.from_batches(batches, schema=self.schema)
        return self._table

    def df(self) -> pd.DataFrame:
        """All rows as a pandas data frame; each heat map is a two-dimensional numpy array."""
        require_pandas()
        table = self.arrow()
        maps = {name: table.column(name) for name in table.column_names if is_tensor(table.schema.field(name).type)}
        frame = table.drop_columns(list(maps)).to_pandas()
        for name, column in maps.items():
            values = [heatmap for chunk in column.chunks for heatmap in tensors(chunk)]
            frame.insert(table.column_names.index(name), name, _objects(values))
        return frame

    @property
    def names(self) -> list[tuple[str, int]]:
        """The image and the class of each map, in the order of `heatmaps()`.

        Raises:
            BindError: the statement selected no image or no class.
        """
        missing = [column for column in ("image", "class") if column not in self.schema.names]
        if missing:
            raise BindError(
                f"this result has no column {' and no '.join(missing)}",
                hint="SELECT HEATMAP FROM occlude(...) gives image, class and map.",
            )
        table = self.arrow()
        return list(zip(table["image"].to_pylist(), table["class"].to_pylist(), strict=True))

    def heatmaps(self, skipped: str = "drop") -> np.ndarray:
        """The heat maps as one numpy array, n x rows x cols, float32, NaN in cells that a predicate excluded.

        Args:
            skipped: what stands for an image that could not be read. 'drop': nothing. 'nan': one map of NaN for each
                class that was asked for (one map with ALL), in the image's place, or at the end where the rows are not
                in the order of the images.

        Raises:
            BindError: the statement selected no HEATMAP.
        """
        import numpy as np

        if skipped not in ("drop", "nan"):
            raise BindError(f"skipped cannot be {skipped!r}", hint="It is 'drop' or 'nan'.")

        named = [field for field in self.schema if is_tensor(field.type)]
        if not named:
            raise BindError(
                f"this result has no heat maps, only the columns {', '.join(self.schema.names) or '(none)'}",
                hint="SELECT HEATMAP FROM occlude(...) gives them.",
            )
        field = named[0]
        chunks = [tensors(chunk) for chunk in self.arrow().column(field.name).chunks]
        maps = np.concatenate(chunks) if chunks else np.empty((0, *field.type.shape), dtype=np.float32)
        return maps if skipped == "drop" or not self.errors else self._with_skipped(maps)

    def _with_skipped(self, maps: np.ndarray) -> np.ndarray:
        """The maps, with maps of NaN in the places of skipped images."""
        import numpy as np

        from kryptondb.optimizer.nodes import Sort

        assert self.plan is not None and self.plan.occlude is not None  # only queries skip images
        choice = self.plan.occlude.experiment.classes
        count = 1 if choice.kind == "all" else choice.count(self.plan.occlude.experiment.class_count)
        images = self.arrow()["image"].to_pylist() if "image" in self.schema.names else []
        begins = [row for row, image in enumerate(images) if row == 0 or image != images[row - 1]]
        if any(isinstance(node, Sort) for node in self.plan.root.walk()):
            begins = []
        places = [
            begins[failure.before] if failure.before is not None and failure.before < len(begins) else len(maps)
            for failure in self.errors
        ]
        return np.insert(maps, np.repeat(places, count).astype(np.intp), np.nan, axis=0)

    def show(self) -> None:
        """Prints the result, heat maps in color on a terminal, and the images that were skipped."""
        import sys

        self._warned = True  # they are listed below
        write_text(self, sys.stdout, Terminal.of(sys.stdout), max_rows=40)
        if skipped := skipped_so_far(self):
            print(failures_text(skipped))

    def close(self) -> None:
        """Stops a run that is under way. Rows already read stay readable."""
        if self._run is not None:
            self._run.close()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows as an Arrow C stream, for polars, DuckDB, pandas and every other reader of the protocol."""
        import pyarrow as pa

        batches = self.batches()
        first = list(islice(batches, 1))  # here, where an error keeps its class; Arrow would replace it
        reader = pa.RecordBatchReader.from_batches(self.schema, chain(first, batches))
        return reader.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        """The rows' schema as an Arrow C schema, for readers that ask before they read. Does not run the query."""
        return self.schema.__arrow_c_schema__()

    def __repr__(self) -> str:
        """The message, or the statement and how many rows were read; runs nothing."""
        if self.message is not None:
            return self.message
        what = plain_line(shortened(self.plan.statement, MESSAGE)) if self.plan is not None else "rows"
        state = f"{self._table.num_rows:,} rows" if self._table is not None else "not read yet"
        return f"<kryptondb.Result: {what} ({state}; .show() prints it)>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """IPython's plain text: the rows where they were read already, else the representation; never runs anything."""
        if self._table is None or self.message is not None:
            printer.text(repr(self))
            return
        import io

        text = io.StringIO()
        write_text(self, text, Terminal(None, None, False), max_rows=20)
        printer.text(text.getvalue().rstrip("\n"))

    def _repr_html_(self) -> str:
        self._warned = True  # it lists what was skipped
        if self.message is not None:
            return f"<pre>{escape(self.message)}</pre>" if self.message else ""
        return html(self.arrow(), self.plan, self._pictures, self.note, self.errors)

    def _repr_png_(self) -> bytes | None:
        return None if self._pictures is None else first_picture(self.arrow(), self._pictures)

    def _warn(self) -> None:
        """Warns once of the images that were skipped."""
        skipped = skipped_so_far(self)
        if skipped and not self._warned:
            self._warned = True
            warn(SkippedImages(failure.image for failure in skipped))

    def _current(self) -> Execution:
        """The run whose rows are or will be read."""
        if self._run is None:
            assert self._start is not None  # else the rows are kept
            self._run = self._start()
            self._consumed = False
        return self._run

    def _fresh(self) -> Execution:
        """A run whose rows were not read yet."""
        if self._consumed:
            self._run = None
        return self._current()

    def _read(self) -> None:
        """Runs the query, where nothing has been read yet."""
        if not self._consumed:
            self.arrow()


class Failures(list["ImageFailure"]):
    """The images that were skipped and why, in the order in which they were found; a list that is also a table."""

    def arrow(self) -> pa.Table:
        """One row per image: its name, and why it was skipped. Columns image and message, strings."""
        import pyarrow as pa

        columns = [[failure.image for failure in self], [failure.message for failure in self]]
        return pa.table({"image": pa.array(columns[0], pa.string()), "message": pa.array(columns[1], pa.string())})

    def df(self) -> pd.DataFrame:
        """The same as a pandas data frame."""
        require_pandas()
        return self.arrow().to_pandas()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows as an Arrow C stream."""
        return self.arrow().__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        cells = ((escape(plain_line(failure.image)), escape(plain_line(failure.message))) for failure in self)
        rows = "".join(f"<tr><td>{image}</td><td>{message}</td></tr>" for image, message in cells)
        return f"<table><thead><tr><th>image</th><th>message</th></tr></thead><tbody>{rows}</tbody></table>"


def write_text(result: Result, stream: TextIO, terminal: Terminal, *, max_rows: int | None = None) -> None:
    """Writes all of a result for people: its message where it has one, else its rows as they come, then its note.

    Args:
        result: the result; its rows are read.
        stream: where the text goes.
        terminal: what that can show.
        max_rows: how many rows of a table to show before "... n more rows"; None for all.
    """
    if result.message is not None:
        stream.write(result.message.rstrip("\n") + "\n" if result.message else "")
        stream.flush()
        return

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    print_rows(result.schema, _timed(result), result.plan, terminal, write, max_rows=max_rows)
    if result.note is not None:
        write(f"{result.note}\n")


def _timed(result: Result) -> Iterator[tuple[pa.RecordBatch, float | None]]:
    """The rows, each batch with the seconds that it took to compute; None for rows that are kept."""
    kept = result.kept
    before = 0.0
    for batch in result.batches():
        now = 0.0 if kept or result.stats is None else result.stats.seconds
        yield batch, None if kept else now - before
        before = now


def skipped_so_far(result: Result) -> Sequence[ImageFailure]:
    """The images that were skipped until now. Unlike `result.errors` this reads no rows."""
    if result._run is not None and result._consumed:
        return result._run.errors
    return result._errors


def json_document(result: Result) -> str | None:
    """The answer as one JSON document, of a statement that answers one (EXPLAIN FORMAT json)."""
    return result._document


def _objects(values: list[Any]) -> np.ndarray:
    """A one-dimensional object array of the values, which numpy would otherwise stack."""
    import numpy as np

    column = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        column[index] = value
    return column
