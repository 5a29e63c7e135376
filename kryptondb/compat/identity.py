"""What is known of objects, as long as they live."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByIdentity(Generic[Value]):
    """Values of objects that need not be hashable, forgotten with them. Of what cannot be watched nothing is kept."""

    def __init__(self) -> None:
        self._values: dict[int, Value] = {}

    def get(self, of: object, default: Value) -> Value:
        """What is known of an object."""
        return self._values.get(id(of), default)

    def put(self, of: object, value: Value) -> None:
        """Keeps a value as long as the object lives."""
        if id(of) not in self._values:
            try:
                weakref.finalize(of, self._values.pop, id(of), None).atexit = False
            except TypeError:  # it has slots, and none for those who watch it
                return
        self._values[id(of)] = value
