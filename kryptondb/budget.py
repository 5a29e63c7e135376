"""A budget of time: '10 minutes' as people write it, and what of it is left."""

from __future__ import annotations

import re
import time

from kryptondb.errors import BindError, Position

_UNITS = {"second": 1, "sec": 1, "s": 1, "minute": 60, "min": 60, "m": 60, "hour": 3600, "h": 3600, "day": 86_400}
_PLURALS = {f"{unit}s": seconds for unit, seconds in _UNITS.items() if len(unit) > 1}
_LONGEST = 366 * 86_400


class Budget:
    """So many seconds from now on; without end for None."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._began = time.monotonic()

    @property
    def used(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def allows(self, seconds: float) -> bool:
        """Whether what takes so long would be done in time."""
        return self.seconds is None or self.used + seconds <= self.seconds


def parse_budget(value: object, position: Position | None = None) -> float:
    """Seconds of '10 minutes', '90 seconds', '1.5 hours', or of a number.

    Raises:
        BindError: anything else, and what is not more than nothing.
    """
    seconds = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]*)", value.strip().casefold())
        unit = _UNITS.get(match[2], _PLURALS.get(match[2])) if match else None
        seconds = float(match[1]) * unit if match and unit else None
    if seconds is None or not 0 < seconds <= _LONGEST:
        raise BindError(
            f"budget cannot be {value!r}",
            position=position,
            hint="It takes an amount of time like '10 minutes', '90 seconds' or '1 hour', or a number of seconds.",
        )
    return seconds
