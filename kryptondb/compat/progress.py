"""Progress as Captum and MONAI print it, by tqdm: a line on standard error, whatever that is."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType

from kryptondb.executor.resources import Progress
from kryptondb.show.progress import ProgressLine, in_notebook, progress_line
from kryptondb.text.units import clock_text

_BLOCKS = " ▏▎▍▌▋▊▉█"
_CELLS = 10
_SECONDS = 0.5  # between two drawings


class Bar:
    """`Occlusion attribution:  75%|███████▌  | 3/4 [00:01<00:00, 2.90it/s]`, drawn anew behind a carriage return.

    A notebook gets KryptonDB's line under the cell instead. A context manager; ends the line on leaving.

    Args:
        title: what is under way; may be empty.
        total: how many windows there are.
        per_evaluation: how many windows one evaluation of the function holds.
        extra: evaluations beside those of windows.
        shown: False draws nothing.
    """

    def __init__(self, title: str, total: int, per_evaluation: int, *, extra: int = 0, shown: bool = True) -> None:
        self._title, self._total, self._per_evaluation, self._extra = title, total, per_evaluation, extra
        self._line: ProgressLine | None = progress_line("on") if shown and in_notebook() else None
        self._stream = sys.stderr if shown and self._line is None else None
        self._began, self._drawn = time.monotonic(), float("-inf")
        self._done = 0

    def __enter__(self) -> Bar:
        self(0)
        return self

    def __call__(self, windows: int) -> None:
        """Takes note of how many windows are done."""
        self._done = windows
        now = time.monotonic()
        if self._line is not None:
            self._line(Progress(self._title, windows, self._total, 1, 1))
        elif now - self._drawn >= _SECONDS:
            self._drawn = now
            self._draw(now - self._began)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.close()
        elif self._stream is not None:
            self._draw(time.monotonic() - self._began, end="\n")

    def _draw(self, seconds: float, end: str = "") -> None:
        if self._stream is None:
            return
        done = self._evaluations(self._done) if self._done else 0
        total = self._evaluations(self._total)
        share = done / total if total else 1.0
        full, part = divmod(round(share * _CELLS * 8), 8)
        bar = (_BLOCKS[-1] * full + (_BLOCKS[part] if part else "")).ljust(_CELLS)
        rate = done / seconds if seconds > 0 else 0.0
        taken = clock_text(seconds).rjust(5, "0")
        left = clock_text((total - done) / rate).rjust(5, "0") if rate else "?"
        title = f"{self._title}: " if self._title else ""
        text = f"{title}{share:4.0%}|{bar}| {done}/{total} [{taken}<{left}, {rate:.2f}it/s]"
        with suppress(OSError, ValueError):  # a stream that was closed, or that has no such characters
            self._stream.write(f"\r{text}{end}")
            self._stream.flush()

    def _evaluations(self, windows: int) -> int:
        return -(-windows // self._per_evaluation) + self._extra
