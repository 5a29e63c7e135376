"""Every error that a user can meet: one class per stage, and a message that names the problem and the remedy."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kryptondb.text.plain_text import QUOTED, covered, message_line, plain_line, shortened
from kryptondb.text.units import counted

#: How much of a line a message shows.
_LINE = 120
#: How many images a warning names.
_NAMED = 20


@dataclass(frozen=True, order=True)
class Position:
    """The place of a part of a statement in the text.

    `start` and `end` are character offsets into the whole text (end exclusive); `line` and `column` count from 1.
    """

    start: int
    end: int
    line: int
    column: int


class Error(Exception):
    """Base of all KryptonDB errors.

    Message and hint are one line each, without control characters, and long quotations in them are cut.

    Args:
        message: one sentence that names what is wrong.
        position: where in the text, when the error has a position there.
        hint: the remedy, a sentence of its own (expected words, nearest names, what to run).
        text: the whole source text; `locate` adds it later where it is not known yet.
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
        """The line, from 1, or None for an error without a position in the text."""
        return self.position.line if self.position else None

    @property
    def column(self) -> int | None:
        """The column, from 1, or None for an error without a position in the text."""
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
        first = 0 if len(line) <= _LINE else max(0, before - _LINE // 2)  # of a long line, the part around the caret
        last = min(len(line), first + _LINE)
        shown = ("..." if first else "") + line[first:last] + ("..." if last < len(line) else "")
        indent = " " * (before - first + (3 if first else 0))
        return ["    " + shown, "    " + indent + "^" * max(1, min(width, last - before))]


class ParseError(Error):
    """The text is not a statement; the message says what was expected at the caret."""


class BindError(Error):
    """A name, option, label or value in a statement is unknown or not allowed; the hint names the nearest that is.

    Args:
        option: the option that the error is about, from code that does not know the text of the statement.
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
    """A picture cannot be read; the message names the file and the reason."""


class PlanError(Error):
    """A promise or hint cannot be kept, or is not supported by this version."""


class ExecutionError(Error):
    """A plan failed while it ran."""


class ReaderLeftError(ExecutionError, BrokenPipeError):
    """The pipe that output goes to was closed by its reader, such as `head`: the command ends quietly."""


class ArgumentError(Error, ValueError, AssertionError):
    """Invalid arguments of a drop-in class. Also an instance of what the replaced class raises there."""


class UnsupportedError(ArgumentError, NotImplementedError, TypeError):
    """A value that a drop-in class does not support. Also an instance of what the replaced class raises there."""


class ShapeError(ArgumentError, IndexError, RuntimeError):
    """An index or shape that does not fit a tensor, given to a drop-in class. Also an instance of what torch raises."""


class CatalogError(Error):
    """The catalog file cannot be opened, read or written."""


class NondeterministicModel(UserWarning):
    """A model gives different outputs for the same picture, so that answers are approximate."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(model, why)  # pickle and test runners make the warning again from these

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
        return plain_line(f"{counted(len(self.images), 'image')} skipped: {shown}{more}; result.errors says why")


@contextmanager
def at(position: Position | None) -> Iterator[None]:
    """Gives an error that has no position in the text yet the position of what is being looked up."""
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
    """The first line of an error's message, with its class where the message alone does not explain it."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kind = type(error).__name__
    text = first if isinstance(error, (RuntimeError, ValueError, NotImplementedError)) and first else f"{kind}: {first}"
    return text.removesuffix(": ")[:300]


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The sentence `Did you mean "x" or "y"?` for the nearest known names, or None when nothing is near."""
    if len(name) > QUOTED:
        return None
    by_folded = {candidate.casefold(): candidate for candidate in known if len(candidate) <= QUOTED}
    near = difflib.get_close_matches(name.casefold(), list(by_folded), n=3, cutoff=0.6)
    if not near:
        return None
    return "Did you mean " + " or ".join(f'"{by_folded[found]}"' for found in near) + "?"
