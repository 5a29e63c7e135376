"""What a text means: frozen dataclasses, one per statement or expression, that keep their place in the text.

Positions never take part in comparison, so that a statement printed and parsed again is equal to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from kryptondb.errors import Position


@dataclass(frozen=True)
class Node:
    """Anything that stands somewhere in a text. `str(node)` is its canonical SQL, written by `unparse`."""

    write: ClassVar[Callable[[Node], str]]

    position: Position | None = field(default=None, compare=False, repr=False, kw_only=True)

    def __str__(self) -> str:
        return type(self).write(self)

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes directly inside this one, in the order of its fields."""
        values = (getattr(self, item.name) for item in fields(self))
        parts = (part for value in values for part in (value if isinstance(value, tuple) else (value,)))
        return tuple(part for part in parts if isinstance(part, Node))

    def walk(self) -> Iterator[Node]:
        """The node and everything inside it, outer before inner, left to right, without recursion."""
        stack: list[Node] = [self]
        while stack:
            current = stack.pop()
            yield current
            stack.extend(reversed(current.children))

    def rewrite(self, change: Callable[[Any], Node | None]) -> Any:
        """The node with `change` offered every part, outermost first.

        What it returns stands in the part's place and is not looked into again; where it returns None, the part's own
        parts are offered.
        """
        changed = change(self)
        if changed is not None:
            return changed
        parts: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Node):
                parts[item.name] = value.rewrite(change)
            elif isinstance(value, tuple):
                parts[item.name] = tuple(part.rewrite(change) if isinstance(part, Node) else part for part in value)
        return replace(self, **parts) if parts else self


# Expressions


@dataclass(frozen=True)
class Expression(Node):
    """A value in a WHERE clause, a select list or an option."""


@dataclass(frozen=True, eq=False)
class Literal(Expression):
    """NULL, TRUE, FALSE, a number or a string, as the Python value. 1, 1.0 and TRUE are three literals."""

    value: bool | int | float | str | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


@dataclass(frozen=True)
class ListLiteral(Expression):
    """A parenthesized list `(a, b, ...)` as an option's value or an argument: sizes, colors, labels, files."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class TableFile(Expression):
    """`parquet('scans.parquet', column => 'image')` or `arrow(...)`: pictures, or their paths, in a column of a file.

    `format` in lower case; `path` is a string or a parameter.
    """

    format: str
    path: Expression
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Parameter(Expression):
    """`?` (index from 0, name None) or `$name` (name set, index None): bound when the statement runs."""

    name: str | None = None
    index: int | None = None

    @property
    def key(self) -> str:
        """What its value is given under: `'0'`, `'1'`, ... for `?`, the name for `$name`."""
        return str(self.index) if self.name is None else self.name


@dataclass(frozen=True)
class Column(Expression):
    """A column, or any bare identifier in an argument or option (`chest`, `"My Model"`): the name without quotes."""

    name: str


@dataclass(frozen=True)
class Call(Expression):
    """A function of arguments: the aggregates `min max avg sum count`, the scalars `abs round`. `count(*)` has star."""

    function: str  # lower case
    arguments: tuple[Expression, ...] = ()
    star: bool = False
    distinct: bool = False


@dataclass(frozen=True)
class Unary(Expression):
    """`-x` or `NOT x`."""

    operator: str  # '-' or 'NOT'
    operand: Expression


@dataclass(frozen=True)
class Binary(Expression):
    """`a op b` with op one of `+ - * / %  = <> < <= > >=  AND OR`."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Between(Expression):
    """`value [NOT] BETWEEN low AND high`."""

    value: Expression
    low: Expression
    high: Expression
    negated: bool = False


@dataclass(frozen=True)
class In(Expression):
    """`value [NOT] IN (a, b, ...)`, where a parameter may be bound to a list; `IN ?` is `IN (?)`."""

    value: Expression
    items: tuple[Expression, ...]
    negated: bool = False


@dataclass(frozen=True)
class IsNull(Expression):
    """`value IS [NOT] NULL`."""

    value: Expression
    negated: bool = False


@dataclass(frozen=True)
class Like(Expression):
    """`value [NOT] LIKE 'pattern' [ESCAPE 'c']`, with `%` and `_`; ILIKE in any case."""

    value: Expression
    pattern: Expression
    negated: bool = False
    escape: Expression | None = None
    any_case: bool = False


@dataclass(frozen=True)
class Case(Expression):
    """`CASE WHEN condition THEN result ... [ELSE otherwise] END`; with `operand`, `CASE operand WHEN value THEN ...`.

    `conditions` (or values) and `results` belong together one by one.
    """

    operand: Expression | None
    conditions: tuple[Expression, ...]
    results: tuple[Expression, ...]
    otherwise: Expression | None = None

    @property
    def tests(self) -> tuple[Expression, ...]:
        """The conditions, with the operand compared."""
        if self.operand is None:
            return self.conditions
        return tuple(Binary("=", self.operand, value, position=value.position) for value in self.conditions)


@dataclass(frozen=True)
class Cast(Expression):
    """`CAST(value AS type)` or `value::type`; the type is one of `words.TYPES`."""

    value: Expression
    type: str


@dataclass(frozen=True)
class TopK(Expression):
    """`TOP k`: the k most probable classes of the unoccluded image."""

    k: int


@dataclass(frozen=True)
class AllClasses(Expression):
    """`ALL`: every class of the model."""


# Select list


@dataclass(frozen=True)
class Star(Expression):
    """`*`: every column."""


@dataclass(frozen=True)
class ImageItem(Expression):
    """What is selected of a whole image and class, one row each."""


@dataclass(frozen=True)
class HeatMap(ImageItem):
    """`HEATMAP`: the cells of one image and class as a grid."""


@dataclass(frozen=True)
class Attribution(ImageItem):
    """`ATTRIBUTION`: for each pixel of the model's input the mean over the cells whose patch covers it."""


@dataclass(frozen=True)
class Prediction(ImageItem):
    """`PREDICTION`: the unoccluded top classes and probabilities."""


@dataclass(frozen=True)
class SelectItem(Node):
    """One output column."""

    expression: Expression
    alias: str | None = None


# Clauses


@dataclass(frozen=True)
class Option(Node):
    """`name => value` (or `name value` in a COPY clause, canonical there without the arrow). Name in lower case."""

    name: str
    value: Expression


@dataclass(frozen=True)
class TableFunction(Node):
    """`occlude(model, images, option => value, ...)` or `redundancy(model, ...)`; function in lower case."""

    function: str
    arguments: tuple[Expression, ...]
    options: tuple[Option, ...] = ()

    @property
    def images(self) -> Expression | None:
        """Where its pictures come from; None of a function that reads none."""
        return self.arguments[1] if self.function == "occlude" and len(self.arguments) > 1 else None


@dataclass(frozen=True)
class Promise(Node):
    """`WITH SSIM >= s [CONFIDENCE c] [AND TIME <= n SECONDS]`; what is not asked is None."""

    ssim: float | None = None
    confidence: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class OrderItem(Node):
    """`expression [ASC | DESC] [NULLS FIRST | NULLS LAST]`."""

    expression: Expression
    descending: bool = False
    nulls_first: bool | None = None


# Statements


@dataclass(frozen=True)
class Statement(Node):
    """One thing to do."""


@dataclass(frozen=True)
class Select(Statement):
    """`SELECT [DISTINCT] items FROM source [WHERE] [GROUP BY] [HAVING] [ORDER BY] [LIMIT] [OFFSET] [WITH] [USING]`.

    WITH and USING may also stand before WHERE in a text, and OFFSET before LIMIT; the canonical order is the one above.
    """

    items: tuple[SelectItem, ...]
    source: TableFunction
    where: Expression | None = None
    group_by: tuple[Expression, ...] = ()
    order_by: tuple[OrderItem, ...] = ()
    limit: int | Parameter | None = None
    promise: Promise | None = None
    hints: tuple[Option, ...] = ()
    distinct: bool = False
    having: Expression | None = None
    offset: int | Parameter | None = None


@dataclass(frozen=True)
class ModelSource(Node):
    """Where a model comes from: `kind` is 'torchvision', 'timm', 'pretrained' or 'file'; `name` the string given."""

    kind: str
    name: str | Parameter


@dataclass(frozen=True)
class CreateModel(Statement):
    """`CREATE [OR REPLACE] MODEL name FROM source [WITH (option => value, ...)]`."""

    name: str
    source: ModelSource
    options: tuple[Option, ...] = ()
    replace: bool = False


@dataclass(frozen=True)
class DropModel(Statement):
    """`DROP MODEL [IF EXISTS] name`."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True)
class Show(Statement):
    """`SHOW MODELS | PROFILES | SETTINGS | SAMPLES | CALIBRATION`; `what` in lower case."""

    what: str


@dataclass(frozen=True)
class Describe(Statement):
    """`DESCRIBE name`."""

    name: str


@dataclass(frozen=True)
class Analyze(Statement):
    """`ANALYZE model USING images [WITH (option => value, ...)]`."""

    model: str
    images: Expression
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Calibrate(Statement):
    """`CALIBRATE [model, ...]`: all models where none is named."""

    models: tuple[Column, ...] = ()


@dataclass(frozen=True)
class DropProfiles(Statement):
    """`DROP PROFILES model`."""

    model: str


@dataclass(frozen=True)
class Explain(Statement):
    """`EXPLAIN [ANALYZE] [FORMAT text | json] select`."""

    select: Select
    analyze: bool = False
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Copy(Statement):
    """`COPY (select) TO 'path' [(FORMAT png, ...)]`."""

    select: Select
    path: str | Parameter
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Set(Statement):
    """`SET name = value`."""

    name: str
    value: Expression
