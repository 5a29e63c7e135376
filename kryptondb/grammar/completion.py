"""What a prompt may offer at the cursor: the keywords that fit, and which kind of name is being typed.

Both functions look at the text before the cursor, and answer for any text, right or wrong.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kryptondb.grammar.engine import accepted
from kryptondb.grammar.scanner import Token, scan
from kryptondb.grammar.words import (
    KEYWORDS,
    MAX_CHARACTERS,
    MAX_WORDS,
    MODEL_SOURCES,
    RESERVED,
    TABLE_FILES,
    TABLE_FUNCTIONS,
)


class ContextKind(enum.Enum):
    """What is being typed at the cursor."""

    NOTHING = "nothing"  # only keywords fit, or nothing is known
    MODEL = "model"  # the name of a model the database knows
    OPTION = "option"  # the name of an option of `scope`
    VALUE = "value"  # the value of `option` of `scope`
    PATH = "path"  # a file, a glob or a sample
    LABEL = "label"  # a class label of `model`
    COLUMN = "column"  # a column of the cells
    SETTING = "setting"  # the name of a setting
    ARCHITECTURE = "architecture"  # what `scope` (torchvision, timm, pretrained) knows by name


@dataclass(frozen=True)
class Context:
    """What is being typed, and where.

    `prefix` is what stands already, from offset `start` to the cursor, quotes undone; `quote` is the quote that is
    open before it, or empty. `scope` is one of occlude, redundancy, table file, using, create model, analyze, copy,
    set, explain, torchvision, timm, pretrained. `model` is the statement's model when it is already written.
    """

    kind: ContextKind
    prefix: str = ""
    start: int = 0
    quote: str = ""
    scope: str | None = None
    option: str | None = None
    model: str | None = None


@dataclass
class _Frame:
    """One open parenthesis, or the statement itself: what has been seen in it."""

    opener: str = ""  # the word before the parenthesis, lower case
    before: Token | None = None  # the last name before it: `label` in `label NOT IN (`
    clause: str = ""  # the last clause keyword
    commas: int = 0
    option: str | None = None  # the name before `=>`, until the next comma
    last: Token | None = None
    name: Token | None = None  # the last name


_CLAUSES = frozenset(
    ("SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "WITH", "USING", "TO", "AS")
)
_COLUMN_CLAUSES = frozenset(("SELECT", "WHERE", "GROUP", "HAVING", "ORDER"))
_SPELT = {
    "GROUP": "GROUP BY",
    "ORDER": "ORDER BY",
    **{name.upper(): name for name in (*TABLE_FUNCTIONS, *MODEL_SOURCES)},
}


def expected_words(text_before_cursor: str) -> tuple[str, ...]:
    """The words of the language that may come next; when a word is half written, those that begin with it.

    Keywords are in upper case, the names of table functions and model sources in lower case.

    >>> expected_words("SHOW ")
    ('MODELS', 'PROFILES', 'SETTINGS', 'SAMPLES', 'CALIBRATION')
    """
    cut = _cut(text_before_cursor)
    if cut is None or cut.quote:
        return ()
    terminals = accepted(text_before_cursor[cut.begin : cut.start])
    if context(text_before_cursor).kind in (ContextKind.MODEL, ContextKind.PATH, ContextKind.OPTION):
        terminals -= {"NULL", "TRUE", "FALSE"}  # they parse there, and mean nothing
    words = (word for word in KEYWORDS if word in terminals and word.startswith(cut.prefix.upper()))
    return tuple(_SPELT.get(word, word) for word in words)


def context(text_before_cursor: str) -> Context:
    """Which kind of name the cursor stands in."""
    cut = _cut(text_before_cursor)
    if cut is None:
        return Context(ContextKind.NOTHING, start=len(text_before_cursor))
    frames, model = _frames(cut.tokens)
    kind, scope, option = _classify(frames, cut, text_before_cursor)
    return Context(kind, cut.prefix, cut.start, cut.quote, scope, option, model)


@dataclass(frozen=True)
class _Cut:
    """The statement under the cursor: its start, the whole tokens before the one being typed, and that one's part."""

    begin: int
    tokens: tuple[Token, ...]
    prefix: str
    start: int
    quote: str


def _cut(text: str) -> _Cut | None:
    """None inside a comment, a number or a parameter, and in a text too long to look at."""
    if len(text) > MAX_CHARACTERS:
        return None
    begin = 0
    tokens: list[Token] = []
    last: Token | None = None
    for last in scan(text):
        if last.text == ";":
            begin, tokens = last.end, []
        elif last.kind != "comment":
            tokens.append(last)
        if len(tokens) > MAX_WORDS:
            return None
    if last is not None and last.end == len(text):
        if last.kind == "comment" and (not last.closed or last.text.startswith("--")):
            return None
        if last.kind in ("number", "parameter"):
            return None
        if not last.closed:
            quote = last.text[0]
            return _Cut(begin, tuple(tokens[:-1]), last.text[1:].replace(quote * 2, quote), last.start + 1, quote)
        if last.kind == "word":
            return _Cut(begin, tuple(tokens[:-1]), last.text, last.start, "")
    return _Cut(begin, tuple(tokens), "", len(text), "")


def _name(token: Token) -> str:
    return token.text[1:-1].replace('""', '"') if token.kind == "quoted" else token.text


def _frames(tokens: tuple[Token, ...]) -> tuple[list[_Frame], str | None]:
    """The open parentheses at the end of the tokens, the statement first, and the model if it is written."""
    frames = [_Frame()]
    model = None
    for token in tokens:
        frame = frames[-1]
        if token.text == "(":
            opener = frame.last.text.lower() if frame.last and frame.last.kind == "word" else ""
            frames.append(_Frame(opener, frame.name))
            continue
        if token.text == ")" and len(frames) > 1:
            frames.pop()
            frames[-1].last = token
            continue
        if token.text == ",":
            frame.commas += 1
            frame.option = None
        elif token.text == "=>" and frame.name is not None:
            frame.option = _name(frame.name).lower()
        elif token.kind in ("word", "quoted"):
            if frame.opener in TABLE_FUNCTIONS and frame.last is None:
                model = _name(token)
            if token.upper in _CLAUSES and frame.opener in ("", "copy"):
                frame.clause, frame.option = token.upper, None
            elif token.kind == "quoted" or token.upper not in RESERVED:
                frame.name = token
        frame.last = token
    return frames, model


_Kind = tuple[ContextKind, "str | None", "str | None"]
_NOTHING: _Kind = (ContextKind.NOTHING, None, None)


def _classify(frames: list[_Frame], cut: _Cut, text: str) -> _Kind:
    """The kind, scope and option at the cursor."""
    frame = frames[-1]
    verb = cut.tokens[0].upper if cut.tokens else ""
    if frame.opener in MODEL_SOURCES and verb == "CREATE":
        return ContextKind.ARCHITECTURE, frame.opener, None
    outer = next((f for f in reversed(frames) if f.opener in TABLE_FUNCTIONS or f.opener == "with"), None)
    if outer is not None:
        scope = {"CREATE": "create model", "ANALYZE": "analyze"}.get(verb) if outer.opener == "with" else outer.opener
        return _argument(outer, frame, scope)
    if verb == "COPY" and len(frames) == 2 and not frame.opener and frames[0].clause == "TO":
        return _copy_option(frame)
    if verb == "EXPLAIN" and frame.last is not None and frame.last.upper == "FORMAT" and not frame.clause:
        return ContextKind.VALUE, "explain", "format"
    if len(frames) == 1 and verb not in ("SELECT", "EXPLAIN"):
        return _of_statement(verb, frame, cut.quote)
    return _of_select(frames, cut, text)


def _argument(outer: _Frame, frame: _Frame, scope: str | None) -> _Kind:
    """Inside `occlude(...)`, `redundancy(...)` or `WITH (...)`; `frame` is a list in it, or itself."""
    fresh = frame.last is None or frame.last.text in (",", "=>")
    if not fresh:
        return _NOTHING
    if frame.opener in TABLE_FILES:
        if frame.commas == 0:
            return ContextKind.PATH, scope, None
        return (ContextKind.OPTION, "table file", None) if frame.option is None else _NOTHING
    if outer.option == "images" and outer.opener in TABLE_FUNCTIONS:
        return ContextKind.PATH, scope, None
    if outer.option == "class" and outer.opener in TABLE_FUNCTIONS:
        return ContextKind.LABEL, scope, outer.option
    if outer.option is not None:
        return ContextKind.VALUE, scope, outer.option
    positional = len(TABLE_FUNCTIONS.get(outer.opener, ()))
    if outer.commas < positional:
        return (ContextKind.MODEL if outer.commas == 0 else ContextKind.PATH), scope, None
    return (ContextKind.OPTION, scope, None) if frame is outer else _NOTHING


def _copy_option(frame: _Frame) -> _Kind:
    """Inside the options of COPY, where the arrow may be left out."""
    if frame.last is None or frame.last.text == ",":
        return ContextKind.OPTION, "copy", None
    if frame.name is not None and (frame.last is frame.name or frame.last.text == "=>"):
        return ContextKind.VALUE, "copy", _name(frame.name).lower()
    return _NOTHING


def _of_statement(verb: str, frame: _Frame, quote: str) -> _Kind:
    """Outside parentheses, in any statement but SELECT."""
    last = frame.last.upper if frame.last else ""
    if verb == "SET" and last == "SET":
        return ContextKind.SETTING, "set", None
    if verb == "SET" and last == "=" and frame.name is not None:
        return ContextKind.VALUE, "set", _name(frame.name).lower()
    if (verb, last) in {
        ("DESCRIBE", "DESCRIBE"),
        ("ANALYZE", "ANALYZE"),
        ("CALIBRATE", "CALIBRATE"),
        ("CALIBRATE", ","),
    }:
        return ContextKind.MODEL, None, None
    if verb == "DROP" and last in ("MODEL", "EXISTS", "PROFILES"):
        return ContextKind.MODEL, None, None
    if (verb, last) in {("COPY", "TO"), ("ANALYZE", "USING")} or (verb == "CREATE" and last == "FROM" and quote):
        return ContextKind.PATH, None, None
    return _NOTHING


def _of_select(frames: list[_Frame], cut: _Cut, text: str) -> _Kind:
    """In the clauses of SELECT, and in the parentheses of its expressions."""
    frame = frames[-1]
    clause = next((f.clause for f in reversed(frames) if f.clause), "")
    if clause == "USING" and cut.tokens[0].upper == "ANALYZE":
        return (ContextKind.PATH, None, None) if cut.quote == "'" else _NOTHING
    if clause == "USING" and frame.last is not None:
        if frame.option is not None:
            return (ContextKind.VALUE, "using", frame.option) if frame.last.text == "=>" else _NOTHING
        return (ContextKind.OPTION, "using", None) if frame.last.upper in ("USING", ",") else _NOTHING
    if cut.quote == "'":
        compared = frame.before if frame.opener == "in" else frame.name
        column = _name(compared).lower() if compared is not None else ""
        kinds = {"label": ContextKind.LABEL, "image": ContextKind.PATH}
        return kinds.get(column, ContextKind.NOTHING), None, None
    quote_start = cut.start - len(cut.quote)
    if clause in _COLUMN_CLAUSES and not _takes_a_type(frame):
        terminals = accepted(text[cut.begin : quote_start])
        if "NAME" in terminals and "AS" not in terminals:  # where an alias may stand there is nothing to offer
            return ContextKind.COLUMN, None, None
    return _NOTHING


def _takes_a_type(frame: _Frame) -> bool:
    """Behind `::` or the AS of CAST."""
    last = frame.last.upper if frame.last is not None else ""
    return last == "::" or (last == "AS" and frame.opener == "cast")
