"""Arithmetic on sizes, as graphs in files ask for it: on numbers alone, and never beyond 64 bits.

Python's own operators would as gladly repeat a list a thousand million times, or square a number until it fills the
memory.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

LARGEST = 1 << 63
_NUMBERS = (bool, int, float, torch.SymInt, torch.SymFloat, torch.SymBool)


def take_item(values: Any, place: Any) -> Any:
    """One of several results of an operator."""
    if not isinstance(values, (list, tuple)) or not isinstance(place, int):
        raise TypeError(f"an item of a {type(values).__name__}")
    return values[place]


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(*numbers: Any) -> Any:
        for number in numbers:
            if not isinstance(number, _NUMBERS):
                raise TypeError(f"{function.__name__} of a {type(number).__name__}")
        result = function(*numbers)
        if isinstance(result, int) and abs(result) >= LARGEST:
            raise OverflowError(f"{function.__name__} gives a number of more than 64 bits")
        return result

    bounded.__name__ = bounded.__qualname__ = f"bounded_{function.__name__.strip('_')}"
    return bounded


_UNARY_AND_BINARY = "abs add and_ eq floordiv ge gt le lt mod mul ne neg not_ or_ pos sub truediv"
#: By the name that Python's operator module has for it.
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "getitem": take_item,
    **{name: _on_numbers(getattr(operator, name)) for name in _UNARY_AND_BINARY.split()},
}
#: By Python's own function: what runs instead.
BOUNDED: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(operator, name): function for name, function in ARITHMETIC.items()
}
