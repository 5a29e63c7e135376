"""Runs a physical plan: each node becomes a stage, and rows are pulled from the top, image by image."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, nullcontext, suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from kryptondb.errors import ExecutionError
from kryptondb.executor.aggregates import aggregated
from kryptondb.executor.heatmaps import heat_maps, predictions
from kryptondb.executor.metadata import TuningOutcome, with_metadata
from kryptondb.executor.occlusion import cells, set_up
from kryptondb.executor.pictures import Looks
from kryptondb.executor.resources import Deadline, ImageFailure, Progress, RowMemory, Stats
from kryptondb.executor.run_state import Measurements, RunState
from kryptondb.executor.stages import Stage, filtered, limited, one_batch, projected, redundancy_rows, sorted_rows
from kryptondb.optimizer.nodes import (
    Aggregate,
    Filter,
    HeatMaps,
    Limit,
    PlanNode,
    Predictions,
    Project,
    Sort,
    column_name,
)
from kryptondb.optimizer.physical import Occlude, PhysicalPlan, Redundancy
from kryptondb.process.torch_state import is_as_own, own_torch_state

if TYPE_CHECKING:
    from kryptondb.catalog import ModelStore


class Execution:
    """One run of a plan. Nothing is opened or computed before the first batch is asked for; its rows are read once.

    Attributes:
        plan: the plan that runs.
        stats: what was done so far; complete when the last batch has come.
        errors: pictures left out so far, and why.
        run: what the stages share, for COPY to read and to set before the first batch.
    """

    def __init__(
        self,
        plan: PhysicalPlan,
        *,
        models: ModelStore,
        bindings: Mapping[str, object],
        on_error: str = "continue",
        progress: Callable[[Progress], None] | None = None,
        measured: Measurements | None = None,
        memory_limit: int | None = None,
    ) -> None:
        """
        Args:
            plan: the plan.
            models: where the plan's model is found.
            bindings: the values of parameters by key; the plan's images may be one of them.
            on_error: 'continue' leaves out a picture that cannot be read; 'stop' raises its ImageError.
            progress: called after each tile, in the thread that pulls the batches.
            measured: takes what was measured of each picture of a batch that tunes itself.
            memory_limit: bytes that the plan and the rows that are kept may take together; None for no limit.

        Raises:
            BindError: an expression in the plan has no meaning for the types of its columns.
        """
        if on_error not in ("continue", "stop"):
            raise ValueError(f"on_error must be 'continue' or 'stop', not {on_error!r}")
        seconds = plan.occlude.seconds if plan.occlude is not None else None
        deadline = None
        if seconds is not None:
            from kryptondb.executor.approximation import import_what_reconstructs

            import_what_reconstructs()
            deadline = Deadline(seconds)
        rows = RowMemory(memory_limit, plan)
        run = RunState(models, bindings, on_error, progress, set_up, deadline=deadline, measured=measured, rows=rows)
        self.plan = plan
        self.run = run
        self._stage = _stage(plan.root, run)
        self._told = (run.outcome, run.unsteady), with_metadata(self._stage.schema, plan)
        self._rows: Generator[pa.RecordBatch, None, None] | None = None

    @property
    def schema(self) -> pa.Schema:
        """The rows' schema, with metadata that says how they are made.

        Of a batch that tunes itself that is known when the first rows come.
        """
        told, schema = self._told
        now = self.run.outcome, self.run.unsteady
        if now != told:
            schema = with_metadata(self._stage.schema, self.plan, *now)
            self._told = now, schema
        return schema

    @property
    def stats(self) -> Stats:
        """Seconds, operations, positions, images and memory so far."""
        return self.run.stats

    @property
    def errors(self) -> list[ImageFailure]:
        """The pictures that were left out so far."""
        return self.run.errors

    @property
    def outcome(self) -> TuningOutcome | None:
        """What came of a batch that tuned itself, from its first rows on; None for all others."""
        return self.run.outcome

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """The rows, one batch an image (more for an image of very many rows). Closing the iterator stops the work.

        Raises:
            ExecutionError: the rows were read before, the run is closed, or the work failed.
            ImageError: a picture cannot be read, and it was the only one or `on_error` is 'stop'.
        """
        if self._rows is not None or self.run.stopped:
            raise ExecutionError("the rows of this run were read, or it was closed; run the statement again")
        self._rows = self._stream()
        return self._rows

    def keep(self, size: int) -> None:
        """Notes that the reader of the rows keeps so many bytes of them now.

        Raises:
            ExecutionError: that is more than the memory limit leaves.
        """
        self.run.rows.hold("the rows of the result", size)

    def close(self) -> None:
        """Stops the work. May be called from the progress callback too: the query then ends with an ExecutionError."""
        self.run.stopped = True
        if self._rows is not None:
            with suppress(ValueError):  # raised when called from inside the run: `stopped` ends it at the next tile
                self._rows.close()

    def keep_looks(self, looks: Looks) -> None:
        """Notes what each picture was, for whoever opens it again later. Call before the first batch."""
        looks.begin()
        self.run.looks = looks

    def _stream(self) -> Generator[pa.RecordBatch, None, None]:
        # What prepares the next picture while the caller reads would change the caller's settings under its feet.
        self.run.looks_ahead = is_as_own()
        with closing(self._stage.tables()) as tables:
            while True:
                began = time.perf_counter()
                try:
                    limit = self.run.deadline.running() if self.run.deadline is not None else nullcontext()
                    with own_torch_state(), limit:
                        table = next(tables, None)
                except pa.ArrowException as error:
                    raise ExecutionError(f"a value of the query cannot be computed: {error}") from error
                finally:
                    self.stats.seconds += time.perf_counter() - began
                if table is None:
                    return
                self.stats.rows += table.num_rows
                yield pa.RecordBatch.from_arrays(one_batch(table).columns, schema=self.schema)


def _stage(node: PlanNode, run: RunState, in_order: bool = True) -> Stage:
    """The stage of a node, on top of the stages of all below it; a map takes its cells in any order."""
    if isinstance(node, Occlude):
        return cells(node, run, in_order)
    if isinstance(node, Redundancy):
        return redundancy_rows(node, run.models)
    if isinstance(node, Filter):
        return filtered(_stage(node.input, run, in_order), node.predicate)
    if isinstance(node, Aggregate):
        keys = [(key, column_name(key)) for key in node.keys]
        return aggregated(_stage(node.input, run), keys, node.aggregates, run.rows)
    if isinstance(node, HeatMaps):
        grid = next(below.experiment.grid for below in node.walk() if isinstance(below, Occlude))
        return heat_maps(_stage(node.input, run, in_order=False), grid, node.columns, run.rows)
    if isinstance(node, Predictions):
        return predictions(_stage(node.input, run, in_order=False))
    if isinstance(node, Project):
        return projected(_stage(node.input, run), node.items)
    if isinstance(node, Sort):
        return sorted_rows(_stage(node.input, run), node.keys, memory=run.rows)
    if isinstance(node, Limit):
        if isinstance(node.input, Sort):  # a top-k
            first = None if node.count is None else node.offset + node.count
            ordered = sorted_rows(_stage(node.input.input, run), node.input.keys, first=first, memory=run.rows)
            return limited(ordered, node.count, node.offset) if node.offset else ordered
        return limited(_stage(node.input, run), node.count, node.offset)
    raise ExecutionError(f"this version cannot run a plan with a {type(node).__name__}")
