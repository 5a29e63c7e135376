"""A parse tree into expressions and options: one method a rule of occlude.lark, and what a grammar cannot check."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import lark
from lark.tree import Meta
from lark.visitors import Transformer_NonRecursive, v_args

from kryptondb.errors import ParseError, Position, did_you_mean
from kryptondb.grammar import statements as s
from kryptondb.grammar.scanner import Places
from kryptondb.grammar.words import AGGREGATES, FUNCTIONS, MAX_ITEMS, MISSING, TABLE_FILES, TYPES
from kryptondb.text.plain_text import printable

LARGEST_INTEGER = 2**63 - 1

_Kind = TypeVar("_Kind", bound=s.Node)


@dataclass(frozen=True)
class Word:
    """A name with its place."""

    text: str
    position: Position


@dataclass(frozen=True)
class _Part:
    """Expressions on their way into the CASE they belong to: its operand, a condition and its result, or the rest."""

    role: str  # 'operand', 'when' or 'otherwise'
    expressions: tuple[s.Expression, ...]


def of_kind(kind: type[_Kind], children: Sequence[Any]) -> tuple[_Kind, ...]:
    """The children of one kind."""
    return tuple(child for child in children if isinstance(child, kind))


def has(children: Sequence[Any], *terminals: str) -> bool:
    """Whether a keyword token of one of these terminals is among the children."""
    return any(isinstance(child, lark.Token) and child.type in terminals for child in children)


@v_args(meta=True)
class ExpressionBuilder(Transformer_NonRecursive[lark.Token, Any]):
    """Builds everything of one parse tree that is smaller than a clause.

    Args:
        text: the whole text, for messages.
        places: of the whole text.
        base: the offset in it at which the parsed piece starts.
    """

    def __init__(self, text: str, places: Places, base: int) -> None:
        super().__init__()
        self._text = text
        self._places = places
        self._base = base
        self._parameters = 0

    # Places and complaints

    def _at(self, meta: Meta) -> Position:
        return self._places.at(self._base + meta.start_pos, self._base + meta.end_pos)

    def _token(self, token: lark.Token) -> Position:
        start = self._base + (token.start_pos or 0)
        return self._places.at(start, start + len(token))

    def _error(self, message: str, position: Position | None, hint: str | None = None) -> ParseError:
        return ParseError(message, position=position, hint=hint, text=self._text)

    def _number(self, token: lark.Token) -> int | float:
        if token.isdigit():
            digits = token.lstrip("0") or "0"
            # The length first: Python refuses to read thousands of digits.
            if len(digits) > 19 or int(digits) > LARGEST_INTEGER:
                raise self._error(
                    "this whole number is too large", self._token(token), f"The largest is {LARGEST_INTEGER}."
                )
            return int(digits)
        value = float(token)
        if math.isinf(value):
            raise self._error("this number is too large", self._token(token), "The largest is about 1.8e308.")
        return value

    def _whole(self, token: lark.Token, what: str) -> int:
        value = self._number(token)
        if not isinstance(value, int):
            raise self._error(f"{what} takes a whole number, not {token}", self._token(token))
        return value

    # Words and values

    def name(self, meta: Meta, children: list[lark.Token]) -> Word:
        token = children[0]
        if token.type == "NAME":
            return Word(str(token), self._at(meta))
        text = token[1:-1].replace('""', '"')
        if not text:
            raise self._error("a name cannot be empty", self._token(token))
        return Word(printable(text), self._at(meta))

    copy_name = name

    def column(self, meta: Meta, children: list[Word]) -> s.Column:
        return s.Column(children[0].text, position=self._at(meta))

    def number(self, meta: Meta, children: list[lark.Token]) -> s.Literal:
        return s.Literal(self._number(children[0]), position=self._at(meta))

    def string(self, meta: Meta, children: list[lark.Token]) -> s.Literal:
        return s.Literal(children[0][1:-1].replace("''", "'"), position=self._at(meta))

    def null(self, meta: Meta, children: list[Any]) -> s.Literal:
        return s.Literal(None, position=self._at(meta))

    def true(self, meta: Meta, children: list[Any]) -> s.Literal:
        return s.Literal(True, position=self._at(meta))

    def false(self, meta: Meta, children: list[Any]) -> s.Literal:
        return s.Literal(False, position=self._at(meta))

    def negative(self, meta: Meta, children: list[s.Literal]) -> s.Literal:
        return s.Literal(-children[0].value, position=self._at(meta))  # type: ignore[operator]

    def parameter(self, meta: Meta, children: list[lark.Token]) -> s.Parameter:
        """`?` is the one after the highest so far; `?n` is the n-th, from 1, as in SQLite."""
        token = children[0]
        if token.startswith("$"):
            return s.Parameter(name=str(token[1:]), position=self._at(meta))
        number = self._parameters + 1
        if len(token) > 1:
            number = int(token[1:]) if len(token) <= 6 else 0
            if not 1 <= number <= 99_999:
                raise self._error("parameters count from ?1 to ?99999", self._token(token))
        self._parameters = max(self._parameters, number)
        return s.Parameter(index=number - 1, position=self._at(meta))

    def text(self, meta: Meta, children: list[s.Literal | s.Parameter]) -> Any:
        child = children[0]
        return child if isinstance(child, s.Parameter) else child.value

    def list_literal(self, meta: Meta, children: list[s.Expression]) -> s.ListLiteral:
        return s.ListLiteral(tuple(children), position=self._at(meta))

    def table_file(self, meta: Meta, children: list[Any]) -> s.TableFile:
        """`parquet(path, column => name)`."""
        token, path, *options = children
        name = token.lower()
        if name not in TABLE_FILES:
            known = f"Pictures stand in {' or '.join(f'{form}(path)' for form in TABLE_FILES)}."
            hint = did_you_mean(token, TABLE_FILES) or known
            raise self._error(f'unknown function "{token}"', self._token(token), hint)
        text = isinstance(path, s.Parameter) or (isinstance(path, s.Literal) and isinstance(path.value, str))
        if not text:
            raise self._error(f"{name} takes the path of a file in quotes, not {path}", path.position)
        return s.TableFile(name, path, self._options(options), position=self._at(meta))

    def top(self, meta: Meta, children: list[lark.Token]) -> s.TopK:
        k = self._whole(children[0], "TOP")
        if k < 1:
            raise self._error("TOP takes at least 1", self._token(children[0]))
        return s.TopK(k, position=self._at(meta))

    def all_classes(self, meta: Meta, children: list[Any]) -> s.AllClasses:
        return s.AllClasses(position=self._at(meta))

    def option(self, meta: Meta, children: list[Any]) -> s.Option:
        return s.Option(children[0].text.lower(), children[1], position=self._at(meta))

    copy_option = option

    def _options(self, options: Sequence[s.Option]) -> tuple[s.Option, ...]:
        """The options, once no name is given twice."""
        seen: set[str] = set()
        for option in options:
            if option.name in seen:
                raise self._error(f"{option.name} is given twice", option.position, "Keep one of them.")
            seen.add(option.name)
        return tuple(options)

    def with_options(self, meta: Meta, children: list[s.Option]) -> tuple[s.Option, ...]:
        return self._options(children)

    copy_options = with_options

    # Expressions

    def star(self, meta: Meta, children: list[Any]) -> s.Star:
        return s.Star(position=self._at(meta))

    def heatmap(self, meta: Meta, children: list[Any]) -> s.HeatMap:
        return s.HeatMap(position=self._at(meta))

    def attribution(self, meta: Meta, children: list[Any]) -> s.Attribution:
        return s.Attribution(position=self._at(meta))

    def prediction(self, meta: Meta, children: list[Any]) -> s.Prediction:
        return s.Prediction(position=self._at(meta))

    def parenthesized(self, meta: Meta, children: list[s.Expression]) -> s.Expression:
        return dataclasses.replace(children[0], position=self._at(meta))

    def comparison(self, meta: Meta, children: list[lark.Token]) -> str:
        return "<>" if children[0] == "!=" else str(children[0])

    def compare(self, meta: Meta, children: list[Any]) -> s.Binary:
        left, operator, right = children
        return s.Binary(operator, left, right, position=self._at(meta))

    def arithmetic(self, meta: Meta, children: list[Any]) -> s.Binary:
        left, operator, right = children
        return s.Binary(str(operator), left, right, position=self._at(meta))

    def _chain(self, operator: str, children: Sequence[s.Expression]) -> s.Expression:
        def join(left: s.Expression, right: s.Expression) -> s.Expression:
            assert left.position is not None and right.position is not None
            place = self._places.at(left.position.start, right.position.end)
            return s.Binary(operator, left, right, position=place)

        return reduce(join, children)

    def both(self, meta: Meta, children: list[s.Expression]) -> s.Expression:
        return self._chain("AND", children)

    def disjunction(self, meta: Meta, children: list[s.Expression]) -> s.Expression:
        return self._chain("OR", children)

    def negation(self, meta: Meta, children: list[Any]) -> s.Unary:
        return s.Unary("NOT", children[-1], position=self._at(meta))

    def minus(self, meta: Meta, children: list[s.Expression]) -> s.Expression:
        """`-5` is the number; `-x`, `-(5)` and `- -5` are operations."""
        operand = children[0]
        bare = operand.position is not None and self._text[operand.position.start] in "0123456789."
        if bare and isinstance(operand, s.Literal) and isinstance(operand.value, (int, float)):
            return s.Literal(-operand.value, position=self._at(meta))
        return s.Unary("-", operand, position=self._at(meta))

    def between(self, meta: Meta, children: list[Any]) -> s.Between:
        value, low, high = of_kind(s.Expression, children)
        return s.Between(value, low, high, has(children, "NOT"), position=self._at(meta))

    def membership(self, meta: Meta, children: list[Any]) -> s.In:
        value, *items = of_kind(s.Expression, children)
        computed = [item for item in items if not isinstance(item, s.Literal)]
        if len(computed) > MAX_ITEMS:
            message = f"IN lists {len(computed):,} expressions beside constants; the limit is {MAX_ITEMS:,}"
            raise self._error(message, computed[MAX_ITEMS].position)
        return s.In(value, tuple(items), has(children, "NOT"), position=self._at(meta))

    def is_null(self, meta: Meta, children: list[Any]) -> s.IsNull:
        return s.IsNull(children[0], has(children, "NOT"), position=self._at(meta))

    def like(self, meta: Meta, children: list[Any]) -> s.Like:
        value, pattern, *escape = of_kind(s.Expression, children)
        negated, any_case = has(children, "NOT"), has(children, "ILIKE")
        return s.Like(value, pattern, negated, escape[0] if escape else None, any_case, position=self._at(meta))

    def compared(self, meta: Meta, children: list[s.Expression]) -> _Part:
        return _Part("operand", (children[0],))

    def when(self, meta: Meta, children: list[s.Expression]) -> _Part:
        return _Part("when", tuple(children))

    def otherwise(self, meta: Meta, children: list[s.Expression]) -> _Part:
        return _Part("otherwise", (children[0],))

    def case(self, meta: Meta, children: list[_Part]) -> s.Case:
        branches = [part.expressions for part in children if part.role == "when"]
        if len(branches) > MAX_ITEMS:
            message = f"CASE has {len(branches):,} branches; the limit is {MAX_ITEMS:,}"
            raise self._error(message, branches[MAX_ITEMS][0].position)
        single = {part.role: part.expressions[0] for part in children if part.role != "when"}
        conditions, results = (tuple(column) for column in zip(*branches, strict=True))
        return s.Case(single.get("operand"), conditions, results, single.get("otherwise"), position=self._at(meta))

    def cast(self, meta: Meta, children: list[Any]) -> s.Cast:
        value, *rest = children
        words = [word for word in rest if isinstance(word, lark.Token) and word.type == "NAME"]
        name = " ".join(words).upper()
        for known, others in TYPES.items():
            if name == known or name in others:
                if known != "VARCHAR" and not isinstance(rest[-1], lark.Token):
                    raise self._error(f"{name} takes no size", self._token(words[0]))
                return s.Cast(value, known, position=self._at(meta))
        names = [other for known, others in TYPES.items() for other in (known, *others)]
        place = self._token(words[0])
        place = self._places.at(place.start, self._token(words[-1]).end)
        hint = did_you_mean(name, names) or f"The types are {', '.join(TYPES)}."
        raise self._error(f'no type named "{name}"', place, hint)

    def type_size(self, meta: Meta, children: list[lark.Token]) -> tuple[lark.Token, ...]:
        """The length of a VARCHAR means nothing, as in DuckDB."""
        return tuple(children)

    def call(self, meta: Meta, children: list[Any]) -> s.Call:
        token = children[0]
        name = token.lower()
        if name.upper() in MISSING or name == "on":
            missing, hint = MISSING.get(name.upper(), ("DISTINCT ON", "GROUP BY makes groups."))
            raise self._error(f"{missing or name.upper()} is not supported", self._token(token), hint)
        if name not in FUNCTIONS:
            known = f"Known functions: {', '.join(FUNCTIONS)}."
            raise self._error(
                f'unknown function "{token}"', self._token(token), did_you_mean(token, FUNCTIONS) or known
            )
        arguments = of_kind(s.Expression, children)
        star, distinct = has(children, "STAR"), has(children, "DISTINCT")
        if star and name != "count":
            raise self._error(f"only count takes *, not {name}", self._at(meta))
        if distinct and name not in AGGREGATES:
            raise self._error(f"{name} does not take DISTINCT", self._at(meta))
        fewest, most = FUNCTIONS[name]
        if not star and not fewest <= len(arguments) <= most:
            wanted = "one argument" if most == 1 else f"{fewest} or {most} arguments"
            raise self._error(f"{name} takes {wanted}, not {len(arguments)}", self._at(meta))
        return s.Call(name, arguments, star, distinct, position=self._at(meta))
