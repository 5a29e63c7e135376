"""From text to statements: `parse`, `parse_script`, `parse_expression`. A bad text raises ParseError, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kryptondb.errors import ParseError
from kryptondb.grammar.scanner import Piece, Places, split
from kryptondb.grammar.statements import Expression, Statement
from kryptondb.grammar.tree import too_deep
from kryptondb.grammar.words import MAX_CHARACTERS

# Far above any query a person writes, and low enough that the functions that walk a statement may be recursive.
MAX_DEPTH = 100


def parse(text: str) -> Statement:
    """The one statement of a text; a `;` may end it.

    Raises:
        ParseError: where it is not a statement, with what was expected there.
    """
    pieces = _pieces(text)
    if len(pieces) > 1:
        first = pieces[1].tokens[0]
        place = Places(text).at(first.start, first.end)
        raise ParseError(
            "a second statement starts here", position=place, hint="Give one statement at a time.", text=text
        )
    statement: Statement = _build(text, pieces[0], "statement")
    return statement


def parse_script(text: str) -> tuple[Statement, ...]:
    """Every statement of a text, separated by `;`. Positions count from the start of the whole text.

    `?` counts from the first one anew in each statement.
    """
    _check_size(text)
    return tuple(_build(text, piece, "statement") for piece in split(text))


def parse_expression(text: str) -> Expression:
    """One expression, `*`, HEATMAP, ATTRIBUTION or PREDICTION: what `str(expression)` wrote, read back."""
    pieces = _pieces(text)
    if len(pieces) > 1 or text[pieces[0].end :].lstrip().startswith(";"):
        semicolon = text.index(";", pieces[0].end)
        raise ParseError(
            'unexpected ";" after an expression', position=Places(text).at(semicolon, semicolon + 1), text=text
        )
    expression: Expression = _build(text, pieces[0], "selected")
    return expression


def _pieces(text: str) -> list[Piece]:
    """The statements of a text, at least one."""
    _check_size(text)
    pieces = split(text)
    if not pieces:
        end = len(text.rstrip())
        raise ParseError("there is no statement here", position=Places(text).at(end, end), text=text)
    return pieces


def _check_size(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise ParseError(
            f"the text is too long: {len(text):,} characters",
            hint=f"The most is {MAX_CHARACTERS:,}. Give long lists as a parameter.",
        )


def _build(text: str, piece: Piece, start: str) -> Any:
    from lark.exceptions import UnexpectedInput, VisitError

    from kryptondb.grammar.build import Builder
    from kryptondb.grammar.diagnose import diagnose
    from kryptondb.grammar.engine import ReservedWord, grammar

    places = Places(text)
    for offset in _parentheses_too_deep(piece):
        raise _nested_too_deep(text, places, offset, offset + 1)
    try:
        tree = grammar().parse(text[piece.start : piece.end], start=start)
    except ReservedWord as error:
        raise diagnose(text, piece, piece.start + error.offset, start) from None
    except UnexpectedInput as error:
        token = getattr(error, "token", None)  # absent when the lexer, not the parser, was at a loss
        place = error.pos_in_stream if token is None else token.start_pos if token.type != "$END" else None
        raise diagnose(text, piece, piece.end if place is None else piece.start + place, start) from None
    try:
        node = Builder(text, places, piece.start).transform(tree)
    except VisitError as error:
        if isinstance(error.orig_exc, ParseError):
            raise error.orig_exc from None
        raise
    deepest = too_deep(node, MAX_DEPTH)
    if deepest is not None and deepest.position is not None:
        raise _nested_too_deep(text, places, deepest.position.start, deepest.position.end)
    return node


def _parentheses_too_deep(piece: Piece) -> Iterator[int]:
    """Offsets of the opening parentheses below the deepest level allowed."""
    depth = 0
    for token in piece.tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth > MAX_DEPTH and token.text == "(":
            yield token.start


def _nested_too_deep(text: str, places: Places, start: int, end: int) -> ParseError:
    hint = f"The deepest nesting is {MAX_DEPTH} levels. A long chain of OR is shorter as IN (...)."
    return ParseError("this is nested too deeply", position=places.at(start, end), hint=hint, text=text)
