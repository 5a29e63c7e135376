"""When a function that runs in batches has run for long enough that tracing it pays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

#: Seconds of batches, of this call and earlier ones with the same function, that are worth a tracing. It takes 2 to 5.
WORTH_TRACING = 10.0


#: How many times as fast as one by one images may be in batches.
_GAIN_OF_BATCHES = 2.0


@dataclass(eq=False)
class Patience:
    """Watches one run.

    Attributes:
        total: how many windows it has.
        spent: seconds that the same function has taken in earlier calls.
    """

    total: int
    spent: float
    _began: float = field(default_factory=time.perf_counter)
    _first: int = 0
    _after_first: float = 0.0

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._began

    def has_none(self, once: float, evaluate: Callable[[], object]) -> bool:
        """Whether tracing pays for certain, before any window is computed.

        Args:
            once: seconds of the first evaluation of the unoccluded inputs.
            evaluate: evaluates them again, where the first time may have been slow because it was the first.
        """
        if once * self.total <= _GAIN_OF_BATCHES * WORTH_TRACING:
            return False
        start = time.perf_counter()
        evaluate()
        again = min(once, time.perf_counter() - start)
        return again * self.total > _GAIN_OF_BATCHES * WORTH_TRACING

    def is_over(self, done: int) -> bool:
        """Whether tracing pays, after so many windows: told from the second batch on, the first pays for warming up."""
        now = time.perf_counter()
        if not self._first:
            self._first, self._after_first = done, now
            return False
        left = (now - self._after_first) / (done - self._first) * (self.total - done)
        return self.spent + self.seconds + left > WORTH_TRACING
