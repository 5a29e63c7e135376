"""An option of the language, and a table of those that stand together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kryptondb.errors import BindError, Position, did_you_mean
from kryptondb.grammar.statements import Column, Node
from kryptondb.grammar.words import quote_string
from kryptondb.options.kinds import Choice, Kind


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        about: what it is for, in a line of Markdown.
        default: what is meant where it is left out, as a statement would say it.
        otherwise: what is meant then where that is no value.
        hint: the remedy for a value that it does not take, where the kind's words do not say it.
    """

    name: str
    kind: Kind
    about: str
    default: Any = None
    otherwise: str = "none"
    hint: str | None = None

    @property
    def default_text(self) -> str:
        """What is meant where it is left out, in Markdown."""
        return self.otherwise if self.default is None else shown(self.default)

    @property
    def line(self) -> str:
        """What it is for, without Markdown."""
        return _plain(self.about)

    @property
    def summary(self) -> str:
        """What it is for and its default, in plain text."""
        return f"{self.line} (default: {_plain(self.default_text)})"

    @property
    def description(self) -> str:
        """What it is for and what it takes, in plain text."""
        return f"{self.line} ({self.kind})"

    def read(self, value: object, position: Position | None = None) -> Any:
        """The value as the engine uses it.

        Raises:
            BindError: the option does not take it.
        """
        try:
            return self.kind.read(value)
        except ValueError as error:
            raise self.refusal(value, position, str(error) or None) from None
        except BindError as error:
            error.position, error.option = error.position or position, self.name
            raise

    def refusal(self, value: object, position: Position | None = None, hint: str | None = None) -> BindError:
        """What is said of a value that the option does not take."""
        return BindError(
            f"{self.name} must be {self.kind}, not {shown(value)}",
            position=position,
            hint=hint or self._remedy(value),
            option=self.name,
        )

    def _remedy(self, value: object) -> str | None:
        items = value if isinstance(value, list) else [value]
        bare = next((item for item in items if isinstance(item, Column)), None)
        if bare is not None and self._takes_text(bare.name):
            return f"Did you mean '{bare.name}'? Quote it."
        if isinstance(value, str):
            words = [literal.strip("'") for literal in self.kind.literals()]
            return did_you_mean(value, words) or self.hint
        return self.hint

    def _takes_text(self, text: str) -> bool:
        """Whether a text may stand for the option, alone or in a list."""
        for value in (text, [text]):
            try:
                self.kind.read(value)
            except (ValueError, BindError):
                continue
            return True
        return False


class Table(Mapping[str, Option]):
    """Options by name, in the order in which the reference shows them.

    Args:
        scope: what the completer and the reference call the table: `occlude`, `copy png`.
        noun: what errors call one of its options.
        words: whether a bare word is a value, as in `SET device = cpu` and `(FORMAT csv)`.
        remedy: where the options are listed, where an error does not list them.
    """

    def __init__(self, scope: str, noun: str, *rows: Option, words: bool = False, remedy: str | None = None) -> None:
        self.scope, self.noun, self.rows, self.words, self.remedy = scope, noun, rows, words, remedy

    def __getitem__(self, name: str) -> Option:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (row.name for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def among(self, name: str, words: tuple[str, ...]) -> Table:
        """The same table where the words that one of its options takes are known by now."""
        rows = (replace(row, kind=Choice(*words)) if row.name == name else row for row in self.rows)
        return Table(self.scope, self.noun, *rows, words=self.words, remedy=self.remedy)

    def find(self, name: str, position: Position | None = None) -> Option:
        """The option of a name, in any case.

        Raises:
            BindError: there is none.
        """
        if name.casefold() in self:
            return self[name.casefold()]
        near = did_you_mean(name, self)
        remedy = self.remedy or f"The {self.noun}s are {', '.join(self)}."
        hint = f"{near} {self.remedy}" if near and self.remedy else near or remedy
        raise BindError(f'no {self.noun} named "{name}"', position=position, hint=hint)


def _plain(markdown: str) -> str:
    """A line of Markdown without its links and code marks."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "")


def shown(value: object) -> str:
    """A value as a statement would say it."""
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(shown, value))})"
    if isinstance(value, Node):
        return str(value)
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    return quote_string(value) if isinstance(value, str) else repr(value)
