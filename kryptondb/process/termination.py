"""Termination by `kill`, a batch system or a closed terminal: handled like Ctrl-C, so that nothing is half done."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Seconds in which a repeated signal is ignored: both shell and system may report that a terminal was closed.
_AGAIN = 1.0


class Termination(KeyboardInterrupt):
    """The process received a signal to terminate.

    Attributes:
        status: the exit status for that, 128 plus the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.status = 128 + number


@contextmanager
def termination_signals() -> Iterator[None]:
    """Raises `Termination` inside, in the main thread, when SIGTERM or SIGHUP comes.

    A signal that is ignored, as SIGHUP under `nohup`, stays ignored, and so does a handler that was set elsewhere.
    Outside the main thread, where Python allows no handlers, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = float("-inf")

    def end(number: int, _: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > _AGAIN:  # else it would interrupt the cleanup
            raise Termination(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
