"""SELECT, EXPLAIN and COPY: a query is planned, and runs when its rows are read, explained or written to a file."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from kryptondb import optimizer
from kryptondb.errors import CatalogError
from kryptondb.executor.occlusion import count_named
from kryptondb.executor.operators import OPERATORS
from kryptondb.executor.pictures import Looks
from kryptondb.executor.run import Execution
from kryptondb.files.atomic import is_stream, target_of
from kryptondb.grammar import parse, statements
from kryptondb.images.picture import content_hash
from kryptondb.optimizer.logical import Context, build
from kryptondb.optimizer.optimizer import RULES
from kryptondb.optimizer.physicalize import physicalize
from kryptondb.optimizer.rules.bind_parameters import bind_parameters
from kryptondb.options.reader import bind, given_in, text_of
from kryptondb.options.tables import EXPLAIN
from kryptondb.result import Result
from kryptondb.show.notebook import Pictures
from kryptondb.show.progress import ProgressLine, progress_line
from kryptondb.show.values import table_of
from kryptondb.statements.profiles import key_of, sample_of
from kryptondb.text.units import bytes_text, counted

if TYPE_CHECKING:
    import pyarrow as pa

    from kryptondb.copy.parts import Written
    from kryptondb.executor import Progress
    from kryptondb.executor.profiling import Sample
    from kryptondb.grammar.statements import Copy, Explain, Select
    from kryptondb.images.picture import Picture
    from kryptondb.optimizer.physical import Occlude, PhysicalPlan
    from kryptondb.statements.database import Database


def select(database: Database, statement: Select, bindings: Mapping[str, object]) -> Result:
    """SELECT: planned here, so that its errors are raised at once; runs when rows are read."""
    plan = database.plan(statement, bindings)
    pictures = Pictures(database.models, plan, bindings)
    looks = pictures.looks if pictures.drawn else None
    return Result(lambda: QueryRun(database, plan, bindings, looks), plan=plan, pictures=pictures)


def explain(database: Database, statement: Explain, bindings: Mapping[str, object]) -> Result:
    """EXPLAIN: the plan as text or JSON; EXPLAIN ANALYZE runs it too, and puts what was measured beside it."""
    as_json = bind(EXPLAIN, statement.options, bindings, defaults=True)["format"] == "json"
    plan = database.plan(statement.select, bindings)
    run = None
    stats = outcome = images = None
    if statement.analyze:
        run = QueryRun(database, plan, bindings)
        for _ in run.batches():
            pass
        stats, outcome = run.stats, run.outcome
    elif plan.occlude is not None:
        images = count_named(plan.occlude.experiment)
    render = optimizer.explain_json if as_json else optimizer.explain
    text = render(plan, analyzed=stats, tuned=outcome, images=images)
    table = table_of(("plan",), [(text,)])
    return Result(run=run, table=table, plan=plan, message=text, document=text if as_json else None)


def copy(database: Database, statement: Copy, bindings: Mapping[str, object]) -> Result:
    """COPY: runs the query and writes its rows; the message, and for a folder a row, reports what was written."""
    from kryptondb.copy.sinks import copy_to  # here, for it imports what only files need

    path = text_of(statement.path, bindings, "the path of COPY")
    options = given_in(statement.options, bindings, words=True)
    plan = database.plan(statement.select, bindings)
    run = QueryRun(database, plan, bindings, line_stays=True)
    with closing(run):
        report = copy_to(run, path, options, database=database.catalog.path, kept=database.kept_files())
    if report.written is not None:
        table, message = _folder_table(path, report.written), _folder_line(path, report.written)
    else:
        table = table_of((), [])
        message = f"{report.path}: {counted(report.rows, report.unit)}, {bytes_text(report.bytes)}"
        if is_stream(target_of(path)):  # such as /dev/stdout, where a sentence would follow the rows
            message = ""
    return Result(run=run, table=table, plan=plan, message=message)


def _folder_table(path: str, written: Written) -> pa.Table:
    """The one row that COPY to a folder of Parquet files answers."""
    names = ("path", "done", "failed", "skipped", "images_a_second", "files", "rows", "bytes")
    images = written.done, written.failed, written.skipped, written.pace
    return table_of(names, [(path, *images, written.files, written.rows, written.bytes)])


def _folder_line(path: str, written: Written) -> str:
    """`maps/: 412 new, 1,200 already done, 3 failed; 3.1 images per second; 2 files, 41 MB`."""
    images = [f"{written.done:,} new"]
    if written.skipped:
        images.append(f"{written.skipped:,} already done")
    if written.failed:
        images.append(f"{written.failed:,} failed")
    parts = [", ".join(images)]
    if written.done:
        pace = f"{written.pace:,.0f}" if written.pace >= 10 else f"{written.pace:.2g}"
        parts.append(f"{pace} images per second")
        parts.append(f"{counted(written.files, 'file')}, {bytes_text(written.bytes)}")
    return f"{path}: {'; '.join(parts)}"


class QueryRun(Execution):
    """A plan as it runs for a database: with its threads, and a progress line that goes away when rows come.

    Args:
        looks: remembers what each picture was, to draw over the same one later.
        line_stays: leaves the progress line where it is while rows are taken, for rows that go to a file.
    """

    def __init__(
        self,
        database: Database,
        plan: PhysicalPlan,
        bindings: Mapping[str, object],
        looks: Looks | None = None,
        *,
        line_stays: bool = False,
    ) -> None:
        self._database = database
        self._line: ProgressLine | None = None
        self._line_stays = line_stays
        self._remembers = True
        super().__init__(
            plan,
            models=database.models,
            bindings=bindings,
            on_error=str(database.settings.get("on_error")),
            progress=self._show_progress,
            measured=self._remember,
            memory_limit=database.settings.memory_limit_bytes(),
        )
        if looks is not None:
            self.keep_looks(looks)

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """The rows, image by image."""
        self._line = progress_line(self._database.settings.get("progress"))
        try:
            with self._database.threads(), closing(super().batches()) as batches:
                for batch in batches:
                    if self._line is not None and not self._line_stays:
                        self._line.pause()
                    yield batch
        finally:
            if self._line is not None:
                self._line.close()
            self.close()

    def _show_progress(self, progress: Progress) -> None:
        if self._line is not None:
            self._line(progress)

    def _remember(self, node: Occlude, picture: Picture, sample: Sample) -> None:
        """Adds what was measured on a picture of a batch that tunes itself to the profile of its experiment.

        A catalog that cannot be written costs later queries their profile, but not this one its answer: the user is
        warned once.
        """
        if not self._remembers:
            return
        record = sample_of(content_hash(picture), picture.name, sample)
        try:
            self._database.profiles.remember(key_of(node.experiment, node.device), record)
        except CatalogError as error:
            self._remembers = False
            warnings.warn(f"what this batch measures is not remembered for later queries: {error}", stacklevel=2)


def trip(database: Database, text: str, bindings: Mapping[str, object]) -> Generator[pa.RecordBatch, None, None]:
    """The whole trip of one query, from its text to its rows; to be read, for `Session` takes it step by step.

    Raises:
        Error: of the class of the step that failed.
    """
    statement = parse(text)
    assert isinstance(statement, statements.Select)
    rates, profiles = database.calibration.rates, database.profiles.of_experiment
    context = Context(database.models, database.settings, bindings, rates, OPERATORS, profiles)
    logical = build(bind_parameters(statement, bindings))
    for rule in RULES:
        logical = rule(logical, context)
    physical = physicalize(logical, context)
    execution = Execution(physical, models=database.models, bindings=bindings)
    yield from execution.batches()
