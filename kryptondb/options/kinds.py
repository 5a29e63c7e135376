"""The kinds of value that options take.

Each reads a Python value, says in words what it takes, and knows the words that a prompt may offer.

>>> str(Pair(Whole(1, of="pixels")))
'a whole number of pixels, at least 1, or a pair (height, width)'
>>> Pair(Whole(1, of="pixels")).read([16, 24])
(16, 24)
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kryptondb.files.paths import absolute
from kryptondb.grammar.statements import AllClasses, TopK
from kryptondb.grammar.words import quote_string
from kryptondb.options.words import MIN_MEMORY
from kryptondb.text.plain_text import printable

_TIME_UNITS = {"second": 1, "sec": 1, "s": 1, "minute": 60, "min": 60, "m": 60, "hour": 3600, "h": 3600, "day": 86_400}
_TIME_UNITS |= {f"{unit}s": seconds for unit, seconds in _TIME_UNITS.items() if len(unit) > 1}
_LONGEST = 366 * 86_400
_MEMORY_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    _MEMORY_UNITS[f"{_letter}B"] = 1000**_power
    _MEMORY_UNITS[_letter] = _MEMORY_UNITS[f"{_letter}IB"] = 1024**_power


class Kind:
    """What an option takes. `str(kind)` ends the sentence `NAME must be ...`.

    Attributes:
        paths: whether it takes the path of a file.
    """

    paths = False

    def read(self, value: object) -> Any:
        """The value as the engine uses it.

        Raises:
            ValueError: the kind does not take it; the error's text, where it has one, is the remedy.
        """
        raise NotImplementedError

    def literals(self) -> tuple[str, ...]:
        """Values to offer, as they stand in a statement."""
        return ()


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number from `low` on, or up to `high`. `of` names what it counts."""

    low: int = 1
    high: int | None = None
    of: str = ""

    def __str__(self) -> str:
        reach = f", at least {self.low:,}" if self.high is None else f" from {self.low:,} to {self.high:,}"
        return "a whole number" + (f" of {self.of}" if self.of else "") + reach

    def read(self, value: object) -> int:
        found = number(value)
        if not found.is_integer() or int(found) < self.low or (self.high is not None and found > self.high):
            raise ValueError
        return int(value)  # type: ignore[call-overload,no-any-return]  # not of the float, which may have lost digits


@dataclass(frozen=True)
class Number(Kind):
    """A number from `low` to `high`; without an end that is open (`above`, `below`) or there is none (None)."""

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        if self.low is None:
            return "a number"
        if self.above and self.below:
            return f"a number between {self.low:g} and {self.high:g}, both excluded"
        if self.above:
            return f"a number above {self.low:g}" + ("" if self.high is None else f" and at most {self.high:g}")
        return f"a number from {self.low:g}" + ("" if self.high is None else f" to {self.high:g}")

    def read(self, value: object) -> float:
        found = number(value)
        if self.low is not None and (found < self.low or (self.above and found == self.low)):
            raise ValueError
        if self.high is not None and (found > self.high or (self.below and found == self.high)):
            raise ValueError
        return found


@dataclass(frozen=True, init=False)
class Choice(Kind):
    """One of a few words, in any case.

    Args:
        other: other spellings of the words.
    """

    words: tuple[str, ...]
    other: Mapping[str, str] = field(default_factory=dict)

    def __init__(self, *words: str, other: Mapping[str, str] | None = None) -> None:
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "other", other or {})

    def __str__(self) -> str:
        if len(self.words) > 2:
            return f"one of {', '.join(map(quote_string, self.words))}"
        return " or ".join(map(quote_string, self.words))

    def read(self, value: object) -> str:
        folded = value.strip().casefold() if isinstance(value, str) else None
        for word in self.words:
            if folded in (word.casefold(), *(other for other, meant in self.other.items() if meant == word)):
                return word
        raise ValueError

    def literals(self) -> tuple[str, ...]:
        return tuple(map(quote_string, self.words))


@dataclass(frozen=True)
class Flag(Kind):
    """TRUE or FALSE, also as words."""

    def __str__(self) -> str:
        return "TRUE or FALSE"

    def read(self, value: object) -> bool:
        if isinstance(value, str) and value.casefold() in ("true", "false"):
            return value.casefold() == "true"
        if not isinstance(value, bool):
            raise ValueError
        return value

    def literals(self) -> tuple[str, ...]:
        return "TRUE", "FALSE"


@dataclass(frozen=True)
class Text(Kind):
    """A string that is not empty. `what` says of what; `offered` are some that may be meant."""

    what: str
    offered: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.what

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise ValueError
        return value

    def literals(self) -> tuple[str, ...]:
        return tuple(map(quote_string, self.offered))


@dataclass(frozen=True)
class Label(Kind):
    """A text or a number that names a class."""

    def __str__(self) -> str:
        return "a label"

    def read(self, value: object) -> str:
        text = value if isinstance(value, str) else str(value) if number(value) is not None else ""
        return printable(text.strip())


@dataclass(frozen=True)
class Path(Kind):
    """The path of a file, made absolute. `what` says of which."""

    what: str
    paths = True

    def __str__(self) -> str:
        return f"the path of {self.what}"

    def read(self, value: object) -> str:
        path = os.fspath(value) if hasattr(value, "__fspath__") else value
        if not isinstance(path, str) or not path.strip():
            raise ValueError
        return absolute(path)


@dataclass(frozen=True)
class Items(Kind):
    """A list of values of one kind, as a tuple.

    Args:
        alone: whether a single value stands for a list of one.
        said: the kind in words, where `a list of ...` is not clear enough.
    """

    kind: Kind
    least: int
    most: int
    alone: bool = False
    said: str = ""

    def __str__(self) -> str:
        if self.said:
            return self.said
        among = f"at most {self.most:,}" if self.least < self.most else f"{self.most}"
        single = f"{self.kind}, or " if self.alone else ""
        return f"{single}a list of {among} of these"

    def read(self, value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            if not self.alone:
                raise ValueError
            value = (value,)
        if not self.least <= len(value) <= self.most:
            raise ValueError
        return tuple(map(self.kind.read, value))

    def literals(self) -> tuple[str, ...]:
        return self.kind.literals() if self.alone else ()


@dataclass(frozen=True)
class Pair(Kind):
    """Height and width: one whole number for both, or a list of two."""

    side: Whole
    names: str = "(height, width)"

    def __str__(self) -> str:
        return f"{self.side}, or a pair {self.names}"

    def read(self, value: object) -> tuple[int, int]:
        height, width = Items(self.side, 2, 2).read(value if isinstance(value, (list, tuple)) else (value, value))
        return height, width


@dataclass(frozen=True)
class Span(Kind):
    """Two numbers (low, high), the smaller first."""

    def __str__(self) -> str:
        return "two numbers (low, high), the smaller first"

    def read(self, value: object) -> tuple[float, float]:
        low, high = Items(Number(), 2, 2).read(value)
        if not low < high:
            raise ValueError
        return low, high


@dataclass(frozen=True)
class Window(Kind):
    """The part of a picture's values that is shown: its center and its width."""

    def __str__(self) -> str:
        return "(center, width) in the units of the image files, such as (40, 400); the width must be above 0"

    def read(self, value: object) -> tuple[float, float]:
        center, width = Items(Number(), 2, 2).read(value)
        if width <= 0:
            raise ValueError
        return center, width


@dataclass(frozen=True)
class Level(Kind):
    """A place on a scale: (number, False), or (number, True) for so many percent of it."""

    def __str__(self) -> str:
        return "a number, or a percentage such as '50%'"

    def read(self, value: object) -> tuple[float, bool]:
        if not isinstance(value, str):
            return number(value), False
        found = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,9})?)\s*%\s*", value)
        if found is None or float(found[1]) > 100:
            raise ValueError
        return float(found[1]), True


@dataclass(frozen=True)
class Character(Kind):
    """A single ASCII character that cannot be taken for a part of a value: numbers stand without quotes."""

    def __str__(self) -> str:
        return "one character that cannot be part of a value: not a letter, digit, quote, line end or any of . - +"

    def read(self, value: object) -> str:
        if not isinstance(value, str) or len(value) != 1 or not value.isascii():
            raise ValueError
        if re.match(r'[A-Za-z0-9"\r\n\0.+-]', value):
            raise ValueError
        return value


@dataclass(frozen=True)
class Duration(Kind):
    """An amount of time, in seconds."""

    def __str__(self) -> str:
        return "an amount of time such as '10 minutes', '90 seconds' or '1 hour', or a number of seconds"

    def read(self, value: object) -> float:
        if isinstance(value, str):
            found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+)", value.strip().casefold())
            if found is None or found[2] not in _TIME_UNITS:
                raise ValueError
            value = float(found[1]) * _TIME_UNITS[found[2]]
        return Number(0, _LONGEST, above=True).read(value)

    def literals(self) -> tuple[str, ...]:
        return "'1 minute'", "'10 minutes'", "'1 hour'"


@dataclass(frozen=True)
class Memory(Kind):
    """An amount of memory: bytes, or a text with a unit, which is kept as it is."""

    def __str__(self) -> str:
        return "an amount such as '4GiB' or '512MB', or a number of bytes, at least 64MiB"

    def read(self, value: object) -> str | int:
        if not MIN_MEMORY <= self.bytes(value) < 1 << 60:
            raise ValueError
        return value.strip() if isinstance(value, str) and not value.strip().isdigit() else self.bytes(value)

    @staticmethod
    def bytes(value: object) -> int:
        """How many bytes an amount is. Raises ValueError for what is none."""
        if not isinstance(value, str):
            return Whole(0).read(value)
        found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,6})?)\s*([A-Za-z]{0,3})", value.strip())
        if found is None or found[2].upper() not in _MEMORY_UNITS:
            raise ValueError
        return int(float(found[1]) * _MEMORY_UNITS[found[2].upper()])

    def literals(self) -> tuple[str, ...]:
        return "'4GiB'", "'16GiB'"


@dataclass(frozen=True)
class Device(Kind):
    """Where networks run."""

    def __str__(self) -> str:
        return "'auto', 'cpu', 'cuda' or 'cuda:0'"

    def read(self, value: object) -> str:
        text = value.strip().casefold() if isinstance(value, str) else ""
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text):
            raise ValueError
        return text

    def literals(self) -> tuple[str, ...]:
        return "'auto'", "'cpu'", "'cuda'"


@dataclass(frozen=True)
class Classes(Kind):
    """Classes of a model. Each of a list is looked up by the rule that knows the model."""

    def __str__(self) -> str:
        return "an index, a label in quotes, TOP k, ALL, or a list of indices and labels"

    def read(self, value: object) -> object:
        if isinstance(value, (list, tuple)) and not value:
            raise ValueError("An empty list chooses nothing.")
        if not isinstance(value, (TopK, AllClasses, str, list, tuple)) and not number(value).is_integer():
            raise ValueError
        return value


@dataclass(frozen=True, init=False)
class Either(Kind):
    """The first of several kinds that takes the value."""

    kinds: tuple[Kind, ...]

    def __init__(self, *kinds: Kind) -> None:
        object.__setattr__(self, "kinds", kinds)

    @property
    def paths(self) -> bool:  # type: ignore[override]
        return any(kind.paths for kind in self.kinds)

    def __str__(self) -> str:
        *first, last = map(str, self.kinds)
        if any("," in words for words in first):
            return f"{', '.join(first)}, or {last}"
        return f"{', '.join(first).replace(' or ', ', ')} or {last}"

    def read(self, value: object) -> Any:
        for kind in self.kinds:
            try:
                return kind.read(value)
            except ValueError:
                continue
        raise ValueError

    def literals(self) -> tuple[str, ...]:
        return tuple(literal for kind in self.kinds for literal in kind.literals())


def number(value: object) -> float:
    """A finite number, numpy's too. Raises ValueError for anything else."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        value = value.item()  # type: ignore[attr-defined]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError
    try:
        found = float(value)
    except OverflowError:
        raise ValueError from None
    if not math.isfinite(found):
        raise ValueError
    return found
