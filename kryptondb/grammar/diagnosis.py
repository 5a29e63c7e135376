"""What to say about a text that is not a statement: the place, the word, what was expected, what may be meant."""

from __future__ import annotations

import difflib
import re

from kryptondb.errors import ParseError
from kryptondb.grammar.completion import ContextKind, context
from kryptondb.grammar.engine import STATEMENT, accepted
from kryptondb.grammar.scanner import Piece, Places, Token
from kryptondb.grammar.words import (
    IMAGE_ITEMS,
    KEYWORDS,
    MISSING,
    MODEL_SOURCES,
    RESERVED,
    TABLE_FILES,
    TABLE_FUNCTIONS,
    quote_identifier,
    quote_string,
)

_SIGNS = {
    "ARROW": '"=>"',
    "COMMA": '","',
    "LPAR": '"("',
    "RPAR": '")"',
    "PLUS": '"+"',
    "MINUS": '"-"',
    "STAR": '"*"',
    "SLASH": '"/"',
    "PERCENT": '"%"',
    "EQUAL": '"="',
    "DIFFERENT": '"<>"',
    "BELOW": '"<"',
    "AT_MOST": '"<="',
    "ABOVE": '">"',
    "AT_LEAST": '">="',
    "CASTS": '"::"',
}
_OPERATORS = frozenset(
    [
        *("PLUS", "MINUS", "STAR", "SLASH", "PERCENT", "EQUAL", "DIFFERENT", "UNEQUAL", "BELOW", "AT_MOST", "ABOVE"),
        *("AT_LEAST", "CASTS", "AND", "OR", "NOT", "BETWEEN", "IN", "IS", "LIKE", "ILIKE", "ESCAPE"),
    ]
)
_OPERANDS = frozenset(
    [
        *("NAME", "QUOTED", "STRING", "NUMBER", "PLACEHOLDER", "LPAR", "MINUS", "NOT", "NULL", "TRUE", "FALSE"),
        *("CASE", "CAST"),
    ]
)
_NAMES = {
    ContextKind.MODEL: "a model name",
    ContextKind.OPTION: "an option name",
    ContextKind.SETTING: "a setting name",
}
# Signs of other languages, and what to write here.
_FOREIGN = {
    "==": 'Equality is written "=".',
    "->": "Options are written name => value.",
    ":=": "Options are written name => value.",
    ":": "Options are written name => value, parameters $name.",
    "@": "Parameters are written ? or $name.",
    "&": "And is written AND.",
    "|": "Or is written OR.",
    "!": 'Negation is written NOT, inequality "<>".',
    "`": 'Names are quoted with ".',
    **dict.fromkeys("./\\~", "A path is quoted: 'scans/a.png'."),
    **dict.fromkeys("\u2018\u2019\u201c\u201d\u00ab\u00bb", "Quotes are the plain ones: 'a string', \"a name\"."),
    **dict.fromkeys("[]{}", "Lists are written in parentheses: (1, 2)."),
}
_PARAMETER = re.compile(r"\?[0-9]*|\$[^\W\d]\w*")
_COMPARISONS = frozenset(("=", "<>", "!=", "<", "<=", ">", ">="))
# Words of standard SQL that would read as a name here.
_NAMES_ALONE = frozenset(("OVER", "FILTER", "WITHIN", "GROUPING"))
_CLAUSES = ("WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET")
_SOURCES = " or ".join(f"{name}({', '.join(wanted)}, ...)" for name, wanted in TABLE_FUNCTIONS.items())
_MOST_ALTERNATIVES = 6


def diagnose(text: str, piece: Piece, offset: int, start: str = STATEMENT) -> ParseError:
    """The error for the piece of a text that cannot go on at `offset`."""
    found = _Diagnosis(text, piece, offset, start)
    earlier = found.misspelt_alias()
    return (found if earlier is None else _Diagnosis(text, piece, earlier, start)).error()


class _Diagnosis:
    def __init__(self, text: str, piece: Piece, offset: int, start: str) -> None:
        self.text = text
        self.piece = piece
        self.start = start
        tokens = piece.tokens
        index = next((i for i, token in enumerate(tokens) if token.end > offset), len(tokens))
        self.token = tokens[index] if index < len(tokens) else None
        self.before = tokens[:index]
        self.previous = tokens[index - 1] if index else None
        offset = self.token.start if self.token else piece.end
        self.index = index
        self.terminals = accepted(text[piece.start : offset], start)
        self.context = context(text[piece.start : offset])

    def misspelt_alias(self) -> int | None:
        """Where the word before reads as an alias, and is nearly a keyword: `SELECT HEATMAP FORM occlude(...)`."""
        word = self.previous
        if self.index < 2 or word is None or word.kind != "word" or word.upper in RESERVED:
            return None
        terminals = accepted(self.text[self.piece.start : word.start], self.start)
        if not {"AS", "FROM", "NAME"} <= terminals or not _meant(word.text, [k for k in KEYWORDS if k in terminals]):
            return None
        return word.start

    def error(self) -> ParseError:
        """The first rule that knows what is wrong speaks."""
        rules = (
            *(self._quote_in_string, self._unclosed, self._missing, self._foreign),
            *(self._parentheses, self._too_early),
        )
        for rule in rules:
            error = rule()
            if error is not None:
                return error
        assert self.token is not None
        return self._unexpected(self.token)

    def _at(self, token: Token, message: str, hint: str | None, length: int | None = None) -> ParseError:
        place = Places(self.text).at(token.start, token.end if length is None else token.start + length)
        return ParseError(message, position=place, hint=hint, text=self.text)

    # Rules

    def _quote_in_string(self) -> ParseError | None:
        token, previous = self.token, self.previous
        if token is None or previous is None or previous.kind != "string" or previous.end != token.start:
            return None
        if token.kind not in ("word", "number", "string", "other"):
            return None
        hint = "A quote inside a string is written twice: 'it''s'."
        return self._at(token, f"{_show(token)} right after a string", hint)

    def _unclosed(self) -> ParseError | None:
        last = self.piece.tokens[-1]
        if last.closed:
            return None
        if last.kind == "comment":
            return self._at(last, "this comment is never closed", "End it with */.", 2)
        if last.kind == "quoted":
            hint = "End the name with \". A string takes single quotes: 'a string'."
            return self._at(last, "this quoted name is never closed", hint, 1)
        hint = "End the string with '. A quote inside a string is written twice: 'it''s'."
        return self._at(last, "this string is never closed", hint, 1)

    def _missing(self) -> ParseError | None:
        """What standard SQL has and this language does not."""
        token, previous = self.token, self.previous
        if token is None:
            return None
        tokens = self.piece.tokens
        after = tokens[self.index + 1] if self.index + 1 < len(tokens) else token
        before = previous.upper if previous is not None and previous.kind == "word" else ""
        reads_a_table = {"WHERE", "USING", "$END"} <= self.terminals
        if token.upper == "SELECT" and previous is not None and previous.text == "(" and before != "COPY":
            return self._at(token, "a subquery is not supported", "IN takes a list, or a parameter bound to one.")
        if token.text == "(" and after.upper == "SELECT" and "OCCLUDE" in self.terminals:
            hint = f"FROM takes {_SOURCES}."
            return self._at(token, "a subquery is not supported", hint)
        if token.upper == "WITH" and previous is None and self.start == STATEMENT:
            hint = "There are no common table expressions. A promise stands behind: SELECT ... WITH SSIM >= 0.9."
            return self._at(token, "WITH before SELECT is not supported", hint)
        if before == "IS" or (before == "NOT" and self.index > 1 and self.before[-2].upper == "IS"):
            if token.upper == "DISTINCT":
                return self._at(token, "IS DISTINCT FROM is not supported", "Compare with = and IS NULL.")
            if token.upper in ("TRUE", "FALSE", "UNKNOWN"):
                hint = "IS takes NULL. A condition stands alone: WHERE exact, WHERE NOT exact."
                return self._at(token, f"IS {token.upper} is not supported", hint)
        named = token.upper == "AS" or (
            token.kind in ("word", "quoted")
            and token.upper not in RESERVED | set(MISSING)
            and previous is not None
            and previous.text == ")"
            and _meant(token.text, [name for name in KEYWORDS if name in self.terminals]) is None
        )
        if reads_a_table and named:
            if after.upper in MISSING:
                return self._named_missing(after)
            return self._at(token, "another name for the table is not supported", "Columns are written without it.")
        if token.text == "," and self.index > 1 and self.before[-2].upper == "LIMIT":
            return self._at(token, "LIMIT takes one number", "LIMIT n OFFSET m skips the first m rows.")
        if reads_a_table and token.text == ",":
            return self._at(token, "a list of tables is not supported", "A query reads one table.")
        if token.kind == "word" and token.upper in MISSING and token.upper not in self.terminals:
            return self._named_missing(token)
        if previous is not None and before in _NAMES_ALONE:
            return self._named_missing(previous)
        if token.text == "||":
            hint = "Select the parts, and join them where the result is read. Or is written OR."
            return self._at(token, "concatenation (||) is not supported", hint)
        if token.text == "/" and previous is not None and previous.text == "/" and previous.end == token.start:
            hint = "CAST((a - a % b) / b AS BIGINT) is a // b of whole numbers."
            return self._at(previous, "integer division (//) is not supported", hint, 2)
        if token.text == "." and "PLUS" in self.terminals and previous is not None and previous.end == token.start:
            hint = f"A query reads one table. Write the column alone: {_short(after.text)}."
            return self._at(previous, "a qualified name (table.column) is not supported", hint)
        if before == "TOP" and token.kind == "number" and "TOP" not in self.terminals:
            return self._at(self.before[-1], "TOP is not supported here", "LIMIT n keeps the first n rows.")
        return None

    def _named_missing(self, token: Token) -> ParseError:
        name, hint = MISSING[token.upper]
        return self._at(token, f"{name or token.upper} is not supported", hint)

    def _foreign(self) -> ParseError | None:
        token = self.token
        if token is None:
            return None
        hint = _FOREIGN.get(token.text)
        if token.text == "=" and "ARROW" in self.terminals:
            hint = _FOREIGN["->"]
        elif token.kind == "number" and token.text[-1] not in "0123456789.":
            hint = f"A size or a name is quoted: {quote_string(_short(token.text))}."
            return self._at(token, f'"{_short(token.text)}" is not a number', hint)
        elif token.kind == "number" and token.text.count(".") > 1:
            return self._at(token, f'"{_short(token.text)}" is not a number', None)
        elif token.kind == "parameter" and not _PARAMETER.fullmatch(token.text):
            return self._at(token, f'"{_short(token.text)}" is not a parameter', "Parameters are written ? or $name.")
        elif token.kind == "quoted" and "STRING" in self.terminals and "QUOTED" not in self.terminals:
            name = token.text[1:-1].replace('""', '"')
            hint = f"A string takes single quotes: {quote_string(_short(name))}."
            return self._at(token, f"{_show(token)} is a name, not a string", hint)
        elif token.kind == "string" and "QUOTED" in self.terminals and "STRING" not in self.terminals:
            name = token.text[1:-1].replace("''", "'")
            hint = f"Write the name as {quote_identifier(_short(name))}."
            return self._at(token, f"{_show(token)} is a string, not a name", hint)
        elif token.kind == "other" and hint is None:
            return self._at(token, f"{token.text!r} has no meaning here", self._expected())
        return self._at(token, f'unexpected "{token.text}"', hint) if hint else None

    def _parentheses(self) -> ParseError | None:
        opened: list[Token] = []
        for earlier in self.before:
            if earlier.text == "(":
                opened.append(earlier)
            elif earlier.text == ")" and opened:
                opened.pop()
        token = self.token
        if token is not None and token.text == ")" and not opened:
            return self._at(token, 'this ")" closes nothing', None)
        if not opened or (token is not None and not self._ends_parenthesis(token)):
            return None
        before = f"before {_show(token)}" if token else "at the end"
        hint = f'Expected ")" {before}.' if "RPAR" in self.terminals else self._expected()
        return self._at(opened[-1], 'this "(" is never closed', hint)

    def _ends_parenthesis(self, token: Token) -> bool:
        """Whether the token is a clause that follows a forgotten `)`."""
        follows = token.kind == "word" and token.upper in RESERVED and "RPAR" in self.terminals
        count = sum({"(": 1, ")": -1}.get(other.text, 0) for other in self.piece.tokens)
        return follows and count > 0

    def _too_early(self) -> ParseError | None:
        if self.token is not None:
            return None
        end = self.piece.end
        place = Places(self.text).at(end, end)
        return ParseError("unexpected end of statement", position=place, hint=self._expected(), text=self.text)

    def _unexpected(self, token: Token) -> ParseError:
        shown = _show(token)
        message, hint = f"unexpected {shown}", self._expected()
        word = token.kind == "word"
        candidates = [name for name in KEYWORDS if name in self.terminals]
        alternatives = len(self._alternatives())
        meant = _meant(token.text, candidates) if word and token.upper not in RESERVED else None
        if self.previous is None and self.start == STATEMENT:
            message = f"unknown statement {shown}" if word else f"a statement cannot start with {shown}"
        elif "OCCLUDE" in self.terminals:
            if word:
                message = f"unknown table function {shown}"
            hint = f"FROM takes {_SOURCES}."
        elif "TORCHVISION" in self.terminals:
            if word:
                message = f"unknown model source {shown}"
            hint = "A model comes FROM torchvision('...'), timm('...'), pretrained('...') or 'file'."
        elif token.upper in RESERVED and self.terminals <= {"NAME", "QUOTED"}:
            message = f"{shown} is a keyword, not a name"
            hint = f"{self._expected()} Quoted, it is a name: {quote_identifier(token.text)}."
        elif token.upper in _CLAUSES and self._stands_late(token):
            hint = "The clauses come in the order WHERE, GROUP BY, HAVING, ORDER BY, LIMIT, OFFSET, each once."
        elif token.upper in _CLAUSES and self._stands_after_promise():
            hint = "WITH and USING stand before WHERE or after LIMIT, not between the clauses."
        elif token.text in _COMPARISONS and "AND" in self.terminals and "NAME" not in self.terminals:
            hint = "Comparisons do not chain: join two with AND."
        elif word and "STRING" in self.terminals and "NAME" not in self.terminals and not meant:
            hint = f"{hint} Did you mean {quote_string(_short(token.text))}?"
        if meant and (self.previous is None or alternatives == 1):
            return self._at(token, message, meant)
        return self._at(token, message, " ".join(filter(None, (meant, hint))) or None)

    def _stands_late(self, token: Token) -> bool:
        """Whether a clause that comes after this one, or this one itself, stands already."""
        later = _CLAUSES[_CLAUSES.index(token.upper) :]
        return "USING" in self.terminals and any(earlier.upper in later for earlier in self.before)

    def _stands_after_promise(self) -> bool:
        """Whether WHERE or a later clause stands already, and WITH or USING after it."""
        return "USING" in self.terminals and any(earlier.upper in _CLAUSES for earlier in self.before)

    # What was expected

    def _expected(self) -> str | None:
        """`Expected FROM, AS or ",".`, at most six alternatives, or None when nothing is known."""
        alternatives = self._alternatives()
        if not alternatives:
            return None
        alternatives = alternatives[:_MOST_ALTERNATIVES]
        *most, last = alternatives
        return f"Expected {', '.join(most)} or {last}." if most else f"Expected {last}."

    def _alternatives(self) -> list[str]:
        terminals = set(self.terminals)
        if {"AS", "FROM"} <= terminals:
            terminals -= {"NAME", "QUOTED"}  # an alias, which AS stands for
        if "GROUP" in terminals:
            terminals -= {"HAVING"}
        if "LIMIT" in terminals:
            terminals -= {"OFFSET"}
        if self._follows_a_bare_word():
            terminals -= {"LPAR"}
        if self.previous is None and self.start == STATEMENT:
            return ["a statement: SELECT, CREATE MODEL, SHOW, EXPLAIN, COPY", "SET"]
        found: list[str] = []
        end = []
        if {"NAME", "NUMBER", "STRING"} <= terminals:
            found, gone = self._operand(terminals)
            terminals -= gone
        else:
            if "NAME" in terminals:
                found.append(_NAMES.get(self.context.kind, "a name"))
            if "STRING" in terminals:
                found.append("a string in quotes")
            if "NUMBER" in terminals:
                whole = self.previous is not None and self.previous.upper in ("LIMIT", "TOP")
                found.append("a whole number" if whole else "a number")
                terminals -= {"MINUS"}
            if "PLACEHOLDER" in terminals:
                end.append("a parameter")
        if len(terminals & _OPERATORS) > 4:
            terminals -= _OPERATORS - ({"AND"} if "OR" not in terminals else set())  # BETWEEN x still lacks its AND
            end.append("an operator")
        if "$END" in terminals:
            end.append("the end")
        terminals -= {"SECOND", "UNEQUAL"}
        words = [{"GROUP": "GROUP BY", "ORDER": "ORDER BY"}.get(word, word) for word in KEYWORDS if word in terminals]
        signs = [sign for name, sign in _SIGNS.items() if name in terminals]
        return found + words + signs + end

    def _follows_a_bare_word(self) -> bool:
        """Whether a value has ended in a word: a parenthesis would make it a table file, which only two words name."""
        if self.previous is None or self.previous.kind != "word" or self.previous.text.lower() in TABLE_FILES:
            return False
        if self.previous.upper in RESERVED:
            return False
        return len(self.terminals) > 1 and not self.terminals & {"NAME", *_OPERATORS}

    def _operand(self, terminals: set[str]) -> tuple[list[str], frozenset[str]]:
        """How to say that a value may come, and the terminals this says."""
        if self.context.kind is ContextKind.MODEL:
            return ["a model name"], _OPERANDS
        if self.context.kind is ContextKind.PATH:
            return ["a path in quotes", "a list", "a parameter"], _OPERANDS
        if self.context.kind is ContextKind.OPTION:
            return ["an option (name => value)"], _OPERANDS
        if "HEATMAP" in terminals:
            return [*IMAGE_ITEMS, '"*"', "a column"], _OPERANDS | {*IMAGE_ITEMS, "STAR", "DISTINCT"}
        if "NOT" in terminals:
            return ["a column, a number or another expression"], _OPERANDS | {"DISTINCT"}
        if "TOP" in terminals:
            return ["a value", "TOP k", "ALL"], _OPERANDS | {"TOP", "ALL"}
        return ["a value"], _OPERANDS


def _show(token: Token) -> str:
    """The token as a message names it, cut when it is long."""
    text = _short(token.text)
    return text if token.kind in ("string", "number", "quoted") else f'"{text}"'


def _short(text: str) -> str:
    """The text, cut when it is long."""
    return text if len(text) <= 40 else text[:37] + "..."


def _meant(word: str, candidates: list[str]) -> str | None:
    """`Did you mean "FROM"?` for the one keyword that is nearly the word, or None."""
    near = difflib.get_close_matches(word.upper(), candidates, n=1, cutoff=0.7)
    if not near:
        return None
    functions = {name.upper(): name for name in (*TABLE_FUNCTIONS, *MODEL_SOURCES)}
    return f'Did you mean "{functions.get(near[0], near[0])}"?'
