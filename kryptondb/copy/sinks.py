"""COPY (select) TO 'path': rows into an Arrow, Parquet or CSV file, heat maps into pictures or a page to look at.

`kryptondb.options.tables.COPY` has the options of each format.

A folder of Parquet files is gone on with when the command is run again; see `kryptondb.copy.parts`.
Rows are written as they come, so a file may be larger than the memory. Arrow and Parquet keep the schema's metadata.
CSV has an empty field for NULL and JSON text for a heat map (rows of numbers, null for NaN) or a prediction. Text that
a spreadsheet would run as a formula has a ' before it, unless `formulas` is 'keep'. A terminal takes CSV alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from kryptondb.copy.formulas import PATTERN, REPLACEMENT
from kryptondb.errors import BindError, ExecutionError, did_you_mean
from kryptondb.executor.occlusion import named_images
from kryptondb.executor.run import Execution
from kryptondb.files.atomic import atomic_file, is_terminal, target_of, writing
from kryptondb.files.endings import ENDINGS, format_of, suggested_path
from kryptondb.files.overwriting import refuse_database, refuse_files, refuse_sources
from kryptondb.optimizer.physical import PhysicalPlan
from kryptondb.options.reader import OptionValues, read
from kryptondb.options.tables import COPY, FORMAT
from kryptondb.text.plain_text import plain_line

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
    kind = _format(path, given, execution.schema)
    refuse_database(path, database)
    refuse_files(path, kept)
    refuse_sources_of(execution.plan, path, execution.bindings)
    if kind != "csv" and is_terminal(path):
        raise ExecutionError(f"{path} is a terminal, which {kind} is not for", hint="Name a file, or use (FORMAT csv).")
    if kind in ("png", "dicom"):
        from kryptondb.copy.pictures import copy_pictures

        return CopyReport(path, kind, *copy_pictures(execution, path, kind, given, folder=is_folder(path)))
    if kind == "html":
        from kryptondb.copy.report import copy_report

        return CopyReport(path, kind, *copy_report(execution, path, given))
    names = execution.schema.names
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise BindError(
            f'two columns are named "{repeated}", and a file needs names that differ', hint="Rename one with AS."
        )
    opener = {"arrow": _arrow, "arrows": _arrows, "parquet": _parquet, "csv": _csv}[kind]
    writer = opener(read(COPY[kind], given, defaults=True))
    if kind == "parquet" and is_folder(path):
        from kryptondb.copy.parts import copy_parts

        written = copy_parts(execution, path, writer)
        return CopyReport(path, kind, written.rows, written.bytes, written)
    rows = 0
    with closing(_large(execution)) as tables, atomic_file(path) as stream:
        first = next(tables, None)  # how the answer is made may be known from then on
        with closing(_Writing(writer, stream, execution.schema, path)) as sink:
            for table in chain(() if first is None else (first,), tables):
                rows += table.num_rows
                sink.write(table)
            sink.finish()
            size = stream.tell() if stream.seekable() else sink.bytes
    return CopyReport(path, kind, rows, size)


def refuse_sources_of(plan: PhysicalPlan, path: str, bindings: Mapping[str, object]) -> None:
    """Raises ExecutionError where `path` is a file that a plan's query reads."""
    if plan.occlude is not None:
        refuse_sources(path, named_images(plan.occlude.input, bindings))


def _format(path: str, given: OptionValues, schema: pa.Schema) -> str:
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
    if is_folder(path):
        return "png" if any(isinstance(field.type, pa.FixedShapeTensorType) for field in schema) else "parquet"
    known = format_of(path)
    if known in COPY:
        return known
    if known == "json":
        raise BindError(f"COPY does not write {known} files", hint=f"It writes {', '.join(COPY)}.")
    if better := suggested_path(path):
        raise BindError(f"the name of '{path}' is only an ending", hint=f"Name the file: '{better}'; or add FORMAT.")
    suffix = Path(path).suffix.casefold()
    near = did_you_mean(suffix, [each for each, meant in ENDINGS.items() if meant in COPY]) if suffix else None
    raise BindError(
        f"the format of '{path}' is not clear from its name",
        hint=near or f"Add (FORMAT arrow) or another of {', '.join(COPY)}.",
    )


def is_folder(path: str) -> bool:
    """Whether a path means a folder: by a separator at its end, or because it is one."""
    with writing(path):
        return _ends_as_folder(path) or target_of(path).is_dir()


def _ends_as_folder(path: str) -> bool:
    return path.endswith(("/", "\\"))


#: Opens a writer of tables of a schema on a stream.
_Open = Callable[[BinaryIO, pa.Schema], Any]


class _Writing:
    """A pyarrow writer whose file errors name the file, and which is closed, whatever happens, before its stream is."""

    def __init__(self, opener: _Open, stream: BinaryIO, schema: pa.Schema, path: str) -> None:
        self.path = path
        self.bytes = 0
        with writing(path):
            self._writer: Any = opener(stream, schema)

    def write(self, table: pa.Table) -> None:
        self.bytes += table.nbytes
        with writing(self.path):
            self._writer.write_table(table)

    def finish(self) -> None:
        """Writes what comes at the end of a file."""
        writer, self._writer = self._writer, None
        with writing(self.path):
            writer.close()

    def close(self) -> None:
        """After an error: nothing of the writer may outlive its stream."""
        if self._writer is not None:
            with suppress(OSError, pa.ArrowException):
                self._writer.close()


def _large(execution: Execution) -> Generator[pa.Table, None, None]:
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


def _arrow(options: OptionValues) -> _Open:
    return lambda stream, schema: pa.ipc.new_file(stream, schema, options=_ipc_options(options))


def _arrows(options: OptionValues) -> _Open:
    return lambda stream, schema: pa.ipc.new_stream(stream, schema, options=_ipc_options(options))


def _ipc_options(options: OptionValues) -> pa.ipc.IpcWriteOptions:
    return pa.ipc.IpcWriteOptions(compression=None if options["compression"] == "none" else options["compression"])


def _parquet(options: OptionValues) -> _Open:
    compression = options["compression"]
    return lambda stream, schema: pyarrow.parquet.ParquetWriter(stream, schema, compression=compression)


def _csv(options: OptionValues) -> _Open:
    settings = pyarrow.csv.WriteOptions(include_header=options["header"], delimiter=options["delimiter"])
    escape = options["formulas"] == "escape"
    return lambda stream, schema: _CsvWriter(stream, schema, settings, escape)


class _CsvWriter:
    """pyarrow's CSV writer, given JSON text for what is more than one value, and text that runs nowhere.

    Args:
        escape: whether text that a spreadsheet would run as a formula has a ' before it.
    """

    def __init__(self, stream: BinaryIO, schema: pa.Schema, settings: pyarrow.csv.WriteOptions, escape: bool) -> None:
        self._escape, self._terminal = escape, stream.isatty()
        names = pa.array(schema.names, pa.string())
        kinds = [pa.string() if _is_nested(field.type) else field.type for field in schema]
        self._schema = pa.schema(list(zip(self._text(names).to_pylist(), kinds, strict=True)))
        self._writer = pyarrow.csv.CSVWriter(stream, self._schema, write_options=settings)

    def write_table(self, table: pa.Table) -> None:
        columns = [
            self._text(pa.array([_json(value) for value in _values(column)], pa.string()))
            if _is_nested(column.type)
            else self._text(column)
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            else column
            for column in table.columns
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def _text(self, column: pa.Array) -> pa.Array:
        """A column of texts as a spreadsheet, or a terminal, may have them."""
        if self._escape:
            column = pc.replace_substring_regex(column, PATTERN, REPLACEMENT)
        if self._terminal:
            texts = column.to_pylist()
            column = pa.array([None if text is None else plain_line(text) for text in texts], column.type)
        return column

    def close(self) -> None:
        self._writer.close()


def _is_nested(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.FixedShapeTensorType) or bool(pa.types.is_nested(kind))


def _values(column: pa.ChunkedArray) -> Iterator[object]:
    """The Python values of a nested column; a heat map as a numpy array, rows by columns."""
    for chunk in column.chunks:
        if isinstance(column.type, pa.FixedShapeTensorType):
            yield from chunk.to_numpy_ndarray() if len(chunk) else ()
        else:
            yield from chunk.to_pylist()


def _json(value: object) -> str:
    """JSON text, its numbers with the digits that float32 has; NaN is null."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value] if value.ndim > 1 else [_number(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return _number(np.float32(value)) if isinstance(value, float) else value


def _number(value: np.float32) -> float | None:
    return float(str(value)) if np.isfinite(value) else None
