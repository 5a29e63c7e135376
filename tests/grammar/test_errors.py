"""What a person reads after a mistake: every message of messages.txt, word for word, and where each points."""

from __future__ import annotations

from pathlib import Path

import pytest

from kryptondb.errors import ParseError
from kryptondb.grammar import parse, parse_expression, parse_script


def _messages() -> list[tuple[str, str]]:
    """The (text, message) pairs of messages.txt."""
    blocks = Path(__file__).with_name("messages.txt").read_text(encoding="utf-8").split("\n\n")
    pairs = [block.strip("\n").partition("\n") for block in blocks if block.startswith("> ")]
    return [(text.removeprefix("> "), message) for text, _, message in pairs]


@pytest.mark.parametrize(("text", "message"), _messages())
def test_a_mistake_is_explained(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert str(caught.value) == message
    assert caught.value.text == text


@pytest.mark.parametrize(("text", "message"), _messages())
def test_a_mistake_is_explained_the_same_after_another_statement(text: str, message: str) -> None:
    if "a second statement starts here" in message:
        return  # a script takes several
    with pytest.raises(ParseError) as caught:
        parse_script(f"SHOW MODELS;\n-- the next one\n{text}")
    assert str(caught.value) == message.replace("line 1,", "line 3,", 1)


@pytest.mark.parametrize("text", ["", "  \n", "-- only a comment", ";", " ; ;"])
def test_a_text_without_a_statement_says_so(text: str) -> None:
    with pytest.raises(ParseError, match="no statement here"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "offender"),
    [
        ("SELECT HEATMAP\nFROM oclude(m, 'a')", "oclude"),
        ("SELECT y\n  FORM occlude(m, 'a')", "FORM"),
        ("SELECT y FROM occlude(m,\n 'a.png)", "'"),
        ("SELECT y FROM occlude(m, 'a')\n\nWITH SSIM >= 2", "2"),
        ("SELECT y FROM occlude(m, 'a') WHERE nope(y) > 1", "nope"),
    ],
)
def test_the_caret_stands_under_the_offending_token(text: str, offender: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    position = caught.value.position
    assert position is not None
    assert text[position.start : position.end] == offender
    line = text.split("\n")[position.line - 1]
    assert line[position.column - 1 :].startswith(offender)


def test_no_message_names_a_terminal_of_the_grammar_file() -> None:
    for _, message in _messages():
        for name in ("NAME", "QUOTED", "PLACEHOLDER", "LPAR", "RPAR", "COMMA", "ARROW", "$END", "__ANON"):
            assert name not in message


def test_at_most_six_alternatives_are_listed() -> None:
    for _, message in _messages():
        for line in message.split("\n"):
            if line.startswith("Expected"):
                assert line.count(", ") <= 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y +", "unexpected end of statement"),
        ("y; y", 'unexpected ";" after an expression'),
        ("y;", 'unexpected ";" after an expression'),
        ("y FROM", 'unexpected "FROM"'),
        ("SELECT y", 'unexpected "SELECT"'),
    ],
)
def test_an_expression_alone_is_explained_too(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_expression(text)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("expression", "said", "remedy"),
    [
        ("label || 'a'", "concatenation (||)", "join them where the result is read"),
        ("y // 2", "integer division (//)", "CAST((a - a % b) / b AS BIGINT)"),
        ("c.y", "a qualified name (table.column)", "Write the column alone: y."),
        ("y + cells.x", "a qualified name (table.column)", "Write the column alone: x."),
        ("c.*", "a qualified name (table.column)", "Write the column alone: *."),
    ],
)
def test_signs_of_sql_that_are_missing_are_said_by_their_names(expression: str, said: str, remedy: str) -> None:
    source = "FROM occlude(m, 'a.png')"
    for text in (f"SELECT {expression} {source}", f"SELECT y {source} ORDER BY {expression}"):
        with pytest.raises(ParseError) as caught:
            parse(text)
        assert caught.value.message == f"{said} is not supported" and remedy in str(caught.value.hint)


def test_limit_all_is_no_limit() -> None:
    query = "SELECT y FROM occlude(m, 'a.png')"
    assert parse(f"{query} LIMIT ALL") == parse(query)
    assert parse(f"{query} LIMIT ALL OFFSET 3") == parse(f"{query} OFFSET 3")
