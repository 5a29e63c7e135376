"""Progress of a running query: one line on a terminal, only for what lasts over a second, gone when done."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from kryptondb.executor import Progress


class ProgressLine:
    """`scan.png  ▇▇▇▇▇▇▇   1,204/2,809 positions   412/s   0:04`, redrawn in place.

    Call it with each `Progress` of the executor; `pause` before writing anything to the same terminal, `close` at the
    end. Drawing happens in the calling thread only, at most ten times a second.

    Args:
        stream: where to draw; a terminal.
        delay: seconds from the beginning until the line first appears.
        clock: seconds, monotonic.
    """

    def __init__(self, stream: TextIO, *, delay: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._delay = delay
        self._clock = clock
        self._began = clock()
        self._drawn = float("-inf")
        self._image: int | None = None
        self._image_began = self._began
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __call__(self, progress: Progress) -> None:
        """Takes note of how far the query is."""
        now = self._clock()
        if progress.image_number != self._image:
            self._image, self._image_began = progress.image_number, now
        if now - self._began < self._delay or now - self._drawn < 0.1:
            return
        self._drawn = now
        self._draw(progress, now)

    def pause(self) -> None:
        """Takes the line away until the next call."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    close = pause

    @property
    def visible(self) -> bool:
        """Whether the line is on the screen now."""
        return self._bar is not None

    def _draw(self, progress: Progress, now: float) -> None:
        elapsed = now - self._image_began
        rate = progress.done / elapsed if elapsed > 0 else 0.0
        left = (progress.total - progress.done) / rate if rate > 0 else None
        facts = [f"{progress.done:,}/{progress.total:,} positions"]
        if rate > 0:
            facts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
        if left is not None:
            facts.append(clock_time(left))
        title = progress.image
        if progress.images is None or progress.images > 1:
            of = f"/{progress.images:,}" if progress.images is not None else ""
            title = f"{progress.image_number:,}{of}  {title}"
        if self._bar is None:
            self._bar, self._task = self._new_bar()
        assert self._task is not None
        self._bar.update(
            self._task, total=progress.total, completed=progress.done, description=title, facts="   ".join(facts)
        )
        self._bar.refresh()

    def _new_bar(self) -> tuple[Bar, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        console = Console(file=self._stream, force_terminal=True)
        bar = Bar(
            TextColumn(
                "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", max_width=32)
            ),
            BarColumn(bar_width=30, style="bright_black", complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.fields[facts]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        bar.start()
        return bar, bar.add_task("", total=None, facts="")


@contextmanager
def waiting(
    what: str, setting: object, stream: TextIO | None = None, *, delay: float = 1.0
) -> Iterator[Callable[[str], None]]:
    """Says on a terminal what is being waited for, when it lasts longer than `delay` seconds; gone when it is done.

    Yields a function that says something else from now on, such as how far it is.
    """
    stream = sys.stderr if stream is None else stream
    if setting == "off" or stream is None or not stream.isatty():
        yield lambda _: None
        return
    lock = threading.Lock()
    wanted, said = what, ""
    done = threading.Event()

    def say() -> None:
        nonlocal said
        with lock:
            if not done.is_set():
                stream.write(f"\r{wanted} ..." + ("\x1b[K" if said else ""))
                stream.flush()
                said = wanted

    def say_instead(text: str) -> None:
        nonlocal wanted
        wanted = text
        if said:
            say()

    timer = threading.Timer(delay, say)
    timer.daemon = True
    timer.start()
    try:
        yield say_instead
    finally:
        timer.cancel()
        with lock:
            done.set()
            if said:
                stream.write("\r\x1b[2K")
                stream.flush()


def clock_time(seconds: float) -> str:
    """`0:06`, `12:40`, `1:02:03`."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_line(setting: object, stream: TextIO | None = None) -> ProgressLine | None:
    """The line that the setting `progress` asks for: 'auto' after a second, 'on' at once, 'off' never.

    Whatever the setting, only a terminal gets one.
    """
    stream = sys.stderr if stream is None else stream
    if setting == "off" or stream is None or not stream.isatty():
        return None
    return ProgressLine(stream, delay=0.0 if setting == "on" else 1.0)
