"""What is read back from disk, checked against a declared form before anything uses it.

A form says what a value may be; forms are put together like the values that they describe:

    PROFILE = Object({"patch": PAIR, "score": OneOf("probability", "logit")}, optional={"edges": Text()})
    PROFILE.check(from_json(text, most=1 << 20))

`check` gives the value back, or raises Unfit with the place inside it: `patch[1]: a whole number from 1 to 8,192
belongs here, not a text`. Who reads adds the file and the row, and the remedy.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Characters of a text, and items of a list or object, where a form says nothing else.
MOST_TEXT = 1 << 16
MOST_ITEMS = 1 << 20
#: Digits of a number in JSON: those of the largest float, and some more.
_MOST_DIGITS = 400
_SHOWN = 40
#: Whole numbers up to here stay whole where any number is taken.
_EXACT = 1 << 53


class Unfit(ValueError):
    """A value does not have the form that it must have; the message says where in it, and what belongs there."""

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.reason, self.place = reason, place


class Form(ABC):
    """What a value may be."""

    @abstractmethod
    def check(self, value: Any, place: str = "") -> Any:
        """The value, where it has this form.

        Args:
            place: where it stands, for the message.

        Raises:
            Unfit: it has another.
        """


@dataclass(frozen=True)
class Text(Form):
    """A text that UTF-8 can hold.

    Attributes:
        most: characters.
        pattern: a regular expression that all of it matches.
        least: characters.
        path: whether it names a file, and may then hold bytes that are not UTF-8, as `os.fsdecode` gives them.
    """

    most: int = MOST_TEXT
    pattern: str | None = None
    least: int = 0
    path: bool = False

    def check(self, value: Any, place: str = "") -> str:
        """See `Form.check`."""
        if not isinstance(value, str):
            raise Unfit(f"a text belongs here, not {kind_of(value)}", place)
        if not self.least <= len(value) <= self.most:
            raise Unfit(
                f"a text of {self.least:,} to {self.most:,} characters belongs here, not of {len(value):,}", place
            )
        try:
            value.encode("utf-8", "surrogateescape" if self.path else "strict")
        except UnicodeEncodeError:
            raise Unfit("text in UTF-8 belongs here", place) from None
        if "\0" in value:
            raise Unfit("a text without NUL characters belongs here", place)
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise Unfit(f"{shown(value)} does not belong here", place)
        return value


@dataclass(frozen=True)
class Whole(Form):
    """A whole number from `least` to `most`."""

    least: int = 0
    most: int = (1 << 63) - 1

    def check(self, value: Any, place: str = "") -> int:
        """See `Form.check`."""
        if type(value) is not int or not self.least <= value <= self.most:
            what = kind_of(value) if type(value) is not int else "this one"
            raise Unfit(f"a whole number from {self.least:,} to {self.most:,} belongs here, not {what}", place)
        return value


@dataclass(frozen=True)
class Number(Form):
    """A finite number from `least` to `most`, whole or not; larger than `above` where that is given."""

    least: float = -math.inf
    most: float = math.inf
    above: float | None = None

    def check(self, value: Any, place: str = "") -> float:
        """See `Form.check`."""
        if type(value) not in (int, float):
            raise Unfit(f"a number belongs here, not {kind_of(value)}", place)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise Unfit("a finite number belongs here", place)
        if not self.least <= number <= self.most or (self.above is not None and number <= self.above):
            raise Unfit(f"the number {number:g} is out of its range", place)
        return value if abs(number) < _EXACT else number


@dataclass(frozen=True)
class Truth(Form):
    """True or false."""

    def check(self, value: Any, place: str = "") -> bool:
        """See `Form.check`."""
        if not isinstance(value, bool):
            raise Unfit(f"true or false belongs here, not {kind_of(value)}", place)
        return value


class OneOf(Form):
    """One of some values."""

    def __init__(self, *values: str | int | bool | None) -> None:
        self.values = values

    def check(self, value: Any, place: str = "") -> Any:
        """See `Form.check`."""
        if not any(type(value) is type(known) and value == known for known in self.values):
            raise Unfit(f"{' or '.join(map(repr, self.values))} belongs here, not {shown(value)}", place)
        return value


class Either(Form):
    """A value of any of some forms."""

    def __init__(self, *forms: Form) -> None:
        self.forms = forms

    def check(self, value: Any, place: str = "") -> Any:
        """See `Form.check`."""
        reasons = []
        for form in self.forms:
            try:
                return form.check(value, place)
            except Unfit as unfit:
                reasons.append(unfit.reason)
        raise Unfit("; or ".join(reasons), place)


class Row(Form):
    """A list of as many items as there are forms, each of its own."""

    def __init__(self, *forms: Form) -> None:
        self.forms = forms

    def check(self, value: Any, place: str = "") -> list[Any]:
        """See `Form.check`."""
        if not isinstance(value, (list, tuple)) or len(value) != len(self.forms):
            raise Unfit(f"a list of {len(self.forms)} belongs here, not {kind_of(value)}", place)
        pairs = zip(self.forms, value, strict=True)
        return [form.check(item, f"{place}[{index}]") for index, (form, item) in enumerate(pairs)]


@dataclass(frozen=True)
class Items(Form):
    """A list of items of one form."""

    of: Form
    least: int = 0
    most: int = MOST_ITEMS

    def check(self, value: Any, place: str = "") -> list[Any]:
        """See `Form.check`."""
        if not isinstance(value, (list, tuple)):
            raise Unfit(f"a list belongs here, not {kind_of(value)}", place)
        if not self.least <= len(value) <= self.most:
            raise Unfit(f"a list of {self.least:,} to {self.most:,} belongs here, not of {len(value):,}", place)
        return [self.of.check(item, f"{place}[{index}]") for index, item in enumerate(value)]


@dataclass(frozen=True)
class Object(Form):
    """A mapping of texts.

    Attributes:
        required: the form of each key that must be there.
        optional: of those that may be there.
        others: of all other keys; None where there may be none.
    """

    required: Mapping[str, Form] = field(default_factory=dict)
    optional: Mapping[str, Form] = field(default_factory=dict)
    others: Form | None = None
    most: int = MOST_ITEMS
    keys: Form = field(default_factory=Text)

    def check(self, value: Any, place: str = "") -> dict[str, Any]:
        """See `Form.check`."""
        if not isinstance(value, dict):
            raise Unfit(f"an object belongs here, not {kind_of(value)}", place)
        if len(value) > self.most:
            raise Unfit(f"an object of at most {self.most:,} keys belongs here, not of {len(value):,}", place)
        for key in self.required:
            if key not in value:
                raise Unfit(f'the key "{key}" is missing', place)
        return {key: self._item(key, item, place) for key, item in value.items()}

    def _item(self, key: Any, item: Any, place: str) -> Any:
        self.keys.check(key, place)
        form = self.required.get(key) or self.optional.get(key) or self.others
        if form is None:
            raise Unfit(f"the key {shown(key)} is unknown", place)
        return form.check(item, f"{place}.{_short(key)}" if place else _short(key))


@dataclass(frozen=True)
class Json(Form):
    """A text that is JSON, of at most `most` characters, whose value has a form.

    Attributes:
        decoded: whether `check` gives the value that the text says, instead of the text.
    """

    of: Form
    most: int = 1 << 24
    decoded: bool = True

    def check(self, value: Any, place: str = "") -> Any:
        """See `Form.check`."""
        if not isinstance(value, str):
            raise Unfit(f"a text belongs here, not {kind_of(value)}", place)
        try:
            said = self.of.check(from_json(value, self.most))
        except Unfit as unfit:
            raise Unfit(str(unfit), place) from None
        return said if self.decoded else value


class Anything(Form):
    """Whatever JSON can say: what another version wrote and this one does not read."""

    def check(self, value: Any, place: str = "") -> Any:
        """The value."""
        return value


def from_json(text: str | bytes, most: int) -> Any:
    """The value of a JSON text.

    Raises:
        Unfit: it is longer than `most`, is not UTF-8, ends too early, nests too deeply, or holds NaN, infinity, a
            number of hundreds of digits or a key twice.
    """
    if len(text) > most:
        raise Unfit(f"JSON of at most {most:,} characters belongs here, not of {len(text):,}")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(
            text, parse_constant=_no_number, parse_int=_whole, parse_float=_float, object_pairs_hook=_object
        )
    except Unfit:
        raise
    except UnicodeDecodeError:
        raise Unfit("it is not UTF-8 text") from None
    except RecursionError:
        raise Unfit("its JSON nests too deeply") from None
    except ValueError as error:
        raise Unfit(f"it is not JSON: {str(error)[:100]}") from None


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    if value is None:
        return "nothing"
    names = {bool: "a truth value", int: "a whole number", float: "a number", str: "a text", bytes: "bytes"}
    names |= {list: "a list", tuple: "a list", dict: "an object"}
    kind = names.get(type(value), type(value).__name__)
    return f"{kind} of {len(value):,}" if isinstance(value, (list, tuple)) else kind


def shown(value: Any) -> str:
    """A value for a message, at most some characters of it."""
    return f'"{_short(value)}"' if isinstance(value, str) else kind_of(value)


def _short(text: str) -> str:
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _no_number(name: str) -> Any:
    raise Unfit(f"{name} is not a number in JSON")


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise Unfit(f"a number of {len(digits):,} digits is too large")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > _MOST_DIGITS:
        raise Unfit(f"a number of {len(digits):,} digits is too long")
    return float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Unfit(f"the key {shown(twice)} appears twice")
    return value
