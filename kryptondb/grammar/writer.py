"""A statement back to text: canonical SQL on one line, which parses to an equal statement."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kryptondb.grammar import statements as s
from kryptondb.grammar.words import quote_identifier, quote_string

# How tightly each form binds; an operand that binds less tightly than its place asks is put in parentheses.
_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _UNARY, _ATOM = range(1, 9)
_BINARY = {
    "OR": _OR,
    "AND": _AND,
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), _COMPARISON),
    **dict.fromkeys("+-", _SUM),
    **dict.fromkeys("*/%", _PRODUCT),
}


def unparse(node: s.Node) -> str:
    """Canonical SQL of a statement, an expression or any other node, without `;`.

    Raises:
        ValueError: a literal is infinite or not a number, which no text can say.
    """
    return _Writer().node(node)


def _number(value: float) -> str:
    """A promise's number: 30 rather than 30.0."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _binding(node: s.Expression) -> int:
    match node:
        case s.Binary(operator=operator):
            return _BINARY[operator]
        case s.Unary(operator="NOT"):
            return _NOT
        case s.Between() | s.In() | s.IsNull() | s.Like():
            return _COMPARISON
        case s.Unary():
            return _UNARY
        case s.Literal(value=float(value)):
            return _UNARY if math.copysign(1, value) < 0 else _ATOM
        case s.Literal(value=int(value)):
            return _UNARY if value < 0 else _ATOM
        case _:
            return _ATOM


class _Writer:
    """Writes nodes from left to right, and knows which number a bare `?` would get where it stands."""

    def __init__(self) -> None:
        self._parameters = 0

    def node(self, node: s.Node) -> str:
        match node:
            case s.Expression():
                return self.expression(node)
            case s.Statement():
                return self.statement(node)
            case s.SelectItem(expression, alias):
                return self.expression(expression) + (f" AS {quote_identifier(alias)}" if alias is not None else "")
            case s.Option(name, value):
                return f"{quote_identifier(name)} => {self.expression(value)}"
            case s.TableFunction(function, arguments, options):
                return f"{function}({self.all((*arguments, *options))})"
            case s.Promise():
                return self.promise(node)
            case s.OrderItem(expression, descending, nulls_first):
                nulls = {None: "", True: " NULLS FIRST", False: " NULLS LAST"}[nulls_first]
                return self.expression(expression) + (" DESC" if descending else "") + nulls
            case s.ModelSource(kind, name):
                return self.text(name) if kind == "file" else f"{kind}({self.text(name)})"
            case _:
                raise TypeError(f"no text for a {type(node).__name__}")

    def all(self, nodes: Sequence[s.Node]) -> str:
        return ", ".join(self.node(node) for node in nodes)

    def text(self, value: str | s.Parameter) -> str:
        return quote_string(value) if isinstance(value, str) else self.parameter(value)

    # Statements

    def statement(self, node: s.Statement) -> str:
        match node:
            case s.Select():
                return self.select(node)
            case s.Explain(select, analyze, options):
                start = "EXPLAIN ANALYZE" if analyze else "EXPLAIN"
                return " ".join((start, *map(self.copy_option, options), self.select(select)))
            case s.Copy(select, path, options):
                copied = f"COPY ({self.select(select)}) TO {self.text(path)}"
                return copied + (f" ({', '.join(map(self.copy_option, options))})" if options else "")
            case s.CreateModel(name, source, options, replace):
                words = "CREATE OR REPLACE MODEL" if replace else "CREATE MODEL"
                return f"{words} {quote_identifier(name)} FROM {self.node(source)}{self.with_options(options)}"
            case s.DropModel(name, if_exists):
                return f"DROP MODEL {'IF EXISTS ' if if_exists else ''}{quote_identifier(name)}"
            case s.DropProfiles(model):
                return f"DROP PROFILES {quote_identifier(model)}"
            case s.Analyze(model, images, options):
                start = f"ANALYZE {quote_identifier(model)} USING {self.expression(images)}"
                return start + self.with_options(options)
            case s.Calibrate(models):
                return f"CALIBRATE {self.all(models)}" if models else "CALIBRATE"
            case s.Show(what):
                return f"SHOW {what.upper()}"
            case s.Describe(name):
                return f"DESCRIBE {quote_identifier(name)}"
            case s.Set(name, value):
                return f"SET {quote_identifier(name)} = {self.expression(value)}"
            case _:
                raise TypeError(f"no text for a {type(node).__name__}")

    def select(self, node: s.Select) -> str:
        distinct = "DISTINCT " if node.distinct else ""
        parts = [f"SELECT {distinct}{self.all(node.items)} FROM {self.node(node.source)}"]
        if node.where is not None:
            parts.append(f"WHERE {self.expression(node.where)}")
        if node.group_by:
            parts.append(f"GROUP BY {self.all(node.group_by)}")
        if node.having is not None:
            parts.append(f"HAVING {self.expression(node.having)}")
        if node.order_by:
            parts.append(f"ORDER BY {self.all(node.order_by)}")
        for word, count in (("LIMIT", node.limit), ("OFFSET", node.offset)):
            if count is not None:
                parts.append(f"{word} {self.parameter(count) if isinstance(count, s.Parameter) else count}")
        if node.promise is not None:
            parts.append(self.promise(node.promise))
        if node.hints:
            parts.append(f"USING {self.all(node.hints)}")
        return " ".join(parts)

    def promise(self, node: s.Promise) -> str:
        terms = []
        if node.ssim is not None:
            confidence = f" CONFIDENCE {_number(node.confidence)}" if node.confidence is not None else ""
            terms.append(f"SSIM >= {_number(node.ssim)}{confidence}")
        if node.seconds is not None:
            terms.append(f"TIME <= {_number(node.seconds)} SECONDS")
        return f"WITH {' AND '.join(terms)}" if terms else ""

    def with_options(self, options: Sequence[s.Option]) -> str:
        return f" WITH ({self.all(options)})" if options else ""

    def copy_option(self, option: s.Option) -> str:
        name = "FORMAT" if option.name == "format" else quote_identifier(option.name)
        return f"{name} {self.expression(option.value)}"

    # Expressions

    def expression(self, node: s.Expression, binding: int = 0) -> str:
        """The expression's text, in parentheses when it binds less tightly than `binding`."""
        text = self.bare(node)
        return f"({text})" if _binding(node) < binding else text

    def bare(self, node: s.Expression) -> str:
        match node:
            case s.Literal():
                return self.literal(node)
            case s.Column(name):
                return quote_identifier(name)
            case s.Parameter():
                return self.parameter(node)
            case s.ListLiteral(items):
                return f"({self.all(items)})"
            case s.TableFile(form, path, options):
                return f"{form}({self.all((path, *options))})"
            case s.Binary(operator, left, right):
                level = _BINARY[operator]
                # Comparisons do not chain; everything else groups to the left.
                first = self.expression(left, level + (level == _COMPARISON))
                return f"{first} {operator} {self.expression(right, level + 1)}"
            case s.Unary("NOT", operand):
                return f"NOT {self.expression(operand, _NOT)}"
            case s.Unary(_, operand):
                return self.minus(operand)
            case s.Between(value, low, high, negated):
                first = f"{self.expression(value, _SUM)}{_not(negated)} BETWEEN"
                return f"{first} {self.expression(low, _SUM)} AND {self.expression(high, _SUM)}"
            case s.In(value, items, negated):
                return f"{self.expression(value, _SUM)}{_not(negated)} IN ({self.all(items)})"
            case s.IsNull(value, negated):
                return f"{self.expression(value, _SUM)} IS{_not(negated)} NULL"
            case s.Like(value, pattern, negated, escape, any_case):
                word = "ILIKE" if any_case else "LIKE"
                matched = f"{self.expression(value, _SUM)}{_not(negated)} {word} {self.expression(pattern, _SUM)}"
                return matched + (f" ESCAPE {self.expression(escape, _SUM)}" if escape is not None else "")
            case s.Case(operand, conditions, results, otherwise):
                words = ["CASE"] if operand is None else [f"CASE {self.expression(operand)}"]
                for condition, result in zip(conditions, results, strict=True):
                    words.append(f"WHEN {self.expression(condition)} THEN {self.expression(result)}")
                if otherwise is not None:
                    words.append(f"ELSE {self.expression(otherwise)}")
                return " ".join((*words, "END"))
            case s.Cast(value, kind):
                return f"CAST({self.expression(value)} AS {kind})"
            case s.Call(function, arguments, star, distinct):
                inside = "*" if star else ("DISTINCT " if distinct else "") + self.all(arguments)
                return f"{function}({inside})"
            case s.TopK(k):
                return f"TOP {k}"
            case s.AllClasses():
                return "ALL"
            case s.Star():
                return "*"
            case s.HeatMap():
                return "HEATMAP"
            case s.Attribution():
                return "ATTRIBUTION"
            case s.Prediction():
                return "PREDICTION"
            case _:
                raise TypeError(f"no text for a {type(node).__name__}")

    def minus(self, operand: s.Expression) -> str:
        text = self.expression(operand, _UNARY)
        # `--` starts a comment, and `-5` is a number, not the operation.
        return f"-({text})" if text[0] in "-.0123456789" else f"-{text}"

    def literal(self, node: s.Literal) -> str:
        match node.value:
            case None:
                return "NULL"
            case bool(value):
                return "TRUE" if value else "FALSE"
            case str(value):
                return quote_string(value)
            case int(value):
                return int.__repr__(value)
            case value:
                if not math.isfinite(value):
                    raise ValueError(f"{value} cannot be written as a number")
                return float.__repr__(value)

    def parameter(self, node: s.Parameter) -> str:
        if node.index is None:
            return f"${node.name}"
        bare = node.index == self._parameters
        self._parameters = max(self._parameters, node.index + 1)
        return "?" if bare else f"?{node.index + 1}"


def _not(negated: bool) -> str:
    return " NOT" if negated else ""


s.Node.write = staticmethod(unparse)
