"""Result: the one object a user holds. A query's rows, read when somebody asks for them.

A query is planned, and its errors raised, when the statement is given; it runs when its rows are first read. `arrow()`
keeps the rows, and everything that follows reads those; `batches()` streams them image by image and keeps nothing, so
reading again after streaming runs the query again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from html import escape
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

from kryptondb.errors import BindError, SkippedImages, warn
from kryptondb.text.plain_text import MESSAGE, plain, plain_line, shortened

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from kryptondb.executor import ImageFailure, Stats
    from kryptondb.optimizer.physical import PhysicalPlan
    from kryptondb.show.notebook import Pictures

    _ListOfFailures = list[ImageFailure]
else:
    _ListOfFailures = list


class Run(Protocol):
    """One execution of a statement: `kryptondb.executor.Execution`, or rows that are there already."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the rows."""

    @property
    def errors(self) -> Sequence[ImageFailure]:
        """The images that were left out so far."""

    @property
    def stats(self) -> Stats | None:
        """What was counted so far; None where nothing runs."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as they come."""

    def keep(self, size: int) -> None:
        """Notes that so many bytes of the rows are kept. Raises ExecutionError beyond the memory limit."""

    def close(self) -> None:
        """Ends the run."""


class Rows:
    """A Run whose rows are there already: what SHOW, DESCRIBE and EXPLAIN answer."""

    def __init__(self, table: pa.Table, stats: Stats | None = None, errors: Sequence[ImageFailure] = ()) -> None:
        self._table = table
        self.stats = stats
        self.errors = errors

    @property
    def schema(self) -> pa.Schema:
        """The table's schema."""
        return self._table.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The table's batches."""
        return iter(self._table.to_batches())

    def keep(self, size: int) -> None:
        """They are kept already."""

    def close(self) -> None:
        """Nothing to release."""


class Result:
    """The answer to one statement.

    `Session.sql` makes it. A result is read by one thread at a time.
    """

    def __init__(
        self,
        start: Callable[[], Run],
        *,
        plan: PhysicalPlan | None = None,
        message: str | None = None,
        note: str | None = None,
        document: str | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        """
        Args:
            start: starts the statement; called when the rows are first read, and again if they are read anew.
            plan: the physical plan of a query, explained and copied ones included; None for other statements.
            message: a sentence that stands for the rows when the result is shown (a plan's text, a model's summary).
            note: a sentence that stands below the rows when they are shown as a table.
            document: the answer as one JSON document, when it is one (EXPLAIN FORMAT json).
            pictures: opens the query's pictures again, to draw heat maps over them in a notebook.
        """
        self._start = start
        self._run: Run | None = None
        self._consumed = False
        self._warned = False
        self._table: pa.Table | None = None
        self.plan = plan
        self.message = None if message is None else plain(message)
        self.note = None if note is None else plain(note)
        self.document = document
        self.pictures = pictures

    @classmethod
    def of_rows(cls, table: pa.Table, *, message: str | None = None) -> Result:
        """A result whose rows are there already."""
        rows = Rows(table)
        return cls(lambda: rows, message=message)

    @classmethod
    def of_run(cls, rows: Rows, **details: Any) -> Result:
        """The result of a statement that has run already, with its stats and errors."""
        result = cls(lambda: rows, **details)
        result._run, result._consumed = rows, True
        result._warn()
        return result

    @property
    def schema(self) -> pa.Schema:
        """Names, types, and in its metadata how the answer is made. Does not run the query.

        Of a batch that tunes itself the metadata is only final once rows have come.
        """
        return self._current().schema

    @property
    def stats(self) -> Stats | None:
        """What the run counted; runs the query if nothing has been read yet.

        The fields are `seconds`, `flops`, `positions`, `images`, `failed`, `peak_memory` (of the process, in bytes),
        `query_memory` (of the query alone), `rows` and `phases` (seconds by name). None where no query ran, as for
        SHOW and ANALYZE.
        """
        return self._read().stats

    @property
    def kept(self) -> bool:
        """Whether all rows were read already and are kept, so that reading them again computes nothing."""
        return self._table is not None

    @property
    def so_far(self) -> Run | None:
        """The run that is under way or done, with its `stats` and `errors` so far; None when nothing was read yet."""
        return self._run if self._consumed else None

    @property
    def errors(self) -> Failures:
        """The images that were left out, and why; `.arrow()` and `.df()` give them as a table.

        Runs the query if nothing has been read yet.
        """
        return Failures(self._read().errors)

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
        from kryptondb.show.values import is_tensor, require_pandas, tensors

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
        """The heat maps as one numpy array, n x rows x cols, float32, NaN where a predicate excluded the cell.

        Args:
            skipped: what stands for an image that could not be read: with 'drop' nothing, with 'nan' as many maps of
                NaN as classes were asked for (one with ALL), where its turn was; behind all others where the rows are
                in another order than the images.

        Raises:
            BindError: the statement selected no HEATMAP.
        """
        import numpy as np

        from kryptondb.show.values import is_tensor, tensors

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
        """The maps with those of skipped images, which are NaN, in their places."""
        import numpy as np

        from kryptondb.optimizer.physical import Sort

        assert self.plan is not None and self.plan.occlude is not None  # only pictures are skipped
        choice = self.plan.occlude.classes
        count = 1 if choice.kind == "all" else choice.count(self.plan.occlude.class_count)
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
        """Prints the result, heat maps in colour on a terminal, and the images that were left out."""
        import sys

        from kryptondb.show.terminal import Terminal, failures_text, show

        self._warned = True  # they are listed below
        show(self, sys.stdout, Terminal.of(sys.stdout), max_rows=40)
        if self.so_far is not None and self.so_far.errors:
            print(failures_text(self.so_far.errors))

    def close(self) -> None:
        """Stops a run that is under way. Rows already read stay readable."""
        if self._run is not None:
            self._run.close()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows as an Arrow C stream, for polars, DuckDB, pandas and every other reader of the protocol."""
        import pyarrow as pa

        batches = self.batches()
        first = list(islice(batches, 1))  # here, where an error keeps its class; Arrow would make it its own
        reader = pa.RecordBatchReader.from_batches(self.schema, chain(first, batches))
        return reader.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        """The rows' schema as an Arrow C schema, for readers that ask before they read. Does not run the query."""
        return self.schema.__arrow_c_schema__()

    def __repr__(self) -> str:
        """What this is, without running anything."""
        if self.message is not None:
            return self.message
        what = plain_line(shortened(self.plan.statement, MESSAGE)) if self.plan is not None else "rows"
        state = f"{self._table.num_rows:,} rows" if self._table is not None else "not read yet"
        return f"<kryptondb.Result: {what} ({state}; .show() prints it)>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """IPython's plain text: the rows where they were read already, else what this is; never runs anything."""
        if not self.kept or self.message is not None:
            printer.text(repr(self))
            return
        import io

        from kryptondb.show.terminal import Terminal, show

        text = io.StringIO()
        show(self, text, Terminal(None, None, False), max_rows=20)
        printer.text(text.getvalue().rstrip("\n"))

    def _repr_html_(self) -> str:
        self._warned = True  # it lists what was skipped
        from kryptondb.show.notebook import html

        return html(self)

    def _repr_png_(self) -> bytes | None:
        from kryptondb.show.notebook import first_picture

        return first_picture(self)

    def _warn(self) -> None:
        """Warns once of the images that were skipped."""
        if self._run is not None and self._run.errors and not self._warned:
            self._warned = True
            warn(SkippedImages(failure.image for failure in self._run.errors))

    def _current(self) -> Run:
        if self._run is None:
            self._run = self._start()
            self._consumed = False
        return self._run

    def _fresh(self) -> Run:
        """The run that nobody has read yet."""
        if self._consumed:
            self._run = None
        return self._current()

    def _read(self) -> Run:
        if not self._consumed:
            self.arrow()
        return self._current()


def _objects(values: list[Any]) -> np.ndarray:
    """A one-dimensional object array of the values, which numpy would otherwise stack."""
    import numpy as np

    column = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        column[index] = value
    return column


class Failures(_ListOfFailures):
    """Which images were left out and why, in the order in which that was found out."""

    def arrow(self) -> pa.Table:
        """One row an image: its name, and why it was left out. Columns image and message, strings."""
        import pyarrow as pa

        columns = [[failure.image for failure in self], [failure.message for failure in self]]
        return pa.table({"image": pa.array(columns[0], pa.string()), "message": pa.array(columns[1], pa.string())})

    def df(self) -> pd.DataFrame:
        """The same as a pandas data frame."""
        from kryptondb.show.values import require_pandas

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
