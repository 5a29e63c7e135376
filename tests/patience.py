"""How tests wait: for an event, however slow the machine is; the limit only ends a test that would hang for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

#: The longest that a test waits for anything, in seconds.
PATIENCE = 600.0


def until(happened: Callable[[], object], what: str) -> None:
    """Returns as soon as something has happened.

    Raises:
        AssertionError: it has not, after `PATIENCE` seconds.
    """
    limit = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < limit, f"waited in vain for {what}"
        time.sleep(0.005)
