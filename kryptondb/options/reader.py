"""Options given their values: from a statement, whose words and parameters become Python values, or from Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kryptondb.errors import BindError, Position
from kryptondb.grammar import statements as s
from kryptondb.options.arguments import value_of
from kryptondb.options.option import Table


class OptionValues(dict[str, Any]):
    """Values by the names of their options, and where each stands in the text.

    Args:
        options: those of the statement, by name; values from Python have none.
    """

    def __init__(self, values: Mapping[str, Any], options: Mapping[str, s.Option] | None = None) -> None:
        super().__init__(values)
        self.options = options or {}

    def position(self, name: str) -> Position | None:
        """Where an option's value stands in the text."""
        option = self.options.get(name)
        return None if option is None else option.value.position or option.position

    def name_position(self, name: str) -> Position | None:
        """Where an option's name stands in the text."""
        place = self.options[name].position if name in self.options else None
        return None if place is None else dataclasses.replace(place, end=min(place.end, place.start + len(name)))

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Gives a BindError of a room that knows no text the place of the option that it is about."""
        try:
            yield
        except BindError as error:
            if error.position is None and error.option is not None:
                error.position = self.position(error.option)
            raise


def given_in(options: Iterable[s.Option], bindings: Mapping[str, object], *, words: bool = False) -> OptionValues:
    """The values that a statement gives, not checked yet. What has no Python value stays an expression.

    Args:
        bindings: what its parameters are bound to.
        words: whether a bare word stands for itself.
    """
    found = {option.name.casefold(): option for option in options}
    values = {name: value_of(option.value, bindings, words=words, strict=False) for name, option in found.items()}
    return OptionValues(values, found)


def read(table: Table, values: Mapping[str, Any], *, defaults: bool = False) -> OptionValues:
    """Values as the engine uses them.

    Args:
        defaults: whether the defaults of the options that are not given come too.

    Raises:
        BindError: an option that the table does not have, or a value that it does not take, with its place.
    """
    given = values if isinstance(values, OptionValues) else OptionValues(values)
    known = {name: table.find(name, given.name_position(name)) for name in given}
    found = {option.name: option.read(given[name], given.position(name)) for name, option in known.items()}
    if defaults:
        rows = (row for row in table.rows if row.default is not None and row.name not in found)
        found |= {row.name: row.read(row.default) for row in rows}
    return OptionValues(found, given.options)


def bind(
    table: Table, options: Iterable[s.Option], bindings: Mapping[str, object] | None = None, *, defaults: bool = False
) -> OptionValues:
    """A statement's options as the engine uses them; see `read`."""
    return read(table, given_in(options, bindings or {}, words=table.words), defaults=defaults)
