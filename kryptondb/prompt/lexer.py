"""The language's colours: a pygments lexer over the language's own scanner, and the style of the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from prompt_toolkit.styles import Style
from pygments.lexer import Lexer
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, Punctuation, String, Text

from kryptondb.grammar.scanner import Token, scan
from kryptondb.grammar.words import FUNCTIONS, KEYWORDS, MODEL_SOURCES, TABLE_FUNCTIONS
from kryptondb.prompt.lines import is_dot_command

_CONSTANTS = frozenset({"NULL", "TRUE", "FALSE"})
_CALLED = frozenset({*FUNCTIONS, *MODEL_SOURCES, *TABLE_FUNCTIONS})
_KINDS = {
    "comment": Comment,
    "string": String,
    "quoted": Name.Variable,
    "number": Number,
    "parameter": Name.Constant,
    "other": Error,
}


class OccludeLexer(Lexer):  # type: ignore[misc]  # pygments has no types
    """Colours a text of the OCCLUDE language, complete or not; never fails."""

    name = "OCCLUDE"
    aliases: ClassVar[list[str]] = ["occlude"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, Any, str]]:
        """Offset, pygments token type and text of every piece."""
        if is_dot_command(text):
            yield 0, Comment.Preproc, text
            return
        tokens = list(scan(text))
        end = 0
        for index, token in enumerate(tokens):
            if token.start > end:
                yield end, Text, text[end : token.start]
            following = tokens[index + 1].text if index + 1 < len(tokens) else ""
            yield token.start, _colour(token, following), token.text
            end = token.end
        if end < len(text):
            yield end, Text, text[end:]


def _colour(token: Token, following: str) -> Any:
    if token.kind == "operator":
        return Punctuation if token.text in "(),;" else Operator
    if token.kind != "word":
        return _KINDS[token.kind]
    if following == "=>":
        return Name.Attribute
    if following == "(" and token.text.lower() in _CALLED:
        return Name.Function
    if token.upper in _CONSTANTS:
        return Keyword.Constant
    return Keyword if token.upper in KEYWORDS else Name


#: Plain terminal colours, so that the user's own palette decides what they look like.
STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "continuation": "ansibrightblack",
        "pygments.keyword": "ansiblue bold",
        "pygments.keyword.constant": "ansimagenta nobold",
        "pygments.name.function": "ansicyan",
        "pygments.name.attribute": "ansicyan",
        "pygments.name.constant": "ansimagenta",
        "pygments.literal.string": "ansigreen",
        "pygments.literal.number": "ansimagenta",
        "pygments.comment": "ansibrightblack",
        "pygments.comment.preproc": "ansiyellow",
        "pygments.error": "ansired",
        "completion-menu": "bg:ansibrightblack fg:ansiwhite",
        "completion-menu.completion": "bg:ansibrightblack fg:ansiwhite",
        "completion-menu.completion.current": "bg:ansiblue fg:ansiwhite bold noreverse",
        "completion-menu.meta.completion": "bg:ansibrightblack fg:ansigray",
        "completion-menu.meta.completion.current": "bg:ansiblue fg:ansiwhite noreverse",
        "scrollbar.background": "bg:ansibrightblack",
        "scrollbar.button": "bg:ansigray",
    }
)
