"""Values from outside, checked against a declared form."""

from __future__ import annotations

import json
import math

import pytest

from kryptondb.files.schema import (
    Anything,
    Either,
    Form,
    Items,
    Json,
    Number,
    Object,
    OneOf,
    Row,
    Text,
    Truth,
    Unfit,
    Whole,
    from_json,
)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (Text(), "Größe"),
        (Text(path=True), "a\udcff.png"),
        (Whole(1, 8), 8),
        (Number(0), 3),
        (Number(), -2.5),
        (Truth(), False),
        (OneOf("a", None), None),
        (Row(Whole(), Text()), [1, "a"]),
        (Items(Text(), 1, 2), ["a", "b"]),
        (Object({"a": Whole()}, {"b": Text()}), {"a": 1}),
        (Object(others=Anything()), {"x": [1, {"y": None}]}),
        (Either(Whole(), Text()), "a"),
    ],
)
def test_what_fits_is_given_back(form: Form, value: object) -> None:
    assert form.check(value) == value


@pytest.mark.parametrize(
    ("form", "value", "reason"),
    [
        (Text(), 3, "a text belongs here, not a whole number"),
        (Text(), b"a", "not bytes"),
        (Text(3), "long", "0 to 3 characters"),
        (Text(), "\udcff", "UTF-8"),
        (Text(path=True), "\ud800", "UTF-8"),
        (Text(), "a\0", "NUL"),
        (Text(pattern="[a-z]+"), "a1", '"a1" does not belong'),
        (Whole(0, 9), 10, "from 0 to 9"),
        (Whole(), True, "not a truth value"),
        (Whole(), 1.0, "not a number"),
        (Number(), math.nan, "finite"),
        (Number(), math.inf, "finite"),
        (Number(), 10**400, "finite"),
        (Number(0), -1, "out of its range"),
        (Number(above=0), 0, "out of its range"),
        (Number(), True, "not a truth value"),
        (Truth(), 1, "true or false"),
        (OneOf(True), 1, "True belongs here"),
        (OneOf("a"), ["a"], "not a list"),
        (Row(Whole(), Whole()), [1], "a list of 2 belongs here, not a list of 1"),
        (Row(Whole(), Whole()), [1, "2"], r"^\[1\]: a whole number"),
        (Items(Whole()), {"a": 1}, "a list belongs here, not an object"),
        (Items(Whole(), most=1), [1, 2], "not of 2"),
        (Object({"a": Whole()}), {}, 'the key "a" is missing'),
        (Object({"a": Whole()}), {"a": 1, "b": 2}, 'the key "b" is unknown'),
        (Object({"a": Object({"b": Whole()})}), {"a": {"b": None}}, "^a.b: a whole number .* not nothing"),
        (Object(), [], "an object belongs here"),
        (Either(Whole(), Text()), None, "a whole number .*; or a text"),
        (Json(Whole()), "1.5", "not a number"),
        (Json(Whole()), 1, "a text belongs here"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(form: Form, value: object, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        form.check(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2", "not JSON"),
        ("", "not JSON"),
        ("NaN", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("9" * 5000, "5,000 digits"),
        ("0." + "1" * 5000, "5,002 digits"),
        ("[" * 100_000, "nests too deeply"),
        ('{"a": 1, "b": 2, "a": 3}', 'the key "a" appears twice'),
        (b'"\xff"', "not UTF-8"),
        ('"a"'.encode("utf-16"), "not UTF-8|not JSON"),
        (" " * (1 << 20) + "1", "at most 1,000,000 characters"),
    ],
)
def test_json_that_is_not_sound_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        from_json(text, 1_000_000)


def test_a_message_quotes_little_of_a_value_and_no_control_characters() -> None:
    with pytest.raises(Unfit) as caught:
        Text(100_000, pattern="[a-z]+").check("\x1b[2J" + "x" * 50_000)
    assert len(str(caught.value)) < 100 and "\x1b" not in str(caught.value)


def test_json_of_a_form_gives_its_value() -> None:
    value = {"a": [1, 2.5, None, "b"]}
    assert Json(Object(others=Anything())).check(json.dumps(value)) == value
