"""Results for programs: CSV, JSON lines and Arrow, written as the rows come.

JSON is one object a row and line, so that a result of any length streams; a heat map is a list of rows, NaN is null.
CSV has a header, an empty field for NULL, `NaN` for NaN, and JSON text in a field that holds more than one value; text
that a spreadsheet would run as a formula has a ' before it. Arrow is the IPC stream format.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from kryptondb.copy.formulas import as_text
from kryptondb.options.words import FORMULAS
from kryptondb.text.plain_text import plain_json, plain_line

if TYPE_CHECKING:
    import pyarrow as pa

    from kryptondb.result import Result

#: What `--format` takes.
FORMATS = ("table", "json", "csv", "arrow")


def write_json(result: Result, out: TextIO) -> None:
    """One JSON object a row and line; a result that is one document already is written as it is, on one line."""
    from kryptondb.result import json_document
    from kryptondb.show.values import plain_column

    document = json_document(result)
    if document is not None:
        out.write(plain_json(json.dumps(json.loads(document), ensure_ascii=False)) + "\n")
        return
    names = result.schema.names
    for batch in result.batches():
        columns = [plain_column(column) for column in batch.columns]
        lines = (json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, allow_nan=False, default=str)
                 for row in zip(*columns, strict=True))  # fmt: skip
        out.write("".join(plain_json(line) + "\n" for line in lines))
        out.flush()


def write_csv(result: Result, out: TextIO, *, formulas: str = FORMULAS[0], terminal: bool = False) -> None:
    """A header and one line a row; nothing at all for a statement that answers no rows.

    Args:
        formulas: 'keep' leaves text as it is that a spreadsheet would run as a formula.
        terminal: whether a terminal shows it, so that no control character may be written raw.
    """
    names = result.schema.names
    if not names:
        return
    writer = csv.writer(_Lines(out))

    def text(cell: str) -> str:
        cell = cell if formulas == "keep" else as_text(cell)
        return plain_line(cell) if terminal else cell

    # The header comes with the first rows, so that a query that fails before them writes nothing.
    header = [[text(name) for name in names]]
    for batch in result.batches():
        columns = [_csv_column(column, text) for column in batch.columns]
        writer.writerows([*header, *zip(*columns, strict=True)])
        out.flush()
        header = []
    writer.writerows(header)


class _Lines:
    """Ends rows in a line feed. Python's writer quotes a carriage return only where it ends rows with one itself."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, row: str) -> None:
        self._out.write(row.removesuffix("\r\n") + "\n")


def write_arrow(result: Result, out: BinaryIO, *, stream: bool = False) -> None:
    """The Arrow IPC file format, with the schema's metadata; nothing for a statement that answers no rows.

    Args:
        stream: whether it is the stream format instead, which is read as it comes.
    """
    import pyarrow as pa

    if not result.schema.names:
        return
    batches = result.batches()
    first = list(islice(batches, 1))  # before anything is written: a query may fail here
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, result.schema) as writer:
        for batch in chain(first, batches):
            writer.write_batch(batch)
            out.flush()
    out.flush()


def _csv_column(column: pa.Array, text: Callable[[str], str]) -> list[Any]:
    """The fields of a column; `text` is what becomes of those that are text."""
    import pyarrow as pa

    from kryptondb.show.values import is_tensor, plain_column

    plain = plain_column(column)
    if is_tensor(column.type) or pa.types.is_nested(column.type):
        return [None if value is None else text(json.dumps(value, ensure_ascii=False)) for value in plain]
    if pa.types.is_floating(column.type):
        return [
            _unlike_json(exact) if value is None else value
            for value, exact in zip(plain, column.to_pylist(), strict=True)
        ]
    if pa.types.is_boolean(column.type):
        return [None if value is None else str(value).lower() for value in plain]
    return [text(value) if isinstance(value, str) else value for value in plain]


def _unlike_json(value: float | None) -> str | None:
    """The spelling of a float that JSON has no word for; None for NULL."""
    if value is None:
        return None
    return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
