"""Every error a user can meet: one class a stage, one message that names the thing and the remedy."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kryptondb.text.plain_text import QUOTED, covered, message_line, plain_line, shortened

#: How much of a line a message shows.
_LINE = 120
#: How many images a warning names.
_NAMED = 20


@dataclass(frozen=True, order=True)
class Position:
    """Where a piece of a statement stands in the text it came from.

    `start` and `end` are character offsets into the whole text (end exclusive); `line` and `column` count from 1.
    """

    start: int
    end: int
    line: int
    column: int


class Error(Exception):
    """Base of all KryptonDB errors.

    Message and hint are made fit to be shown: one line each, without control characters, and what they quote is cut to
    a line.

    Args:
        message: one sentence that names the thing that is wrong.
        position: where in the text, when the error has a place there.
        hint: the remedy, a sentence of its own (expected words, nearest names, what to run).
        text: the whole source text; a caller that knows it may add it later with `locate`.
    """

    def __init__(
        self, message: str, *, position: Position | None = None, hint: str | None = None, text: str | None = None
    ) -> None:
        self.message = message_line(message)
        super().__init__(self.message)
        self.position = position
        self.hint = None if hint is None else message_line(hint)
        self.text = text

    @property
    def line(self) -> int | None:
        """The line, from 1, or None for an error without a place in the text."""
        return self.position.line if self.position else None

    @property
    def column(self) -> int | None:
        """The column, from 1, or None for an error without a place in the text."""
        return self.position.column if self.position else None

    def locate(self, text: str) -> Error:
        """Adds the source text, if none is known yet, so that the message can show the line; returns self."""
        if self.text is None:
            self.text = text
        return self

    def __str__(self) -> str:
        where = f"line {self.position.line}, column {self.position.column}: " if self.position else ""
        parts = [f"{where}{self.message}"]
        if self.position and self.text is not None:
            parts.extend(self._excerpt(self.text, self.position))
        if self.hint:
            parts.append(self.hint)
        return "\n".join(parts)

    @staticmethod
    def _excerpt(text: str, position: Position) -> list[str]:
        lines = text.split("\n")
        if not 1 <= position.line <= len(lines):
            return []
        line = covered(lines[position.line - 1].rstrip("\r").replace("\t", " "))
        before = position.column - 1
        width = max(1, min(position.end - position.start, len(line) - before))
        first = 0 if len(line) <= _LINE else max(0, before - _LINE // 2)  # a long line is shown around the caret
        last = min(len(line), first + _LINE)
        shown = ("..." if first else "") + line[first:last] + ("..." if last < len(line) else "")
        indent = " " * (before - first + (3 if first else 0))
        return ["    " + shown, "    " + indent + "^" * max(1, min(width, last - before))]


class ParseError(Error):
    """The text is not a statement: says what was expected at the caret."""


class BindError(Error):
    """A name, option, label or value in a statement means nothing here: names the nearest that does.

    Args:
        option: which option of the statement it is about, where a room says so that does not know the text.
    """

    def __init__(
        self,
        message: str,
        *,
        position: Position | None = None,
        hint: str | None = None,
        text: str | None = None,
        option: str | None = None,
    ) -> None:
        super().__init__(message, position=position, hint=hint, text=text)
        self.option = option


class ModelError(Error):
    """A model cannot be built, loaded or traced."""


class ImageError(Error):
    """A picture cannot be read: names the file and why."""


class PlanError(Error):
    """A promise or hint cannot be kept, or asks for what this version does not do yet."""


class ExecutionError(Error):
    """A plan failed while it ran."""


class ReaderLeftError(ExecutionError, BrokenPipeError):
    """What is written goes to a pipe that is not read any more, as that of `head`: the end of a command, quietly."""


class ArgumentError(Error, ValueError, AssertionError):
    """A call of a drop-in class makes no sense. Also what the class that it stands in for raises there."""


class UnsupportedError(ArgumentError, NotImplementedError, TypeError):
    """A drop-in class knows no such value. Also what the class that it stands in for raises there."""


class ShapeError(ArgumentError, IndexError, RuntimeError):
    """A call of a drop-in class names a place, or gives a shape, that does not fit a tensor. Also what torch raises."""


class CatalogError(Error):
    """The catalog file cannot be opened, read or written."""


class NondeterministicModel(UserWarning):
    """A model answers one picture in two ways: what is said of it is approximate."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(model, why)  # which make the same warning again, as pickle and test runners do

    def __str__(self) -> str:
        model, why = self.args
        return message_line(f'model "{model}": answers are approximate: {why}')


class SkippedImages(UserWarning):
    """A result lacks the images that could not be read.

    Attributes:
        images: their names.
    """

    def __init__(self, images: Iterable[str]) -> None:
        self.images = tuple(images)
        super().__init__(self.images)

    def __str__(self) -> str:
        shown = ", ".join(shortened(name) for name in self.images[:_NAMED])
        more = f" and {len(self.images) - _NAMED:,} more" if len(self.images) > _NAMED else ""
        count = "1 image" if len(self.images) == 1 else f"{len(self.images):,} images"
        return plain_line(f"{count} skipped: {shown}{more}; result.errors says why")


@contextmanager
def at(position: Position | None) -> Iterator[None]:
    """Gives an error that has no place in the text yet the place of what is being looked up."""
    try:
        yield
    except Error as error:
        error.position = error.position or position
        raise


def warn(warning: Warning) -> None:
    """Warns at the line of the user's code that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "kryptondb":
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)


def one_line(error: BaseException) -> str:
    """The first line of what an error says, with its class where that says more."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kind = type(error).__name__
    said = first if isinstance(error, (RuntimeError, ValueError, NotImplementedError)) and first else f"{kind}: {first}"
    return said.removesuffix(": ")[:300]


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The sentence `Did you mean "x" or "y"?` for the nearest known names, or None when nothing is near."""
    if len(name) > QUOTED:
        return None
    by_folded = {candidate.casefold(): candidate for candidate in known if len(candidate) <= QUOTED}
    near = difflib.get_close_matches(name.casefold(), list(by_folded), n=3, cutoff=0.6)
    if not near:
        return None
    return "Did you mean " + " or ".join(f'"{by_folded[found]}"' for found in near) + "?"
