"""Cutting a text into statements, and knowing when a prompt may run it."""

from __future__ import annotations

import pytest

from kryptondb.grammar import is_complete, parse_script, split_statements


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        (" ;; -- nothing ; here\n;", []),
        ("SHOW MODELS", [("SHOW MODELS", 0)]),
        ("SHOW MODELS;SHOW SAMPLES;", [("SHOW MODELS", 0), ("SHOW SAMPLES", 12)]),
        ("SET a = 'x;y'; SHOW MODELS", [("SET a = 'x;y'", 0), ("SHOW MODELS", 15)]),
        ("SET a = 'it''s;'", [("SET a = 'it''s;'", 0)]),
        ('DESCRIBE "a;b" /* ; */ ;', [('DESCRIBE "a;b"', 0)]),
        ("/* first */ SHOW MODELS -- last", [("SHOW MODELS", 12)]),
        ("SET a = 'never ; closed", [("SET a = 'never ; closed", 0)]),
    ],
)
def test_statements_are_cut_at_semicolons_outside_quotes_and_comments(text: str, pieces: list[tuple[str, int]]) -> None:
    assert split_statements(text) == pieces


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", False),
        (";", True),
        ("SHOW MODELS", False),
        ("SHOW MODELS;", True),
        ("SHOW MODELS; ", True),
        ("SHOW MODELS; -- done", True),
        ("SHOW MODELS; /* done */\n", True),
        ("SHOW MODELS; /* not done", False),
        ("SHOW MODELS; SHOW", False),
        ("SHOW MODELS -- ;", False),
        ("SET a = ';", False),
        ("SET a = ';';", True),
        ('DESCRIBE "a;', False),
        ("SET a = 'it''s;", False),
    ],
)
def test_a_text_is_complete_when_it_ends_with_a_semicolon(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


def test_a_script_may_be_empty() -> None:
    assert parse_script(" ; -- nothing\n ;") == ()
