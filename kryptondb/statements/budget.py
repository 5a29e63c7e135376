"""A budget of time, and what of it is left."""

from __future__ import annotations

import time


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
