"""Rows as CSV, JSON lines, Arrow and Parquet: one writer per format, for COPY, `-o` and standard output alike.

CSV has an empty field for NULL, `NaN` for NaN, float32 numbers in their shortest digits, and JSON text in a field that
holds more than one value; fields are quoted where a reader would take them for something else, and an empty text is
`""`. JSON is one object per row and line, so that a result of any length streams; a heat map is a list of rows, NaN is
null. `arrow` is the Arrow IPC file, `arrows` the stream. Arrow and Parquet keep the schema's metadata.

A label or a file name in CSV comes from anywhere, and one that begins like a formula would read other cells, open
addresses or start programs when a spreadsheet opens it. A ' before it makes it text to every spreadsheet. Numbers are
never touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from itertools import chain
from typing import Any, Protocol, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from kryptondb.options.reader import read
from kryptondb.options.tables import COPY
from kryptondb.show.values import is_tensor, plain_column
from kryptondb.text.plain_text import plain_json, plain_line

#: How text begins that a spreadsheet runs as a formula, in the words of Arrow's regular expressions.
_FORMULA = r"\A([=+\-@\t\r])"


class ByteStream(Protocol):
    """Where rows are written: a binary file, or `Utf8Text`."""

    def write(self, data: bytes, /) -> object:
        """Writes bytes."""

    def flush(self) -> object:
        """Hands on what is buffered."""

    def isatty(self) -> bool:
        """Whether a terminal shows it."""


class Rows(Protocol):
    """What is written: a result of the session, or a run."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the rows, final once rows have come."""

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """The rows as they come."""


class RowWriter(Protocol):
    """Writes rows of one schema in a format; pyarrow's own writers are some."""

    def write(self, rows: pa.Table | pa.RecordBatch) -> object:
        """Writes rows."""

    def close(self) -> None:
        """Writes what comes at the end of a file."""


#: Opens a writer of rows of a schema on a stream.
Opener = Callable[[ByteStream, pa.Schema], RowWriter]


def opener_of(kind: str, options: Mapping[str, object]) -> Opener:
    """How a writer of a format is opened.

    Args:
        options: those of COPY.

    Raises:
        BindError: an option that the format does not have, or a value that it does not take.
    """
    values: Mapping[str, Any] = read(COPY[kind], options, defaults=True) if kind in COPY else {}
    open_writer = _WRITERS[kind]
    return lambda stream, schema: open_writer(stream, schema, values)


def write_result(result: Rows, out: ByteStream, kind: str, options: Mapping[str, object] | None = None) -> None:
    """Writes all rows of a result as they come; nothing for a statement that answers no rows.

    A query that fails before its first rows writes nothing either.
    """
    if not result.schema.names:
        return
    with closing(result.batches()) as batches:
        first = next(batches, None)
        with closing(opener_of(kind, options or {})(out, result.schema)) as writer:
            for batch in chain(() if first is None else (first,), batches):
                writer.write(batch)
                out.flush()
    out.flush()


class Utf8Text:
    """A text stream as a byte stream that takes UTF-8: for text that has no bytes beneath it, or another encoding.

    Args:
        terminal: whether a terminal shows it, so that no control character may be written raw.
    """

    def __init__(self, text: TextIO, *, terminal: bool) -> None:
        self._terminal = terminal
        self._text, self.flush = text, text.flush

    def write(self, data: bytes, /) -> None:
        """Writes UTF-8."""
        self._text.write(data.decode())

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        return self._terminal


def _arrow(stream: ByteStream, schema: pa.Schema, options: Mapping[str, Any]) -> RowWriter:
    return pa.ipc.new_file(stream, schema, options=_ipc_options(options))  # type: ignore[no-any-return]


def _arrow_stream(stream: ByteStream, schema: pa.Schema, options: Mapping[str, Any]) -> RowWriter:
    return pa.ipc.new_stream(stream, schema, options=_ipc_options(options))  # type: ignore[no-any-return]


def _ipc_options(options: Mapping[str, Any]) -> pa.ipc.IpcWriteOptions:
    return pa.ipc.IpcWriteOptions(compression=None if options["compression"] == "none" else options["compression"])


def _parquet(stream: ByteStream, schema: pa.Schema, options: Mapping[str, Any]) -> RowWriter:
    return pyarrow.parquet.ParquetWriter(stream, schema, compression=options["compression"])  # type: ignore[no-any-return]


class _JsonLines:
    """One JSON object per row and line."""

    def __init__(self, stream: ByteStream, schema: pa.Schema, _: Mapping[str, Any]) -> None:
        self._stream, self._names = stream, schema.names

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        for batch in _batches(rows):
            columns = [plain_column(column) for column in batch.columns]
            lines = (json_line(dict(zip(self._names, row, strict=True))) for row in zip(*columns, strict=True))
            self._stream.write(b"".join(lines))

    def close(self) -> None:
        """There is nothing at the end."""


class _Csv:
    """Comma-separated values, a column at a time by Arrow's string functions.

    Options:
        formulas: 'escape' puts a ' before text that a spreadsheet would run as a formula.
    """

    def __init__(self, stream: ByteStream, schema: pa.Schema, options: Mapping[str, Any]) -> None:
        self._stream, self._delimiter = stream, options["delimiter"]
        self._escape, self._terminal = options["formulas"] == "escape", stream.isatty()
        # An empty line would be passed over: where a row is one NULL it is an empty text to most readers.
        self._null = '""' if len(schema) == 1 else ""
        if options["header"]:
            self._write([self._text(pa.array([name], pa.large_string())) for name in schema.names])

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        for batch in _batches(rows):
            if batch.num_rows:
                self._write([self._fields(column) for column in batch.columns])

    def close(self) -> None:
        """There is nothing at the end."""

    def _write(self, columns: list[pa.Array]) -> None:
        fields = [pc.fill_null(column, _word(self._null)) for column in columns]
        fields[-1] = pc.binary_join_element_wise(fields[-1], _word("\n"), _word(""))
        lines = pc.binary_join_element_wise(*fields, _word(self._delimiter))
        self._stream.write("".join(lines.to_pylist()).encode())

    def _fields(self, column: pa.Array) -> pa.Array:
        """The fields of a column, large strings; NULL stays NULL."""
        kind = column.type
        if is_tensor(kind) or pa.types.is_nested(kind):
            texts = [None if value is None else _json(value) for value in plain_column(column)]
            return self._text(pa.array(texts, pa.large_string()))
        fields = column.cast(pa.large_string())
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return self._text(fields)
        return pc.if_else(pc.is_nan(column), _word("NaN"), fields) if pa.types.is_floating(kind) else fields

    def _text(self, column: pa.Array) -> pa.Array:
        """Fields of text as a spreadsheet, or a terminal, may have them, in quotes where they need some."""
        if self._escape:
            column = pc.replace_substring_regex(column, _FORMULA, r"'\1")
        if self._terminal:
            column = pa.array([None if text is None else plain_line(text) for text in column.to_pylist()], column.type)
        unclear = pc.match_substring_regex(column, rf'\A\z|[{re.escape(self._delimiter)}"\r\n]')
        quote = _word('"')
        quoted = pc.binary_join_element_wise(quote, pc.replace_substring(column, '"', '""'), quote, _word(""))
        return pc.if_else(unclear, quoted, column)


#: A new format of rows is a line here, and its endings in `kryptondb.files.paths`.
_WRITERS: dict[str, Callable[[ByteStream, pa.Schema, Mapping[str, Any]], RowWriter]] = {
    "arrow": _arrow,
    "arrows": _arrow_stream,
    "parquet": _parquet,
    "csv": _Csv,
    "json": _JsonLines,
}


def _word(text: str) -> pa.Scalar:
    """A text beside columns of large strings, whose functions take no others."""
    return pa.scalar(text, pa.large_string())


def _batches(rows: pa.Table | pa.RecordBatch) -> list[pa.RecordBatch]:
    return rows.to_batches() if isinstance(rows, pa.Table) else [rows]


def _json(value: object) -> str:
    """JSON without spaces, for a field of CSV."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_line(value: object) -> bytes:
    """A value as JSON on one line."""
    return (plain_json(json.dumps(value, ensure_ascii=False, default=str)) + "\n").encode()
