"""What is written is what is read: canonical SQL parses to an equal statement."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.grammar import parse, parse_expression, parse_script, unparse
from kryptondb.grammar.statements import Binary, Column, Expression, Literal, Option, Parameter, Statement, Unary
from tests.grammar.strategies import RELAXED, expressions, statements


@settings(RELAXED, max_examples=200)
@given(statement=statements())
def test_a_statement_printed_and_parsed_again_is_equal(statement: Statement) -> None:
    again = parse(str(statement))
    assert again == statement
    assert repr(again) == repr(statement)  # tells 1 from 1.0 and TRUE, which are equal in Python


@settings(RELAXED, max_examples=200)
@given(expression=expressions(max_leaves=15))
def test_an_expression_printed_and_parsed_again_is_equal(expression: Expression) -> None:
    assert repr(parse_expression(str(expression))) == repr(expression)


@settings(RELAXED, max_examples=50)
@given(several=st.lists(statements(), max_size=3))
def test_a_script_is_its_statements(several: list[Statement]) -> None:
    assert parse_script(" ;\n;".join(map(str, several)) + ";") == tuple(several)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("show   models ;", "SHOW MODELS"),
        ("select * from REDUNDANCY(m)", "SELECT * FROM redundancy(m)"),
        (
            "SELECT Y FROM occlude(m,'x') USING b=>? WITH TIME<=1.5 seconds AND ssim>=.9 WHERE y!=?",
            "SELECT Y FROM occlude(m, 'x') WHERE y <> ?2 WITH SSIM >= 0.9 AND TIME <= 1.5 SECONDS USING b => ?1",
        ),
        (
            "SELECT Y FROM occlude(m,'x') WHERE y > 1 LIMIT 3 WITH SSIM >= 1 USING a => 1e3",
            "SELECT Y FROM occlude(m, 'x') WHERE y > 1 LIMIT 3 WITH SSIM >= 1 USING a => 1000.0",
        ),
        ("copy(select * from redundancy(m))to'x'(format => png,a 1)", None),
        ('calibrate  a,"b c" ;', 'CALIBRATE a, "b c"'),
        ("set device = 'cuda:0'", "SET device = 'cuda:0'"),
        ('describe "a ""b"""', 'DESCRIBE "a ""b"""'),
        ('describe "plain"', "DESCRIBE plain"),
        ("explain format text select * from redundancy(m)", "EXPLAIN FORMAT text SELECT * FROM redundancy(m)"),
    ],
)
def test_a_statement_has_one_canonical_spelling(text: str, canonical: str | None) -> None:
    expected = canonical or "COPY (SELECT * FROM redundancy(m)) TO 'x' (FORMAT png, a 1)"
    assert unparse(parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a + b * c - d",
        "(a + b) * c",
        "a - (b - c)",
        "a / (b * c)",
        "NOT a = b AND c OR d",
        "NOT (a AND b)",
        "(NOT a) = b",
        "(a < b) < c",
        "a BETWEEN 1 AND 2 AND b",
        "(a OR b) AND c",
        "a IN (1, b + 2) AND c IS NOT NULL",
        "label NOT LIKE 'a%''b' OR label IS NULL",
        "-x - -1 - -(1) - -(-x) - -(-1)",
        "round(abs(drop), 2) >= 0.5 % 2",
        "count(*) + count(DISTINCT label)",
        "HEATMAP",
        "ATTRIBUTION",
        '"heatmap" + "prediction" + "attribution"',
        "*",
    ],
)
def test_only_the_parentheses_that_matter_are_printed(text: str) -> None:
    assert str(parse_expression(text)) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (
            "SELECT y a, drop * 2 twice, HEATMAP h FROM occlude(m, 'a')",
            "SELECT y AS a, drop * 2 AS twice, HEATMAP AS h ",
        ),
        (
            "select distinct y from occlude(m, 'a') offset 3 limit 2",
            "SELECT DISTINCT y FROM occlude(m, 'a') LIMIT 2 OF",
        ),
        ("SELECT y FROM occlude(m, 'a') OFFSET ? LIMIT ?", "SELECT y FROM occlude(m, 'a') LIMIT ?2 OFFSET ?1"),
        (
            "SELECT y::int, -y::double precision FROM occlude(m, 'a')",
            "SELECT CAST(y AS INTEGER), -CAST(y AS DOUBLE) AS p",
        ),
        (
            "SELECT CAST(y AS double precision), y::text::varchar FROM occlude(m, 'a')",
            "SELECT CAST(y AS DOUBLE), CAST(CAST(y",
        ),
        ("SELECT CAST(y AS VARCHAR(10)) FROM occlude(m, 'a')", "SELECT CAST(y AS VARCHAR) FROM"),
        (
            "SELECT y FROM occlude(m, 'a') WHERE y IN ? AND y NOT IN $l",
            "SELECT y FROM occlude(m, 'a') WHERE y IN (?) AND y",
        ),
        (
            "SELECT y FROM occlude(m, 'a') GROUP BY y HAVING count(*) > 1",
            "SELECT y FROM occlude(m, 'a') GROUP BY y HAVING",
        ),
    ],
)
def test_what_may_be_written_in_several_ways_is_printed_in_one(text: str, canonical: str) -> None:
    statement = parse(text)
    assert str(statement).startswith(canonical)
    assert parse(str(statement)) == statement


def test_a_minus_sign_belongs_to_the_number_unless_parentheses_part_them() -> None:
    assert parse_expression("-5") == Literal(-5)
    assert parse_expression("-(5)") == Unary("-", Literal(5))
    assert parse_expression("- -5") == Unary("-", Literal(-5))
    assert parse_expression("a -5") == Binary("-", Column("a"), Literal(5))


def test_positional_parameters_count_from_the_first_of_each_statement() -> None:
    first, second = parse_script("SET a = ?; SET a = (?, ?, $name)")
    assert first.value == Parameter(index=0)  # type: ignore[attr-defined]
    assert second.value.items == (  # type: ignore[attr-defined]
        Parameter(index=0),
        Parameter(index=1),
        Parameter(name="name"),
    )


def test_a_parameter_out_of_order_is_printed_with_its_number() -> None:
    assert str(Binary("+", Parameter(index=1), Parameter(index=0))) == "?2 + ?1"
    assert str(Binary("+", Parameter(index=0), Parameter(index=1))) == "? + ?"


def test_a_number_that_no_text_can_say_is_refused() -> None:
    with pytest.raises(ValueError, match="nan cannot be written"):
        str(Option("a", Literal(float("nan"))))
