"""What each kind of option takes, and the words for it."""

from __future__ import annotations

from pathlib import Path as File
from typing import Any

import numpy as np
import pytest

from kryptondb.options.kinds import (
    Character,
    Choice,
    Classes,
    Device,
    Duration,
    Either,
    Flag,
    Items,
    Kind,
    Label,
    Level,
    Memory,
    Number,
    Pair,
    Path,
    Span,
    Text,
    Whole,
    Window,
)

SIDE = Whole(1, 8192, of="pixels")


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (Whole(1), 3, 3),
        (Whole(1), 3.0, 3),
        (Whole(1), np.int64(3), 3),
        (Whole(0), 2**63 - 1, 2**63 - 1),
        (Number(0, 1), 0, 0.0),
        (Number(0, 1), np.float32(0.5), 0.5),
        (Choice("RGB", "L"), " rgb ", "RGB"),
        (Choice("gray", other={"grey": "gray"}), "GREY", "gray"),
        (Flag(), "True", True),
        (Flag(), False, False),
        (Text("a name"), "x", "x"),
        (Label(), 3, "3"),
        (Label(), " cat ", "cat"),
        (Pair(SIDE), 16, (16, 16)),
        (Pair(SIDE), [16, 24], (16, 24)),
        (Span(), (0, 0.5), (0.0, 0.5)),
        (Window(), [-600, 1500], (-600.0, 1500.0)),
        (Level(), 0.1, (0.1, False)),
        (Level(), " 50 %", (50.0, True)),
        (Items(Level(), 1, 2, alone=True), "5%", ((5.0, True),)),
        (Character(), ";", ";"),
        (Memory(), "4GiB", "4GiB"),
        (Memory(), "104857600", 100 << 20),
        (Device(), "CUDA:1", "cuda:1"),
        (Either(Choice("auto"), Whole(1, 4096)), "Auto", "auto"),
        (Either(Choice("auto"), Whole(1, 4096)), 7, 7),
        *((Classes(), value, value) for value in (3, "cat", ["cat", 3])),
        *(
            (Duration(), written, float(seconds))
            for written, seconds in (
                *(("10 minutes", 600), ("90 seconds", 90), ("1 hour", 3600), ("1.5 h", 5400), (" 2MIN ", 120)),
                *(("1 day", 86_400), ("30 s", 30), ("1 second", 1), ("2 hours", 7200), (45, 45), (0.5, 0.5)),
            )
        ),
    ],
)
def test_a_value_is_read_as_the_engine_uses_it(kind: Kind, value: object, read: object) -> None:
    found = kind.read(value)
    assert found == read and type(found) is type(read)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Whole(1, 64), (0, 65, 1.5, "1", True, None, [1], float("inf"), 10**400)),
        (Number(0, 1), (-0.1, 1.1, float("nan"), "0.5", False)),
        (Number(0, 1, above=True), (0, 2)),
        (Number(0, 1, above=True, below=True), (0, 1)),
        (Choice("drop", "score"), ("drops", 1, None, True)),
        (Flag(), ("yes", 1, None)),
        (Text("a name"), ("", " ", 3)),
        (Path("a file"), ("", 7, None)),
        (Pair(SIDE), (0, (1, 2, 3), (8, "x"), "a", True, 9000)),
        (Items(Number(), 1, 3), ((), 3, (1, 2, 3, 4), (None,))),
        (Span(), ((1, 0), (1, 1), 5, (1, "a"))),
        (Window(), (40, (40,), (40, 0), (1, 2, 3))),
        (Level(), ("half", "120%", None)),
        (Character(), ("ab", "a", "3", "é", "", '"')),
        (Duration(), ("", "ten minutes", "10", "10 parsecs", "-1 hour", "0 seconds", "1e3 s", "s", "10 minutess")),
        (Duration(), (0, -3, True, None, float("nan"), float("inf"), [10], "999999 days")),
        (Memory(), ("4 apples", "1MB", -5, 4, "9" * 18 + "TB")),
        (Device(), ("gpu", 1, "cuda:x")),
        (Classes(), ((), 1.5, None, True)),
    ],
)
def test_anything_else_is_refused(kind: Kind, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError):
            kind.read(value)


def test_a_path_is_made_absolute(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for written in ("w/net.pth", File("w/net.pth")):
        assert Path("a file").read(written) == str(tmp_path / "w/net.pth")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Whole(1, 65_536, of="positions"), "a whole number of positions from 1 to 65,536"),
        (Whole(0), "a whole number, at least 0"),
        (Number(), "a number"),
        (Number(0, above=True), "a number above 0"),
        (Number(0, 1, above=True), "a number above 0 and at most 1"),
        (Choice("fit", "cover"), "'fit' or 'cover'"),
        (Choice("a", "b", "c"), "one of 'a', 'b', 'c'"),
        (Either(Choice("auto"), Whole(1, 4096)), "'auto' or a whole number from 1 to 4,096"),
        (Pair(Whole(1, of="pixels")), "a whole number of pixels, at least 1, or a pair (height, width)"),
        (Items(Number(), 1, 64, alone=True), "a number, or a list of at most 64 of these"),
    ],
)
def test_a_kind_says_what_it_takes(kind: Kind, words: str) -> None:
    assert str(kind) == words
