"""CSV cells that a spreadsheet would run as a formula: text that begins with = + - @, a tab or a carriage return.

A label or a file name comes from anywhere, and a formula in it reads other cells, opens addresses or starts programs.
A ' before it makes it text to every spreadsheet. Numbers are never touched.
"""

from __future__ import annotations

import re

#: How they begin; also in the words of Arrow's regular expressions.
PATTERN = r"\A([=+\-@\t\r])"
REPLACEMENT = r"'\1"

_FORMULA = re.compile(PATTERN)


def as_text(cell: str) -> str:
    """The text of a cell, so that no spreadsheet takes it for a formula."""
    return _FORMULA.sub(REPLACEMENT, cell)
