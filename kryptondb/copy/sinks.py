"""COPY (select) TO 'path': rows into an Arrow, Parquet or CSV file, heat maps into pictures or a page to look at.

`kryptondb.options.tables.COPY` has the options of each format, `kryptondb.copy.rows` the writers of rows. A folder of
Parquet files is resumed when the command is run again; see `kryptondb.copy.parts`. Rows are written as they come, so a
file may be larger than the memory. A terminal takes CSV alone.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from kryptondb.copy.rows import Opener, RowWriter, opener_of
from kryptondb.errors import BindError, ExecutionError, did_you_mean
from kryptondb.executor.occlusion import named_images
from kryptondb.executor.run import Execution
from kryptondb.files.atomic import atomic_file, is_terminal, target_of, writing
from kryptondb.files.overwriting import refuse_database, refuse_files, refuse_sources
from kryptondb.files.paths import ENDINGS, format_of, suggested_path
from kryptondb.images.sources import reads
from kryptondb.options.reader import OptionValues
from kryptondb.options.tables import COPY, FORMAT

if TYPE_CHECKING:
    from kryptondb.copy.parts import Written

#: The formats that write a file for each image, or for some of them, where a folder is named.
_FOLDERS = ("png", "dicom", "parquet")
#: Rows, or bytes, that are put together before they are written: the size of a Parquet row group.
_ROWS = 131_072
_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class CopyReport:
    """What COPY wrote: where, in which format, how many rows (or pictures, or heat maps on a page), how many bytes.

    `written` is of a folder of Parquet files: images done, failed and skipped.
    """

    path: str
    format: str
    rows: int
    bytes: int
    written: Written | None = None

    @property
    def unit(self) -> str:
        """What `rows` counts."""
        return {"png": "picture", "dicom": "picture", "html": "heat map"}.get(self.format, "row")


def copy_to(
    execution: Execution,
    path: str,
    options: Mapping[str, object],
    *,
    database: Path | None = None,
    kept: Mapping[str, str] = MappingProxyType({}),
) -> CopyReport:
    """Runs a query and writes its rows to a file, or its heat maps to pictures.

    Args:
        execution: a run that nobody has read from.
        path: the file; for PNG and DICOM also a folder (a path that ends in '/' or is a folder already).
        options: COPY's options by name, not checked yet; `format` is by the path's suffix when it is not given.
        database: the file of the open database, which is never written over.
        kept: other files and folders that are not, and why; see `kryptondb.files.overwriting.refuse_files`.

    Raises:
        BindError: an unknown format or option, or a value it does not take; before any work.
        ExecutionError: the file cannot be written, holds what must not be lost, or the query failed. No partial file
            is left.
    """
    given = (
        options
        if isinstance(options, OptionValues)
        else OptionValues({name.casefold(): options[name] for name in options})
    )
    folder = _is_folder(path)
    kind = _format(path, folder, given, execution.schema)
    refuse_database(path, database)
    refuse_files(path, kept)
    if execution.plan.occlude is not None:
        refuse_sources(
            path, partial(reads, named_images(execution.plan.occlude.experiment.images, execution.run.bindings))
        )
    if kind != "csv" and is_terminal(path):
        raise ExecutionError(
            f"{path} is a terminal, and {kind} is not a format for terminals", hint="Name a file, or use (FORMAT csv)."
        )
    if kind in ("png", "dicom"):
        from kryptondb.copy.pictures import copy_pictures

        return CopyReport(path, kind, *copy_pictures(execution, path, kind, given, folder=folder))
    if kind == "html":
        from kryptondb.copy.report import copy_report

        return CopyReport(path, kind, *copy_report(execution, path, given))
    names = execution.schema.names
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise BindError(
            f'two columns are named "{repeated}", and a file needs names that differ', hint="Rename one with AS."
        )
    opener = opener_of(kind, given)
    if kind == "parquet" and folder:
        from kryptondb.copy.parts import copy_parts

        written = copy_parts(execution, path, opener)
        return CopyReport(path, kind, written.rows, written.bytes, written)
    return CopyReport(path, kind, *_copy_rows(execution, path, opener))


def _copy_rows(execution: Execution, path: str, opener: Opener) -> tuple[int, int]:
    """Writes all rows into one file; how many rows and bytes."""
    rows = 0
    with closing(_large_tables(execution)) as tables, atomic_file(path) as stream:
        first = next(tables, None)  # how the answer is made may be known from then on
        with closing(_FileWriter(opener, stream, execution.schema, path)) as writer:
            for table in chain(() if first is None else (first,), tables):
                rows += table.num_rows
                writer.write(table)
            writer.finish()
            size = stream.tell() if stream.seekable() else writer.bytes
    return rows, size


def _format(path: str, folder: bool, given: OptionValues, schema: pa.Schema) -> str:
    """The format's name, as given or by the path; a folder is of pictures where there are maps to draw."""
    if FORMAT.name in given:
        kind: str = FORMAT.read(given[FORMAT.name], given.position(FORMAT.name))
        if kind not in _FOLDERS and _ends_as_folder(path):
            name = Path(path).name or "cells"
            raise BindError(
                f"'{path}' names a folder, and {kind} is one file",
                position=given.position(FORMAT.name),
                hint=f"Name the file: '{path}{name}.{kind}'.",
            )
        return kind
    if folder:
        return "png" if any(isinstance(field.type, pa.FixedShapeTensorType) for field in schema) else "parquet"
    known = format_of(path)
    if known in COPY:
        return known
    if known == "json":
        raise BindError(f"COPY does not write {known} files", hint=f"It writes {', '.join(COPY)}.")
    if better := suggested_path(path):
        raise BindError(f"the name of '{path}' is only an ending", hint=f"Name the file: '{better}'; or add FORMAT.")
    suffix = Path(path).suffix.casefold()
    near = did_you_mean(suffix, [ending for ending, meant in ENDINGS.items() if meant in COPY]) if suffix else None
    raise BindError(
        f"the format of '{path}' is not clear from its name",
        hint=near or f"Add (FORMAT arrow) or another of {', '.join(COPY)}.",
    )


def _is_folder(path: str) -> bool:
    """Whether a path means a folder: by a separator at its end, or because it is one."""
    with writing(path):
        return _ends_as_folder(path) or target_of(path).is_dir()


def _ends_as_folder(path: str) -> bool:
    return path.endswith(("/", "\\"))


class _FileWriter:
    """A writer whose file errors name the file, and which is closed, whatever happens, before its stream is."""

    def __init__(self, opener: Opener, stream: BinaryIO, schema: pa.Schema, path: str) -> None:
        self.path = path
        self.bytes = 0
        with writing(path):
            self._writer: RowWriter | None = opener(stream, schema)

    def write(self, table: pa.Table) -> None:
        assert self._writer is not None, "rows come before the end"
        self.bytes += table.nbytes
        with writing(self.path):
            self._writer.write(table)

    def finish(self) -> None:
        """Writes what comes at the end of a file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with writing(self.path):
                writer.close()

    def close(self) -> None:
        """After an error: nothing of the writer may outlive its stream."""
        with suppress(Exception):
            self.finish()


def _large_tables(execution: Execution) -> Generator[pa.Table, None, None]:
    """The rows as tables of one chunk and a size worth writing."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    with closing(execution.batches()) as batches:
        for batch in batches:
            held.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows >= _ROWS or size >= _BYTES:
                yield pa.Table.from_batches(held).combine_chunks()
                held, rows, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held).combine_chunks()
