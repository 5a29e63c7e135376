"""The colors of what is typed."""

from __future__ import annotations

from pygments.token import Comment, Error, Keyword, Name, String

from kryptondb.prompt.editor import OccludeLexer


def kinds(text: str) -> dict[str, object]:
    return {piece: kind for _, kind, piece in OccludeLexer().get_tokens_unprocessed(text)}


def test_every_character_of_a_text_is_coloured_in_order():
    text = "SELECT y FROM occlude(m, 'a\n$x ? /* c */ 1.5 ☃ ;"
    pieces = list(OccludeLexer().get_tokens_unprocessed(text))
    assert "".join(piece for _, _, piece in pieces) == text
    assert [offset for offset, _, _ in pieces] == sorted(offset for offset, _, _ in pieces)


def test_words_are_told_apart_by_what_they_are():
    found = kinds("SELECT label FROM occlude(chest, 'a.png', fill => NULL) -- why\n WHERE ☃")
    assert found["SELECT"] is Keyword and found["label"] is Name and found["chest"] is Name
    assert found["occlude"] is Name.Function and found["fill"] is Name.Attribute
    assert found["NULL"] is Keyword.Constant and found["'a.png'"] is String
    assert found["-- why"] is Comment and found["☃"] is Error


def test_a_dot_command_has_its_own_colour():
    assert kinds(".mode csv") == {".mode csv": Comment.Preproc}
