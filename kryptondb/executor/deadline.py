"""The time that a query may take, and what of it each image gets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Deadline:
    """Counts the time that a query spends on making rows; what their reader does between them is the reader's.

    Attributes:
        seconds: how much there is, for all images together.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._spent = 0.0
        self._since: float | None = None
        self._done_at: float | None = None  # seconds spent when the last image was done

    @property
    def spent(self) -> float:
        """Seconds spent so far."""
        return self._spent + (self._clock() - self._since if self._since is not None else 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time counts inside."""
        self._since = self._clock()
        try:
            yield
        finally:
            self._spent, self._since = self.spent, None

    @contextmanager
    def share(self, images: int) -> Iterator[Callable[[], float]]:
        """An equal share for the cells of one of so many images that are left; tells what is left of it, in seconds.

        What passed between the image before and this one (opening it, making its base) will pass before the others too:
        that much is kept for each of them.
        """
        began = self.spent
        between = began - self._done_at if self._done_at is not None else 0.0
        until = began + (self.seconds - began - (images - 1) * between) / max(1, images)
        yield lambda: until - self.spent
        self._done_at = self.spent
