"""The grammar: text -> statements, statements -> text, and what to say when a text is neither.

occlude.lark is the language. Nothing here knows a model, a column or an option by name; the binder does.
"""

from __future__ import annotations

from kryptondb.grammar.parser import parse, parse_expression, parse_literal, parse_script
from kryptondb.grammar.scanner import is_complete, split_statements
from kryptondb.grammar.words import (
    AGGREGATES,
    FUNCTIONS,
    KEYWORDS,
    RESERVED,
    SCALARS,
    TABLE_FUNCTIONS,
    quote_identifier,
    quote_string,
)
from kryptondb.grammar.writer import unparse

__all__ = [
    "AGGREGATES",
    "FUNCTIONS",
    "KEYWORDS",
    "RESERVED",
    "SCALARS",
    "TABLE_FUNCTIONS",
    "is_complete",
    "parse",
    "parse_expression",
    "parse_literal",
    "parse_script",
    "quote_identifier",
    "quote_string",
    "split_statements",
    "unparse",
]
