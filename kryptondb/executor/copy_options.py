"""COPY's options: values checked, with an error that says what the option takes."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

from kryptondb.errors import BindError, did_you_mean

_LOOK = ("values", "opacity", "scale", "colormap", "size")
_FIGURE = (*_LOOK, "colorbar", "title", "contours", "side_by_side")
#: The options of each format, beside `format` itself.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "arrow": ("compression",),
    "arrows": ("compression",),
    "parquet": ("compression",),
    "csv": ("header", "delimiter", "formulas"),
    "png": _FIGURE,
    "html": _LOOK,
    "dicom": _FIGURE,
}


def refuse_unknown(kind: str, options: Mapping[str, object]) -> None:
    """BindError for an option that the format does not have."""
    known = OPTIONS[kind]
    for name in options:
        if name not in known:
            everything = ", ".join(("format", *known))
            raise BindError(
                f'no option named "{name}" for {kind} files',
                hint=did_you_mean(name, ("format", *known)) or f"The options are {everything}.",
            )


def choice(name: str, value: object, known: Collection[str]) -> str:
    """One of a few words, in any case."""
    if isinstance(value, str) and value.casefold() in known:
        return value.casefold()
    near = did_you_mean(value, known) if isinstance(value, str) else None
    raise BindError(f"{name} must be {', '.join(known)}, not {value!r}", hint=near)


def truth(name: str, value: object) -> bool:
    """TRUE or FALSE."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.casefold() in ("true", "false"):
        return value.casefold() == "true"
    raise BindError(f"{name} must be TRUE or FALSE, not {value!r}")


def one_character(name: str, value: object) -> str:
    """A single ASCII character that cannot be taken for a part of a value: numbers stand without quotes."""
    if isinstance(value, str) and len(value) == 1 and value.isascii() and not re.match(r'[A-Za-z0-9"\r\n\0.+-]', value):
        return value
    raise BindError(f"{name} must be one character, and none that stands in a value, not {value!r}")


def number(name: str, value: object, low: float, high: float) -> float:
    """A number in a range, both ends included."""
    if isinstance(value, (int, float)) and _is_number(value) and low <= value <= high:
        return float(value)
    raise BindError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")


def pair(name: str, value: object) -> tuple[float, float]:
    """Two numbers, the smaller first."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        low, high = value
        if _is_number(low) and _is_number(high) and low < high:
            return float(low), float(high)
    raise BindError(f"{name} must be two numbers (low, high), the smaller first, not {value!r}")


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """A whole number in a range, both ends included."""
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise BindError(f"{name} must be a whole number from {low} to {high}, not {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
