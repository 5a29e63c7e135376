"""From text to statements: `parse`, `parse_script`, `parse_expression`. A bad text raises ParseError, nothing else.

Every step takes time and memory in proportion to the text, and a text may only hold so much.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from kryptondb.errors import ParseError
from kryptondb.grammar.diagnosis import diagnose
from kryptondb.grammar.engine import LITERAL, SELECTED, STATEMENT, ReservedWord, grammar
from kryptondb.grammar.scanner import Piece, Places, scan, split
from kryptondb.grammar.statements import Expression, ListLiteral, Literal, Node, Statement
from kryptondb.grammar.words import MAX_CHARACTERS, MAX_TEXT_WORDS, MAX_WORDS

# Far above any query a person writes, and low enough that the functions that walk a statement may be recursive.
MAX_DEPTH = 100


def parse(text: str) -> Statement:
    """The one statement of a text; a `;` may end it.

    Raises:
        ParseError: where it is not a statement, with what was expected there.
    """
    _check_size(text)
    places = Places(text)
    pieces = split(text)
    first, second = _first(text, places, pieces), next(pieces, None)
    if second is not None:
        place = places.at(second.tokens[0].start, second.tokens[0].end)
        raise ParseError(
            "a second statement starts here", position=place, hint="Give one statement at a time.", text=text
        )
    statement: Statement = _build(text, places, first, STATEMENT)
    return statement


def parse_script(text: str) -> tuple[Statement, ...]:
    """Every statement of a text, separated by `;`. Positions count from the start of the whole text.

    `?` counts from the first one anew in each statement.
    """
    _check_size(text)
    places = Places(text)
    return tuple(_build(text, places, piece, STATEMENT) for piece in split(text))


def parse_expression(text: str) -> Expression:
    """One expression, `*`, HEATMAP, ATTRIBUTION or PREDICTION: what `str(expression)` wrote, read back."""
    _check_size(text)
    places = Places(text)
    first = _first(text, places, split(text))
    if text[first.end :].lstrip().startswith(";"):
        semicolon = text.index(";", first.end)
        place = places.at(semicolon, semicolon + 1)
        raise ParseError('unexpected ";" after an expression', position=place, text=text)
    expression: Expression = _build(text, places, first, SELECTED)
    return expression


def parse_literal(text: str) -> Expression | None:
    """A number, a string in quotes, TRUE, FALSE, NULL or a list of them; None for a text that is not a literal.

    A bare text in a list is a string: `(a.png, b.png)`.

    Raises:
        ParseError: a number that is too large.
    """
    literal = _literal(text)
    if literal is None and (items := _bare_items(text)):
        return ListLiteral(tuple(_literal(item) or Literal(item) for item in items))
    return literal


def _literal(text: str) -> Expression | None:
    """What the grammar's rule for literals reads in a text."""
    from lark.exceptions import UnexpectedInput

    try:
        _check_size(text)
        places = Places(text)
        first = _first(text, places, split(text))
        _check_nesting(text, places, first)
        if first.end - first.start < len(text.strip()) or any(token.kind == "comment" for token in scan(text)):
            return None
        tree = grammar().parse(text[first.start : first.end], start=LITERAL)
    except (ParseError, UnexpectedInput, ReservedWord):
        return None
    literal: Expression = _transformed(text, places, first, tree)
    return literal


def _bare_items(text: str) -> list[str] | None:
    """The texts between the commas of a list in parentheses; None for any other text, and where one is empty."""
    tokens = list(scan(text)) if len(text) <= MAX_CHARACTERS else []
    if not tokens or tokens[0].text != "(" or any(token.kind == "comment" or not token.closed for token in tokens):
        return None
    depth, cuts = 0, [tokens[0].end]
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == (0 if token.text == ")" else 1) and token.text in (",", ")"):
            cuts.append(token.end)
        if depth == 0 and token is not tokens[-1]:
            return None
    items = [text[start : end - 1].strip() for start, end in pairwise(cuts)]
    return items if depth == 0 and all(items) else None


def _first(text: str, places: Places, pieces: Iterator[Piece]) -> Piece:
    first = next(pieces, None)
    if first is None:
        end = len(text.rstrip())
        raise ParseError("no statement here", position=places.at(end, end), text=text)
    return first


def _check_size(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise ParseError(
            f"the text is too long: {len(text):,} characters",
            hint=f"The most is {MAX_CHARACTERS:,}. Give long lists as a parameter.",
        )
    inside = total = 0
    for token in scan(text):
        if token.kind == "comment":
            continue
        inside = 0 if token.text == ";" else inside + 1
        total += 1
        if inside > MAX_WORDS or total > MAX_TEXT_WORDS:
            what, most, hint = "statement", MAX_WORDS, "Give a long list as a parameter."
            if inside <= MAX_WORDS:
                what, most, hint = "text", MAX_TEXT_WORDS, "Run it in parts."
            place = Places(text).at(token.start, token.end)
            message = f"this {what} has more than {most:,} words and signs"
            raise ParseError(message, position=place, hint=hint, text=text)


def _build(text: str, places: Places, piece: Piece, start: str) -> Any:
    from lark.exceptions import UnexpectedInput

    _check_nesting(text, places, piece)
    try:
        tree = grammar().parse(text[piece.start : piece.end], start=start)
    except ReservedWord as error:
        raise diagnose(text, piece, piece.start + error.offset, start) from None
    except UnexpectedInput as error:
        token = getattr(error, "token", None)  # absent when the lexer, not the parser, was at a loss
        place = error.pos_in_stream if token is None else token.start_pos if token.type != "$END" else None
        raise diagnose(text, piece, piece.end if place is None else piece.start + place, start) from None
    node = _transformed(text, places, piece, tree)
    level: list[Node] = [node]
    for _ in range(MAX_DEPTH + 1):
        level = [child for parent in level for child in parent.children]
    if level and level[0].position is not None:
        raise _nested_too_deep(text, places, level[0].position.start, level[0].position.end)
    return node


def _transformed(text: str, places: Places, piece: Piece, tree: Any) -> Any:
    from lark.exceptions import VisitError

    from kryptondb.grammar.statement_builder import Builder

    try:
        return Builder(text, places, piece.start).transform(tree)
    except VisitError as error:
        if isinstance(error.orig_exc, ParseError):
            raise error.orig_exc from None
        raise


def _check_nesting(text: str, places: Places, piece: Piece) -> None:
    """Raises a ParseError at the first parenthesis below the deepest level allowed."""
    depth = 0
    for token in piece.tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth > MAX_DEPTH and token.text == "(":
            raise _nested_too_deep(text, places, token.start, token.end)


def _nested_too_deep(text: str, places: Places, start: int, end: int) -> ParseError:
    hint = f"The deepest nesting is {MAX_DEPTH} levels. A long chain of OR is shorter as IN (...)."
    return ParseError("this is nested too deeply", position=places.at(start, end), hint=hint, text=text)
