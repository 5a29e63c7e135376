"""Arbitrary statements, as the parser could have made them, for property tests here and in other rooms."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from kryptondb.grammar import AGGREGATES, KEYWORDS
from kryptondb.grammar.statements import (
    AllClasses,
    Analyze,
    Attribution,
    Between,
    Binary,
    Calibrate,
    Call,
    Case,
    Cast,
    Column,
    Copy,
    CreateModel,
    Describe,
    DropModel,
    DropProfiles,
    Explain,
    Expression,
    HeatMap,
    In,
    IsNull,
    Like,
    ListLiteral,
    Literal,
    ModelSource,
    Option,
    OrderItem,
    Parameter,
    Prediction,
    Promise,
    Select,
    SelectItem,
    Set,
    Show,
    Star,
    Statement,
    TableFile,
    TableFunction,
    TopK,
    Unary,
)
from kryptondb.grammar.words import TABLE_FILES, TYPES

CELL_COLUMNS = ("image", "class", "label", "row", "col", "y", "x", "height", "width", "base", "score", "drop", "exact")
#: Statements are large to draw, and a busy machine is no failure.
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")


def names() -> SearchStrategy[str]:
    """Columns, keywords in any case, and anything that quotes can hold."""
    words = st.sampled_from([*CELL_COLUMNS, "chest", "MyModel", *KEYWORDS, *map(str.lower, KEYWORDS), "heatmpa"])
    return words | st.text(min_size=1, max_size=8)


def parameters() -> SearchStrategy[Parameter]:
    named = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True).map(lambda name: Parameter(name=name))
    return named | st.integers(0, 4).map(lambda index: Parameter(index=index))


def literals() -> SearchStrategy[Literal]:
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63) + 1, 2**63 - 1),
        st.integers(-3, 300),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ).map(Literal)


def columns() -> SearchStrategy[Column]:
    return names().map(Column)


def calls(inner: SearchStrategy[Expression]) -> SearchStrategy[Call]:
    aggregate = st.builds(
        lambda name, value, distinct: Call(name, (value,), distinct=distinct),
        st.sampled_from(AGGREGATES),
        inner,
        st.booleans(),
    )
    scalar = st.builds(lambda value: Call("abs", (value,)), inner)
    rounded = st.lists(inner, min_size=1, max_size=2).map(lambda values: Call("round", tuple(values)))
    return st.one_of(aggregate, scalar, rounded, st.just(Call("count", star=True)))


def _compound(inner: SearchStrategy[Expression]) -> SearchStrategy[Expression]:
    items = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Binary, st.sampled_from([*COMPARISONS, "AND", "OR", "+", "-", "*", "/", "%"]), inner, inner),
        st.builds(Unary, st.sampled_from(["-", "NOT"]), inner),
        st.builds(Between, inner, inner, inner, st.booleans()),
        st.builds(In, inner, items, st.booleans()),
        st.builds(IsNull, inner, st.booleans()),
        st.builds(Like, inner, inner, st.booleans(), st.none() | inner, st.booleans()),
        st.builds(Cast, inner, st.sampled_from(list(TYPES))),
        cases(inner),
        calls(inner),
    )


def cases(inner: SearchStrategy[Expression]) -> SearchStrategy[Case]:
    branches = st.lists(st.tuples(inner, inner), min_size=1, max_size=3)
    return st.builds(
        lambda operand, pairs, otherwise: Case(
            operand, tuple(test for test, _ in pairs), tuple(result for _, result in pairs), otherwise
        ),
        st.none() | inner,
        branches,
        st.none() | inner,
    )


def expressions(max_leaves: int = 8) -> SearchStrategy[Expression]:
    """What may stand in WHERE."""
    return st.recursive(st.one_of(literals(), parameters(), columns()), _compound, max_leaves=max_leaves)


def values() -> SearchStrategy[Expression]:
    """What may stand as an argument or a setting."""
    texts = st.text(max_size=8).map(Literal) | parameters()
    columns_named = texts.map(lambda text: (Option("column", text),))
    files = st.builds(TableFile, st.sampled_from(TABLE_FILES), texts, st.just(()) | columns_named)
    return st.recursive(
        st.one_of(literals(), parameters(), columns(), files),
        lambda inner: st.lists(inner, max_size=3).map(lambda items: ListLiteral(tuple(items))),
        max_leaves=5,
    )


def options(option_values: SearchStrategy[Expression] | None = None) -> SearchStrategy[tuple[Option, ...]]:
    """Up to three options with names of their own."""
    if option_values is None:
        option_values = st.one_of(values(), st.integers(1, 1000).map(TopK), st.just(AllClasses()))
    option = st.builds(Option, names().map(str.lower), option_values)
    return st.lists(option, max_size=3, unique_by=lambda option: option.name).map(tuple)


def sources() -> SearchStrategy[TableFunction]:
    return st.one_of(
        st.builds(TableFunction, st.just("occlude"), st.tuples(values(), values()), options()),
        st.builds(TableFunction, st.just("redundancy"), st.tuples(values()), options()),
    )


def promises() -> SearchStrategy[Promise]:
    ssim = st.floats(0, 1)
    confidence = st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True)
    seconds = st.floats(0, 1e300, exclude_min=True)
    return st.one_of(
        st.builds(Promise, ssim, confidence),
        st.builds(Promise, ssim, confidence, seconds),
        st.builds(Promise, seconds=seconds),
    )


def select_items() -> SearchStrategy[SelectItem]:
    selected = st.one_of(
        st.just(Star()), st.sampled_from([HeatMap(), Attribution(), Prediction()]), columns(), expressions(max_leaves=3)
    )
    return st.builds(SelectItem, selected, st.none() | names())


def selects() -> SearchStrategy[Select]:
    order = st.builds(OrderItem, expressions(max_leaves=2), st.booleans(), st.none() | st.booleans())
    return st.builds(
        Select,
        items=st.lists(select_items(), min_size=1, max_size=3).map(tuple),
        source=sources(),
        where=st.none() | expressions(),
        group_by=st.lists(expressions(max_leaves=2), max_size=2).map(tuple),
        order_by=st.lists(order, max_size=2).map(tuple),
        limit=st.one_of(st.none(), st.integers(0, 2**63 - 1), parameters()),
        promise=st.none() | promises(),
        hints=options(),
        distinct=st.booleans(),
        having=st.none() | expressions(max_leaves=3),
        offset=st.one_of(st.none(), st.integers(0, 2**63 - 1), parameters()),
    )


def statements() -> SearchStrategy[Statement]:
    texts = st.text(max_size=8) | parameters()
    kinds = st.sampled_from(["torchvision", "timm", "pretrained", "file"])
    return st.one_of(
        selects(),
        st.builds(Explain, selects(), st.booleans(), st.sampled_from([(), (Option("format", Column("json")),)])),
        st.builds(Copy, selects(), texts, options(values())),
        st.builds(CreateModel, names(), st.builds(ModelSource, kinds, texts), options(), st.booleans()),
        st.builds(DropModel, names(), st.booleans()),
        st.builds(DropProfiles, names()),
        st.builds(Show, st.sampled_from(["models", "profiles", "settings", "samples", "calibration"])),
        st.builds(Describe, names()),
        st.builds(Calibrate, st.lists(columns(), max_size=3).map(tuple)),
        st.builds(Analyze, names(), values(), options()),
        st.builds(Set, names(), values()),
    )
