"""COPY to a folder of Parquet files: rows image by image, kept as work goes, and gone on with when run again.

Each part holds the whole rows of some images and appears under its name when it is complete; then the folder's record
(`executor.manifest`) names its images. Whatever moment the run ends at, by Ctrl-C, a full disk or a lost process, the
same command run again leaves out the images that the record names and explains the others: no image is there twice, and
none is lost. Images that could not be read are tried again.

A picture whose file has changed since its rows were written is told, and its rows stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kryptondb.copy import manifest
from kryptondb.copy.rows import Opener
from kryptondb.errors import BindError, Error, ImageError
from kryptondb.executor.run import Execution
from kryptondb.optimizer.nodes import Aggregate, Limit, Sort
from kryptondb.optimizer.physical import PhysicalPlan

if TYPE_CHECKING:
    from kryptondb.copy.manifest import Manifest
    from kryptondb.images.sources import ImageSource

#: A part is written when it holds so many images or bytes, or when its first image has waited so many seconds.
_IMAGES = 1_000
_BYTES = 64 * 1024**2
_SECONDS = 30.0
_GO_ON = "What is written stays: run the same command again to continue with the other images."


@dataclass
class Written:
    """What a run wrote into its folder.

    Attributes:
        done: images whose rows were written.
        failed: images that were left out.
        skipped: images that were there already.
        seconds: from the first image to the last.
    """

    done: int = 0
    failed: int = 0
    skipped: int = 0
    files: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @property
    def pace(self) -> float:
        """Images a second, of those done."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


@dataclass
class _Held:
    """Rows that wait to be written: of images that are complete, and of the one in turn."""

    complete: list[pa.RecordBatch] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    of_turn: list[pa.RecordBatch] = field(default_factory=list)
    bytes: int = 0
    since: float = 0.0

    @property
    def ripe(self) -> bool:
        waited = bool(self.images) and time.monotonic() - self.since >= _SECONDS
        return waited or len(self.images) >= _IMAGES or (bool(self.images) and self.bytes >= _BYTES)


def copy_parts(execution: Execution, path: str, opener: Opener) -> Written:
    """Runs a query and writes its rows into a folder, without the images that are there already.

    Args:
        execution: a run that nobody has read from.
        path: the folder, made where it is not there.
        opener: opens a writer of Parquet files on a stream.

    Raises:
        BindError: the query's rows are not of one image each.
        ExecutionError: the folder belongs to another query, another process writes into it, it was removed or replaced
            meanwhile, a file cannot be written, or the query failed.
    """
    _refuse_what_needs_all(execution.plan)
    with manifest.opened(path, _query(execution)) as record:
        return _Copy(execution, record, opener).run()


class _Copy:
    """One run into a folder whose record is open."""

    def __init__(self, execution: Execution, record: Manifest, opener: Opener) -> None:
        self._execution, self._record, self._opener = execution, record, opener
        self._identities: dict[int, str] = {}
        self._held = _Held()
        self._told = 0  # failures that stand in the record
        self.written = Written()

    def run(self) -> Written:
        began = time.monotonic()
        run = self._execution.run
        run.skip, run.finished = self._is_there, self._finished
        try:
            with closing(self._execution.batches()) as batches:
                for batch in batches:
                    if self._held.ripe:
                        self._write()
                    self._held.of_turn.append(batch)
                    self._held.bytes += batch.nbytes
                    self._execution.keep(self._held.bytes)  # a part has the whole rows of its images
            self._write()
            self._record.check(parts=True)
        except Error as error:
            self._keep(error)
            error.hint = error.hint or _GO_ON
            raise
        except BaseException as error:  # Ctrl-C
            self._keep(error)
            raise
        self.written.failed = len(self._execution.errors)
        self.written.seconds = time.monotonic() - began
        return self.written

    def _is_there(self, source: ImageSource) -> bool:
        """Whether an image's rows were written by an earlier run; tells of a picture that is another one since."""
        identity = identity_of(source)
        there = self._record.done.get(source.name)
        if not there:
            self._identities[id(source)] = identity
            return False
        self.written.skipped += 1
        if there.pop() != identity:
            changed = "has changed since its rows were written; write to a new folder to explain it again"
            self._execution.run.skip_later(source.name, ImageError(f"{source.name} {changed}"), explained=False)
        return True

    def _finished(self, source: ImageSource) -> None:
        """All rows of an image have come."""
        held = self._held
        if not held.images:
            held.since = time.monotonic()
        held.complete += held.of_turn
        held.of_turn = []
        held.images.append((source.name, self._identities.pop(id(source), "")))

    def _write(self) -> None:
        """Writes a part of the images that are complete, and what the record says of it and of failures."""
        held, self._held = self._held, _Held(of_turn=self._held.of_turn)
        self._record.check()
        if held.images:
            part = self._record.next_part()
            rows = sum(batch.num_rows for batch in held.complete)
            with self._record.folder.file(part) as stream:
                writer = self._opener(stream, self._execution.schema)
                try:
                    if held.complete:
                        writer.write(pa.Table.from_batches(held.complete).combine_chunks())
                finally:
                    writer.close()
                size = stream.tell()
            self._record.add(part, rows, size, held.images)
            written = self.written
            written.files, written.done = written.files + 1, written.done + len(held.images)
            written.rows, written.bytes = written.rows + rows, written.bytes + size
        for failure in self._execution.errors[self._told :]:
            self._record.fail(failure.image, failure.message)
            self._told += 1

    def _keep(self, reason: BaseException) -> None:
        """Writes what is complete when a run ends early; what cannot be written is explained again another time."""
        try:
            self._write()
        except Error as error:
            reason.__context__ = error


def identity_of(source: ImageSource) -> str:
    """What tells that a picture is the one that it was: size and time of its file, or a hash of its pixels.

    Empty for what lies at an address, and for what cannot be read.
    """
    if source.file is not None:
        try:
            status = source.file.stat()
        except OSError:
            return ""
        return f"{status.st_size}:{status.st_mtime_ns}"
    if "://" in source.name:
        return ""
    from kryptondb.images.picture import content_hash

    try:
        return content_hash(source.load())
    except (ImageError, OSError):
        return ""


def _refuse_what_needs_all(plan: PhysicalPlan) -> None:
    for kind, words in ((Sort, "ORDER BY"), (Limit, "LIMIT"), (Aggregate, "GROUP BY, DISTINCT or an aggregate")):
        if any(isinstance(node, kind) for node in plan.root.walk()):
            raise BindError(
                f"a folder of Parquet files is written image by image, and {words} needs all of them",
                hint="COPY into one file, or leave it out and read the folder with it.",
            )
    if plan.occlude is None:
        raise BindError(
            "a folder of Parquet files needs images, and this query has none", hint="COPY it into one file."
        )


def _query(execution: Execution) -> Mapping[str, Any]:
    """What is the same for the same query."""
    occlude = execution.plan.occlude
    assert occlude is not None  # refused above
    labels = json.dumps(list(execution.run.models.get(occlude.experiment.model).labels))
    return {
        "statement": execution.plan.statement,
        "fingerprint": occlude.experiment.fingerprint,
        "labels": hashlib.sha256(labels.encode()).hexdigest(),
        "columns": [f"{field.name} {field.type}" for field in execution.schema],
    }
