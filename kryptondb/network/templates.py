"""Argument templates as JSON and back: what a node's function is called with, as plain data.

Numbers, true, false, None, short texts and lists stand for themselves; everything else is an object of one key:

    {"tuple": [...]}  {"ref": 3}  {"extent": "height"}  {"float": "-inf"}
    {"dtype": "int64"}  {"device": "cpu"}  {"memory_format": "channels_last"}  {"layout": "strided"}
"""

from __future__ import annotations

import math
from typing import Any

import torch

from kryptondb.network.node import Extent, Ref


class Unreadable(Exception):
    """What is read is no network that this version wrote; the message says what is wrong with it."""


class Unwritable(Exception):
    """A network holds something that has no form in a file; the message says what."""


MOST_TEXT = 4096  # characters of a name or a reason
MOST_ITEMS = 100_000  # of a list
MOST_DEPTH = 8  # of lists in lists
MOST_SIZE = 1 << 63  # of a whole number: torch has 64 bits for it

_DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
_FORMATS = "contiguous_format preserve_format channels_last channels_last_3d"
_WORDS: dict[str, dict[str, Any]] = {
    "dtype": {name: getattr(torch, name) for name in _DTYPES.split()},
    "memory_format": {name: getattr(torch, name) for name in _FORMATS.split()},
    "layout": {"strided": torch.strided},
    "device": {"cpu": torch.device("cpu")},
    "extent": {extent.value: extent for extent in Extent},
    "float": {"inf": math.inf, "-inf": -math.inf, "nan": math.nan},
}


def encoded(value: Any) -> Any:
    """A template as JSON.

    Raises:
        Unwritable: a value of another kind (a tensor, a symbolic size, a device other than the CPU).
    """
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, str) and len(value) <= MOST_TEXT:
        return value
    if isinstance(value, Ref):
        return {"ref": value.index}
    if isinstance(value, list):
        return [encoded(item) for item in value]
    if type(value) is tuple:
        return {"tuple": [encoded(item) for item in value]}
    for kind, words in _WORDS.items():
        for word, meaning in words.items():
            if type(value) is type(meaning) and value == meaning:
                return {kind: word}
    raise Unwritable(f"an argument of type {type(value).__name__}")


def decoded(value: Any, before: int, depth: int = 0) -> Any:
    """A template from JSON.

    Args:
        before: the node's place; it can refer to earlier nodes only.

    Raises:
        Unreadable: anything that `encoded` does not write.
    """
    if depth > MOST_DEPTH:
        raise Unreadable("an argument too deeply nested")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return whole(value, -MOST_SIZE, MOST_SIZE - 1)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [decoded(item, before, depth + 1) for item in items(value)]
    if not isinstance(value, dict) or len(value) != 1:
        raise Unreadable("an argument of no known kind")
    ((kind, inner),) = value.items()
    if kind == "tuple":
        return tuple(decoded(item, before, depth + 1) for item in items(inner))
    if kind == "ref":
        return Ref(whole(inner, 0, before - 1))
    words = _WORDS.get(kind)
    if words is None or not isinstance(inner, str) or inner not in words:
        raise Unreadable("an argument of no known kind")
    return words[inner]


# Leaves, each checked before it is used


def whole(value: Any, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        raise Unreadable("a number out of its range")
    return value


def number(value: Any) -> float:
    """A finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise Unreadable("a number out of its range")
    return float(value)


def text(value: Any) -> str:
    """A text of at most `MOST_TEXT` characters."""
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise Unreadable("no text where one belongs")
    return value


def items(value: Any, count: int | None = None) -> list[Any]:
    """A list of at most `MOST_ITEMS` items, or of exactly `count`."""
    if not isinstance(value, list) or len(value) > MOST_ITEMS or (count is not None and len(value) != count):
        raise Unreadable("no list where one belongs")
    return value


def mapping(value: Any, *keys: str) -> dict[str, Any]:
    """An object; with exactly these keys, if any are given."""
    if not isinstance(value, dict) or len(value) > MOST_ITEMS or (keys and set(value) != set(keys)):
        raise Unreadable("no object where one belongs")
    return value
