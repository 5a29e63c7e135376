"""When what was typed is ready to run: a dot command, or statements whose last one ends with `;`."""

from __future__ import annotations

from kryptondb.grammar.scanner import Token, scan


def is_complete(text: str) -> bool:
    """Whether Enter runs the text: nothing to run at all, a dot command, or a `;` after the last statement."""
    if is_dot_command(text):
        return True
    tokens = [token for token in scan(text) if token.kind != "comment" or not token.closed]
    return not tokens or tokens[-1].text == ";"


def is_dot_command(text: str) -> bool:
    """`.mode csv` and its like."""
    return text.lstrip().startswith(".")


def open_string(text: str) -> str | None:
    """What stands after the quote of a string that is still open at the end of the text; None when none is."""
    last = last_token(text)
    if last is None or last.kind != "string" or last.closed:
        return None
    return last.text[1:].replace("''", "'")


def last_token(text: str) -> Token | None:
    """The token at the end of the text, comments too."""
    last = None
    for token in scan(text):
        last = token
    return last
