"""Pictures in a column of a file, and arguments that are given by name."""

from __future__ import annotations

import pytest

from kryptondb.errors import ParseError
from kryptondb.grammar import parse, unparse
from kryptondb.grammar.completion import ContextKind, context
from kryptondb.grammar.statements import (
    Analyze,
    Column,
    ListLiteral,
    Literal,
    Option,
    Parameter,
    Select,
    TableFile,
    TableFunction,
)

SCANS = TableFile("parquet", Literal("scans.parquet"), (Option("column", Literal("image")),))


def source(arguments: str) -> TableFunction:
    statement = parse(f"SELECT HEATMAP FROM occlude({arguments})")
    assert isinstance(statement, Select)
    return statement.source


def test_a_table_file_stands_where_a_path_does() -> None:
    table = "parquet('scans.parquet', column => 'image')"
    assert source(f"chest, {table}").arguments == (Column("chest"), SCANS)
    assert source(f"chest, ({table}, 'a.png')").arguments[1] == ListLiteral((SCANS, Literal("a.png")))
    assert source("chest, Arrow(?)").arguments[1] == TableFile("arrow", Parameter(index=0))
    assert parse(f"ANALYZE chest USING {table}") == Analyze("chest", SCANS)


def test_arguments_may_be_given_by_name_and_are_written_in_their_place() -> None:
    expected = TableFunction("occlude", (Column("chest"), SCANS), (Option("patch", Literal(8)),))
    for arguments in (
        "chest, images => parquet('scans.parquet', column => 'image'), patch => 8",
        "chest, patch => 8, images => parquet('scans.parquet', column => 'image')",
        "images => parquet('scans.parquet', column => 'image'), model => chest, patch => 8",
    ):
        assert source(arguments) == expected
    assert unparse(expected) == "occlude(chest, parquet('scans.parquet', column => 'image'), patch => 8)"
    parquet = Column("parquet")
    assert source("parquet, 'a.png'").arguments[0] == parquet  # a model may have that name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("m, parqet('a')", 'unknown function "parqet"'),
        ("m, xyzzy('a')", "Pictures stand in parquet(path) or arrow(path)."),
        ("m, parquet(3)", "parquet takes the path of a file in quotes, not 3"),
        ("m, parquet('a', column => 'b', column => 'c')", "column is given twice"),
        ("m, parquet()", 'unexpected ")"'),
        ("m", "occlude lacks its images"),
        ("images => 'a.png'", "occlude lacks its model and its images"),
        ("m, 'a.png', images => 'b.png', images => 'c.png'", "images is given twice"),
    ],
)
def test_a_mistake_is_explained(arguments: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        source(arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SELECT HEATMAP FROM occlude(chest, parquet('sc", ContextKind.PATH),
        ("SELECT HEATMAP FROM occlude(chest, parquet('a', co", ContextKind.OPTION),
        ("SELECT HEATMAP FROM occlude(chest, images => 'sc", ContextKind.PATH),
        ("SELECT HEATMAP FROM occlude(chest, images => arrow('sc", ContextKind.PATH),
    ],
)
def test_what_is_being_typed_is_known(text: str, kind: ContextKind) -> None:
    assert context(text).kind is kind
