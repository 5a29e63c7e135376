"""A parse tree into statements: one method a rule of occlude.lark, and the checks a grammar cannot express."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import lark
from lark.tree import Meta
from lark.visitors import v_args

from kryptondb.errors import Position
from kryptondb.grammar import statements as s
from kryptondb.grammar.expression_builder import ExpressionBuilder, Word, has, of_kind
from kryptondb.grammar.words import MAX_ITEMS, TABLE_FUNCTIONS, misspelt_aggregate

_Kind = TypeVar("_Kind", bound=s.Node)


@dataclass(frozen=True)
class _Clause:
    """A clause of SELECT on its way into the Select it belongs to: `field` is the attribute it fills."""

    field: str
    value: Any
    position: Position


@v_args(meta=True)
class Builder(ExpressionBuilder):
    """Builds the statement, or the select item's expression, of one parse tree."""

    # SELECT

    def item(self, meta: Meta, children: list[Any]) -> s.SelectItem:
        expression, *alias = children
        place = expression.position
        if isinstance(expression, s.Column) and self._text[place.start] not in '"(':
            meant = misspelt_aggregate(expression.name)
            if meant:
                raise self._error(f'unknown column "{expression.name}"', place, f'Did you mean "{meant}"?')
        return s.SelectItem(expression, alias[0].text if alias else None, position=self._at(meta))

    def items(self, meta: Meta, children: list[s.SelectItem]) -> tuple[s.SelectItem, ...]:
        return self._few(children, "SELECT")

    def _few(self, children: list[_Kind], clause: str) -> tuple[_Kind, ...]:
        """What a clause lists, when it is not too much."""
        if len(children) > MAX_ITEMS:
            message = f"{clause} lists {len(children):,} expressions; the limit is {MAX_ITEMS:,}"
            raise self._error(message, children[MAX_ITEMS].position)
        return tuple(children)

    def source(self, meta: Meta, children: list[Any]) -> s.TableFunction:
        function = children[0].lower()
        parts = children[1:]
        for before, part in pairwise(parts):
            if isinstance(before, s.Option) and not isinstance(part, s.Option):
                hint = f"The order is {function}({', '.join(TABLE_FUNCTIONS[function])}, option => value, ...)."
                raise self._error("an argument stands after an option", part.position, hint)
        wanted = TABLE_FUNCTIONS[function]
        arguments, options = self._named(wanted, of_kind(s.Expression, parts), self._options(of_kind(s.Option, parts)))
        if len(arguments) != len(wanted):
            hint = f"Write {function}({', '.join(wanted)}, option => value, ...)."
            if len(arguments) > len(wanted):
                extra = arguments[len(wanted)]
                raise self._error(
                    f"{function} does not take a {_ordinal(len(wanted) + 1)} argument", extra.position, hint
                )
            missing = " and ".join(f"its {what}" for what in wanted[len(arguments) :])
            raise self._error(f"{function} lacks {missing}", self._token(children[0]), hint)
        return s.TableFunction(function, arguments, options, position=self._at(meta))

    def _named(
        self, wanted: Sequence[str], arguments: tuple[s.Expression, ...], options: tuple[s.Option, ...]
    ) -> tuple[tuple[s.Expression, ...], tuple[s.Option, ...]]:
        """Arguments that are given by name, as in `images => 'a.png'`, in their place."""
        by_name = {option.name: option for option in options}
        for name in wanted[len(arguments) :]:
            if name not in by_name:
                break
            arguments = (*arguments, by_name.pop(name).value)
        return arguments, tuple(by_name.values())

    def where(self, meta: Meta, children: list[Any]) -> _Clause:
        return _Clause("where", children[0], self._at(meta))

    def group_by(self, meta: Meta, children: list[Any]) -> _Clause:
        return _Clause("group_by", self._few(children, "GROUP BY"), self._at(meta))

    def having(self, meta: Meta, children: list[Any]) -> _Clause:
        return _Clause("having", children[0], self._at(meta))

    def order_item(self, meta: Meta, children: list[Any]) -> s.OrderItem:
        nulls = True if has(children, "FIRST") else False if has(children, "LAST") else None
        return s.OrderItem(children[0], has(children, "DESC"), nulls, position=self._at(meta))

    def order_by(self, meta: Meta, children: list[Any]) -> _Clause:
        return _Clause("order_by", self._few(children, "ORDER BY"), self._at(meta))

    def limit(self, meta: Meta, children: list[Any]) -> _Clause:
        if not children:  # LIMIT ALL
            return _Clause("limit", None, self._at(meta))
        return self._rows("limit", children[0], meta)

    def offset(self, meta: Meta, children: list[Any]) -> _Clause:
        return self._rows("offset", children[0], meta)

    def _rows(self, clause: str, count: Any, meta: Meta) -> _Clause:
        value = count if isinstance(count, s.Parameter) else self._whole(count, clause.upper())
        return _Clause(clause, value, self._at(meta))

    def signed(self, meta: Meta, children: list[lark.Token]) -> tuple[float, Position]:
        value = float(self._number(children[-1]))
        return (-value if len(children) == 2 else value), self._at(meta)

    def ssim(self, meta: Meta, children: list[tuple[float, Position]]) -> s.Promise:
        (ssim, place), *rest = children
        if not 0 <= ssim <= 1:
            raise self._error("SSIM lies between 0 and 1", place)
        confidence = None
        if rest:
            confidence, place = rest[0]
            if not 0 < confidence < 1:
                raise self._error("CONFIDENCE lies between 0 and 1, both excluded", place)
        return s.Promise(ssim, confidence, position=self._at(meta))

    def time(self, meta: Meta, children: list[tuple[float, Position]]) -> s.Promise:
        seconds, place = children[0]
        if seconds <= 0:
            raise self._error("TIME is more than 0 seconds", place)
        return s.Promise(seconds=seconds, position=self._at(meta))

    def promise(self, meta: Meta, children: list[s.Promise]) -> _Clause:
        whole = s.Promise()
        for part in children:
            what = "TIME" if part.ssim is None else "SSIM"
            if (whole.seconds if part.ssim is None else whole.ssim) is not None:
                raise self._error(f"{what} is promised twice", part.position, "Keep one of them.")
            if part.ssim is None:
                whole = dataclasses.replace(whole, seconds=part.seconds)
            else:
                whole = dataclasses.replace(whole, ssim=part.ssim, confidence=part.confidence)
        return _Clause("promise", dataclasses.replace(whole, position=self._at(meta)), self._at(meta))

    def hints(self, meta: Meta, children: list[s.Option]) -> _Clause:
        return _Clause("hints", self._options(children), self._at(meta))

    def select(self, meta: Meta, children: list[Any]) -> s.Select:
        distinct = has(children, "DISTINCT")
        items, source, *clauses = children[1:] if distinct else children
        fields: dict[str, Any] = {"distinct": distinct}
        for clause in clauses:
            if clause.field in fields:
                word, joined = ("WITH", "AND") if clause.field == "promise" else ("USING", "commas")
                raise self._error(f"{word} is given twice", clause.position, f"Join both in one {word} with {joined}.")
            fields[clause.field] = clause.value
        return s.Select(items, source, **fields, position=self._at(meta))

    # The other statements

    def explain(self, meta: Meta, children: list[Any]) -> s.Explain:
        formats = (s.Column(child.text, position=child.position) for child in children if isinstance(child, Word))
        options = tuple(s.Option("format", word, position=word.position) for word in formats)
        return s.Explain(children[-1], has(children, "ANALYZE"), options, position=self._at(meta))

    def copy(self, meta: Meta, children: list[Any]) -> s.Copy:
        return s.Copy(*children, position=self._at(meta))

    def model_source(self, meta: Meta, children: list[Any]) -> s.ModelSource:
        kind = children[0].lower() if len(children) == 2 else "file"
        return s.ModelSource(kind, children[-1], position=self._at(meta))

    def or_replace(self, meta: Meta, children: list[Any]) -> bool:
        return True

    if_exists = or_replace

    def create_model(self, meta: Meta, children: list[Any]) -> s.CreateModel:
        replace = children[0] is True
        name, source, *options = children[1:] if replace else children
        return s.CreateModel(name.text, source, options[0] if options else (), replace, position=self._at(meta))

    def drop_model(self, meta: Meta, children: list[Any]) -> s.DropModel:
        return s.DropModel(children[-1].text, len(children) == 2, position=self._at(meta))

    def drop_profiles(self, meta: Meta, children: list[Word]) -> s.DropProfiles:
        return s.DropProfiles(children[0].text, position=self._at(meta))

    def analyze(self, meta: Meta, children: list[Any]) -> s.Analyze:
        _, name, images, *options = children
        return s.Analyze(name.text, images, options[0] if options else (), position=self._at(meta))

    def calibrate(self, meta: Meta, children: list[Word]) -> s.Calibrate:
        models = tuple(s.Column(name.text, position=name.position) for name in children)
        return s.Calibrate(models, position=self._at(meta))

    def show(self, meta: Meta, children: list[lark.Token]) -> s.Show:
        return s.Show(children[0].lower(), position=self._at(meta))

    def describe(self, meta: Meta, children: list[Word]) -> s.Describe:
        return s.Describe(children[0].text, position=self._at(meta))

    def assign(self, meta: Meta, children: list[Any]) -> s.Set:
        return s.Set(children[0].text, children[1], position=children[0].position)


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
