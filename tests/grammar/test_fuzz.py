"""Whatever the text: a statement or a ParseError, never anything else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.errors import ParseError
from kryptondb.grammar import KEYWORDS, is_complete, parse, parse_expression, parse_script, split_statements
from kryptondb.grammar.completion import ContextKind, context, expected_words
from kryptondb.grammar.parser import MAX_CHARACTERS, MAX_DEPTH
from kryptondb.grammar.statements import Node, Statement
from tests.grammar.strategies import RELAXED, statements

SIGNS = [
    "(",
    ")",
    ",",
    ";",
    "'",
    '"',
    "=>",
    ">=",
    "=",
    "-",
    "--",
    "/*",
    "*/",
    "?",
    "$a",
    "1",
    "2.5",
    "'a'",
    "é",
    "\x00",
]
PIECES = st.sampled_from([*KEYWORDS, *SIGNS, "occlude", "chest", "y", "min", " ", "\n"])


def check(text: str) -> None:
    """Everything the room offers for a text keeps its promise on it."""
    for read in (parse, parse_script, parse_expression):
        try:
            result = read(text)
        except ParseError as error:
            assert error.position is not None
            assert 0 <= error.position.start <= error.position.end <= len(text)
            assert error.text == text
            assert str(error).startswith(f"line {error.position.line}, column {error.position.column}: ")
        else:
            assert isinstance(result, Node | tuple)
    for statement, offset in split_statements(text):
        assert text[offset : offset + len(statement)] == statement
    is_complete(text)
    assert all(word.upper().split()[0] in KEYWORDS for word in expected_words(text))
    found = context(text)
    assert isinstance(found.kind, ContextKind)
    assert 0 <= found.start <= len(text)


@settings(RELAXED, max_examples=200)
@given(text=st.text(max_size=60))
def test_any_text_is_a_statement_or_a_parse_error(text: str) -> None:
    check(text)


@settings(RELAXED, max_examples=200)
@given(pieces=st.lists(PIECES, max_size=25), glue=st.sampled_from(["", " "]))
def test_any_words_of_the_language_are_a_statement_or_a_parse_error(pieces: list[str], glue: str) -> None:
    check(glue.join(pieces))


@settings(RELAXED, max_examples=200)
@given(statement=statements(), data=st.data())
def test_a_statement_with_a_mistake_is_a_statement_or_a_parse_error(statement: Statement, data: st.DataObject) -> None:
    text = str(statement)
    words = re.findall(r"\w+|\W", text)
    place = data.draw(st.integers(0, len(words) - 1))
    change = data.draw(st.sampled_from(["drop", "double", "replace", "cut", "swap letters"]))
    if change == "drop":
        del words[place]
    elif change == "double":
        words.insert(place, words[place])
    elif change == "replace":
        words[place] = data.draw(PIECES)
    elif change == "cut":
        words = words[:place]
    else:
        words[place] = words[place][1:2] + words[place][:1] + words[place][2:]
    check("".join(words))


@pytest.mark.parametrize(
    ("start", "middle", "end"),
    [
        ("SELECT y FROM occlude(m, 'a') WHERE ", "(", "y"),
        ("SELECT y FROM occlude(m, 'a') WHERE ", "NOT ", "y"),
        ("SELECT y FROM occlude(m, 'a') WHERE ", "- ", "y"),
        ("SELECT y FROM occlude(m, 'a') WHERE ", "abs(", "y"),
        ("SELECT y FROM occlude(m, 'a') WHERE y", " OR y", ""),
        ("SELECT y FROM occlude(m, 'a') WHERE y", " + y", ""),
        ("SET a = ", "(", "1"),
        ("", "(", ""),
        ("", ")", ""),
    ],
)
def test_no_nesting_is_deep_enough_to_exhaust_the_stack(start: str, middle: str, end: str) -> None:
    for count in (MAX_DEPTH + 20, 1500):
        closing = ")" * count if middle.endswith("(") else ""
        with pytest.raises(ParseError):
            parse(start + middle * count + end + closing)
        check(start + middle * count + end)


def test_nesting_that_is_allowed_can_be_printed_compared_and_hashed() -> None:
    for text in ("NOT " * 90 + "y", "y" + " OR y" * 90, "(" * 90 + "y" + ")" * 90, "- " * 90 + "y"):
        statement = parse(f"SELECT y FROM occlude(m, 'a') WHERE {text}")
        again = parse(str(statement))
        assert again == statement
        assert hash(again) == hash(statement)
        assert repr(again) == repr(statement)


def test_a_long_list_is_not_nesting() -> None:
    files = ", ".join(f"'scan{i}.png'" for i in range(3000))
    parse(f"SELECT HEATMAP FROM occlude(m, ({files})) WHERE class IN ({', '.join(map(str, range(3000)))})")


OCCLUDE = "occlude(m, 'a')"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"SELECT {','.join(['y'] * 500_000)} FROM {OCCLUDE}", "this statement has more than 50,000 words and signs"),
        (f"SELECT y FROM {OCCLUDE} ORDER BY {','.join(['y'] * 500_000)}", "this statement has more than 50,000 words"),
        (f"SELECT y FROM {OCCLUDE} WHERE {' OR '.join(['y=1'] * 110_000)}", "this statement has more than 50,000"),
        (f"SELECT y FROM {OCCLUDE} WHERE y IN ({','.join(['1'] * 300_000)})", "this statement has more than 50,000"),
        (f"CALIBRATE {','.join(['m'] * 300_000)}", "this statement has more than 50,000 words and signs"),
        ("SHOW MODELS;" * 80_000, "this text has more than 200,000 words and signs"),
        (f"SELECT {','.join(['y'] * 1_001)} FROM {OCCLUDE}", "SELECT lists 1,001 expressions; the limit is 1,000"),
        (
            f"SELECT y FROM {OCCLUDE} GROUP BY {','.join(['y'] * 1_001)}",
            "GROUP BY lists 1,001 expressions; the limit",
        ),
        (
            f"SELECT y FROM {OCCLUDE} ORDER BY {','.join(['y'] * 1_001)}",
            "ORDER BY lists 1,001 expressions; the limit",
        ),
        (f"SELECT y FROM {OCCLUDE} WHERE y IN ({','.join(['x'] * 1_001)})", "IN lists 1,001 expressions beside const"),
        ("SET a = " + "1" * 1_000_000 + "x", "is not a number"),
        ("SET a = 1." + "1" * 500_000 + "." + "1" * 500_000, "is not a number"),
        ("SET a = 1e" + "1" * 1_000_000, "this number is too large"),
        ("SET a = '" + "''" * 500_000, "this string is never closed"),
        ("DESCRIBE " + "y" * 1_000_000 + " y", 'unexpected "y"'),
        ("SET a = " + "(" * 49_000, "this is nested too deeply"),
    ],
)
def test_a_text_holds_only_so_much(text: str, message: str) -> None:
    for read in (parse, parse_script):
        with pytest.raises(ParseError) as caught:
            read(text)
        assert message in str(caught.value)
        assert all(len(line) < 200 for line in str(caught.value).split("\n"))


def test_a_long_text_of_few_words_is_a_statement() -> None:
    assert parse("/* all */ -- of them\n" * 40_000 + "SHOW MODELS")
    assert parse(f"SET a = '{'x' * 1_000_000}'")


def test_positions_of_many_statements_are_counted_in_one_pass() -> None:
    statements = parse_script("SHOW MODELS;\n" * 10_000)
    last = statements[-1].position
    assert last is not None and (last.line, last.column) == (10_000, 1)


def test_a_text_without_end_is_refused_unread() -> None:
    with pytest.raises(ParseError, match="the text is too long: 1,048,577 characters"):
        parse(" " * (MAX_CHARACTERS + 1))
    assert expected_words(" " * (MAX_CHARACTERS + 1)) == ()
    assert context("'" * (MAX_CHARACTERS + 1)).kind is ContextKind.NOTHING
    assert expected_words("SELECT " + "y," * 400_000) == ()


@pytest.mark.parametrize("digits", ["9" * 20, "9" * 10_000, "9223372036854775808"])
def test_a_whole_number_beyond_64_bits_is_refused(digits: str) -> None:
    with pytest.raises(ParseError, match="this whole number is too large"):
        parse(f"SET a = {digits}")


def test_quotes_and_comments_of_any_length_are_scanned_in_one_pass() -> None:
    for text in ("'" * 100_001, '"' * 100_001, "/*" * 50_000, "'a''" * 50_000, "-" * 100_001, "(" * 100_000):
        with pytest.raises(ParseError):
            parse(f"SET a = {text}")
