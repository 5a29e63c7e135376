"""What Tab offers: the keywords that may come next, and known names where a name is expected."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from kryptondb.errors import Error, ModelError
from kryptondb.files.paths import expanded
from kryptondb.grammar.completion import Context, ContextKind, context, expected_words
from kryptondb.grammar.words import quote_identifier, quote_string
from kryptondb.options import tables
from kryptondb.options.option import Option
from kryptondb.prompt.shell import COMMANDS, is_dot_command
from kryptondb.session import Session
from kryptondb.text.plain_text import plain_line

_TABLES = (
    tables.OCCLUDE,
    tables.REDUNDANCY,
    tables.USING,
    tables.ANALYZE,
    tables.MODEL,
    tables.SETTINGS,
    tables.TABLE_FILES,
    tables.EXPLAIN,
)

#: At most this many completions are offered; typing more letters shortens the list.
_MOST = 500


class StatementCompleter(Completer):
    """Completes the statement before the cursor. Where names cannot be read, none are offered."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Completions of the word or string at the cursor."""
        text = document.text_before_cursor
        if is_dot_command(text):
            yield from _dot_completions(text.lstrip())
            return
        place = context(text)
        try:
            names = list(self._names(place))
        except (Error, OSError):
            names = []
        typed = len(text) - place.start
        offered: set[str] = set()
        for word, what in names:
            if len(offered) < _MOST and word not in offered and word.casefold().startswith(place.prefix.casefold()):
                offered.add(word)
                shown, meta = plain_line(word), plain_line(what)
                yield Completion(_written(word, place), start_position=-typed, display=shown, display_meta=meta)
        if not place.quote and not (names and place.kind is ContextKind.MODEL):
            for word in expected_words(text):
                if word in offered:
                    continue
                yield Completion(word, start_position=-typed)

    def _names(self, place: Context) -> Iterable[tuple[str, str]]:
        """The names that may stand at the cursor, each with a description."""
        kinds: dict[ContextKind, Callable[[Context], Iterable[tuple[str, str]]]] = {
            ContextKind.MODEL: lambda _: ((name, "model") for name in self.session.database.models.names()),
            ContextKind.OPTION: _options,
            ContextKind.VALUE: _values,
            ContextKind.PATH: _files,
            ContextKind.LABEL: self._labels,
            ContextKind.COLUMN: _columns,
            ContextKind.SETTING: _options,
            ContextKind.ARCHITECTURE: _architectures,
        }
        return kinds[place.kind](place) if place.kind in kinds else ()

    def _labels(self, place: Context) -> Iterable[tuple[str, str]]:
        model = place.model
        if model is None or not place.quote:
            return ()
        return ((label, "label") for label in dict.fromkeys(self.session.database.models.get(model).labels))


def _written(word: str, place: Context) -> str:
    """A name as it is written at the cursor: quoted where needed, with quotes inside doubled, and the string closed."""
    if place.kind in (ContextKind.MODEL, ContextKind.COLUMN):
        if place.quote == '"':
            return word.replace('"', '""') + '"'
        return quote_identifier(word)
    if place.kind is ContextKind.OPTION:
        return word if place.scope == "copy" else f"{word} => "
    if place.kind is ContextKind.SETTING:
        return f"{word} = "
    if place.quote:
        escaped = word.replace("'", "''")
        return escaped if word.endswith(("/", ":")) else escaped + "'"
    return word


def _rows(place: Context) -> Iterable[Option]:
    """The options that may stand at the cursor."""
    if place.scope == "copy":
        rows = chain.from_iterable(table.rows for table in tables.COPY.values())
        return [row for row in rows if place.option in (None, row.name)]
    table = next((table for table in _TABLES if table.scope == place.scope), None)
    return [] if table is None else [row for row in table.rows if place.option in (None, row.name)]


def _options(place: Context) -> Iterable[tuple[str, str]]:
    return {row.name: row.summary for row in _rows(place)}.items()


def _values(place: Context) -> Iterator[tuple[str, str]]:
    """The words that an option takes, and files where it takes a path."""
    for row in _rows(place):
        for literal in _operators() if row is tables.USING["operator"] else row.kind.literals():
            quoted = literal.startswith("'")
            if place.scope in ("copy", "explain") and quoted:
                yield literal[1:-1], row.name
            elif not place.quote or (place.quote == "'" and quoted):
                yield literal[1:-1] if place.quote else literal, row.name
        if row.kind.paths and place.quote:
            yield from _paths(place.prefix)


def _operators() -> Iterable[str]:
    from kryptondb.executor.operators import OPERATORS

    return (quote_string(operator.name) for operator in OPERATORS)


def _columns(_: Context) -> Iterable[tuple[str, str]]:
    from kryptondb.optimizer.experiment import CELL_COLUMNS

    return ((name, "column") for name in CELL_COLUMNS)


def _architectures(place: Context) -> Iterable[tuple[str, str]]:
    if not place.quote:
        return ()
    if place.scope in ("torchvision", "timm"):
        from kryptondb.catalog import timm_models, torchvision_models

        library = timm_models if place.scope == "timm" else torchvision_models
        try:
            return ((name, "architecture") for name in library.architectures())
        except ModelError:  # timm is not installed
            return ()
    if place.scope == "pretrained":
        from kryptondb.catalog.pretrained import PRETRAINED

        return ((name, "weights from a package") for name in PRETRAINED)
    return ()


def _files(place: Context) -> Iterable[tuple[str, str]]:
    """Files and folders that begin with the string, and samples where a picture is expected."""
    if not place.quote:
        return
    if place.scope == "occlude":
        if place.prefix.startswith("sample:"):
            from kryptondb.images.samples import list_samples

            yield from ((f"sample:{sample.name}", sample.description) for sample in list_samples())
            return
        from kryptondb.images.decode import SUFFIXES
        from kryptondb.images.table_files import SUFFIXES as TABLES

        yield "sample:", "pictures to try"
        yield from _paths(place.prefix, (*SUFFIXES, *TABLES))
    else:
        yield from _paths(place.prefix)


def _paths(typed: str, suffixes: tuple[str, ...] = ("",)) -> Iterator[tuple[str, str]]:
    """Folders, and files that end in one of the suffixes."""
    folder, _, beginning = typed.rpartition("/")
    shown = f"{folder}/" if "/" in typed else ""
    try:
        entries = sorted(os.scandir(expanded(shown or ".")), key=lambda entry: entry.name)
    except (OSError, ValueError):  # the folder does not exist, or the text is not a path
        return
    for entry in entries:
        hidden = entry.name.startswith(".") and not beginning  # offered after a typed dot
        if hidden or not entry.name.startswith(beginning):
            continue
        if entry.is_dir():
            yield f"{shown}{entry.name}/", ""
        elif entry.name.casefold().endswith(suffixes):
            yield f"{shown}{entry.name}", ""


def _dot_completions(text: str) -> Iterator[Completion]:
    command, space, value = text.partition(" ")
    values, _ = COMMANDS.get(command, ((), ""))
    known = values if space else tuple(COMMANDS)
    typed = value.lstrip() if space else command
    yield from (Completion(word, start_position=-len(typed)) for word in known if word.startswith(typed))
