"""The LALR parser made from occlude.lark, built once, and the question every message asks it: what may come next?"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from kryptondb.grammar.words import RESERVED

if TYPE_CHECKING:
    import lark  # imported by what runs it, for start-up needs none of it

STATEMENT = "statement"
SELECTED = "selected"  # one expression, `*`, HEATMAP, ATTRIBUTION or PREDICTION
LITERAL = "literal"  # one constant, or a list of them


class ReservedWord(Exception):
    """A reserved word stands where only a name can: carries its offset."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def _refuse_reserved(token: lark.Token) -> lark.Token:
    if token.upper() in RESERVED:
        raise ReservedWord(token.start_pos or 0)
    return token


@lru_cache(maxsize=1)
def grammar() -> lark.Lark:
    """The parser. Building it takes about a tenth of a second, paid by the first statement only."""
    import lark

    return lark.Lark(
        files(__package__).joinpath("occlude.lark").read_text(encoding="utf-8"),
        parser="lalr",
        lexer="contextual",
        start=[STATEMENT, SELECTED, LITERAL],
        propagate_positions=True,
        maybe_placeholders=False,
        lexer_callbacks={"NAME": _refuse_reserved},
    )


def accepted(text: str, start: str = STATEMENT) -> frozenset[str]:
    """The terminals that may follow the text, `$END` among them when it may end there; none when it is wrong."""
    import lark

    try:
        parser = grammar().parse_interactive(text, start=start)
        parser.exhaust_lexer()
        return frozenset(parser.accepts())  # type: ignore[no-untyped-call]
    except (lark.exceptions.LarkError, ReservedWord):
        return frozenset()
