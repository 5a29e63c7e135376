"""A text cut into tokens and statements, without knowing the grammar: for `;`, prompts, completion and messages.

The grammar's own lexer decides what a text means. This one never fails, so it can look at a text that is wrong.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from kryptondb.errors import Position

_TOKEN = re.compile(
    r"""
      (?P<space>[\s\ufeff]+)
    | (?P<comment>--[^\n]*|/\*.*?(?:\*/|(?P<open_comment>\Z)))
    | (?P<string>'[^']*(?:''[^']*)*(?:'|(?P<open_string>\Z)))
    | (?P<quoted>"[^"]*(?:""[^"]*)*(?:"|(?P<open_quoted>\Z)))
    | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[\w.]*)
    | (?P<parameter>[?$]\w*)
    | (?P<word>[^\W\d]\w*)
    | (?P<operator>=>|::|<>|!=|<=|>=|==|->|:=|\|\||[-+*/%=<>(),;])
    | (?P<other>.)
    """,
    re.DOTALL | re.VERBOSE,
)


class Token(NamedTuple):
    """A piece of text: `kind` is comment, string, quoted, number, parameter, word, operator or other."""

    kind: str
    text: str
    start: int
    end: int
    closed: bool = True

    @property
    def upper(self) -> str:
        """The text in upper case, for comparing with keywords; a string or quoted name never equals one."""
        return self.text.upper()


@dataclass(frozen=True)
class Piece:
    """One statement's stretch of a text: from its first token to the end of its last, without the `;`."""

    start: int
    end: int
    tokens: tuple[Token, ...]


def scan(text: str) -> Iterator[Token]:
    """Every token of the text, comments too, space left out. A quote or comment without its end is not `closed`."""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        closed = kind not in ("comment", "string", "quoted") or match["open_" + kind] is None
        if kind != "space":
            yield Token(kind, match[0], match.start(), match.end(), closed)


def split(text: str) -> Iterator[Piece]:
    """The statements of a text, cut at `;` outside quotes and comments; empty ones are left out."""
    tokens: list[Token] = []
    for token in chain(scan(text), (Token("operator", ";", len(text), len(text)),)):
        if token.text == ";":
            if tokens:
                yield Piece(tokens[0].start, tokens[-1].end, tuple(tokens))
            tokens = []
        elif token.kind != "comment" or not token.closed:
            tokens.append(token)


def split_statements(text: str) -> list[tuple[str, int]]:
    r"""Each statement of a script and the offset at which it starts, without its `;`.

    >>> split_statements("SHOW MODELS; -- all of them\n SHOW SAMPLES;")
    [('SHOW MODELS', 0), ('SHOW SAMPLES', 29)]
    """
    return [(text[piece.start : piece.end], piece.start) for piece in split(text)]


def is_complete(text: str) -> bool:
    """Whether a prompt may run the text: its last token is a `;` (comments may follow)."""
    last = None
    for token in scan(text):
        if token.kind != "comment" or not token.closed:
            last = token
    return last is not None and last.text == ";"


class Places:
    """Turns character offsets of one text into positions. Lines end at a newline character and count from 1."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def at(self, start: int, end: int) -> Position:
        """The position of `text[start:end]`."""
        line = bisect.bisect_right(self._starts, start)
        return Position(start, end, line, start - self._starts[line - 1] + 1)
