"""Where the command line's results go: standard output, or the file of `-o`, which appears only when all went well."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

from kryptondb.errors import ExecutionError
from kryptondb.options.words import FORMULAS
from kryptondb.show.terminal import Terminal

if TYPE_CHECKING:
    from kryptondb.result import Result

#: What `--format` takes.
FORMATS = ("table", "json", "csv", "arrow")
_NO_TERMINAL = Terminal(None, None, False)


@dataclass
class Output:
    """A text stream and the binary one beneath it (None where there is none), and what it can show.

    `formulas` is one of `options.words.FORMULAS`: what CSV does with text that a spreadsheet would run.
    """

    text: TextIO
    binary: BinaryIO | None
    terminal: Terminal
    wrote: bool = False
    formulas: str = FORMULAS[0]

    def write(self, result: Result, format: str, *, max_rows: int | None = None) -> None:
        """Writes all of a result, batch by batch. `format` is one of `FORMATS`, or 'arrows', the stream."""
        from kryptondb.copy.rows import Utf8Text, json_line, write_result
        from kryptondb.result import json_document, write_text

        if format == "table":
            if self.wrote and (result.message is None or "\n" in result.message):
                self.text.write("\n")  # between a result and the table or plan after it
            self.wrote = self.wrote or result.message != ""
            write_text(result, self.text, self.terminal, max_rows=max_rows)
        elif format == "json" and (document := json_document(result)) is not None:
            self.text.write(json_line(json.loads(document)).decode())
        elif format in ("json", "csv"):
            out = Utf8Text(self.text, terminal=self.terminal.width is not None)
            write_result(result, out, format, {"formulas": self.formulas} if format == "csv" else {})
        else:
            if self.binary is None:
                raise ExecutionError("the arrow format is binary and this stream takes text only")
            self.text.flush()
            write_result(result, self.binary, format)


def standard_output(formulas: str = FORMULAS[0]) -> Output:
    """`sys.stdout` as it is now, in UTF-8 when it is not a terminal."""
    out = sys.stdout
    terminal = Terminal.of(out)
    if isinstance(out, io.TextIOWrapper):
        with suppress(io.UnsupportedOperation):
            out.reconfigure(encoding="utf-8" if terminal.width is None else out.encoding, errors="replace")
    return Output(out, cast("BinaryIO | None", getattr(out, "buffer", None)), terminal, formulas=formulas)


def no_output() -> Output:
    """Where results go that a sink of COPY has written already: nowhere."""
    return Output(io.StringIO(), None, _NO_TERMINAL)


@contextmanager
def output_to(path: str | None, formulas: str = FORMULAS[0]) -> Iterator[Output]:
    """Standard output for None; otherwise the file, which appears whole on leaving without error, or not at all.

    Raises:
        ExecutionError: the file cannot be written.
    """
    if path is None:
        yield standard_output(formulas)
        return
    from kryptondb.files.atomic import atomic_file, writing

    with atomic_file(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        try:
            with writing(path):
                yield Output(text, stream, _NO_TERMINAL, formulas=formulas)
                text.flush()
        finally:
            with suppress(OSError, ValueError):
                text.detach()  # the stream is atomic_file's to close
