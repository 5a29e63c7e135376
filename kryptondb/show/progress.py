"""Progress of a running query: one line on a terminal or under a cell, shown after a second and removed at the end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, TextIO

from kryptondb.text.plain_text import plain_line
from kryptondb.text.units import clock_text

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
        """Shows how far the query is, at most ten times a second."""
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

    def close(self) -> None:
        """Takes the line away for good."""
        self.pause()

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
            facts.append(clock_text(left))
        title = plain_line(progress.image)
        if progress.images is None or progress.images > 1:
            of = f"/{progress.images:,}" if progress.images is not None else ""
            title = f"{progress.image_number:,}{of}  {title}"
        self._show(title, progress, "   ".join(facts))

    def _show(self, title: str, progress: Progress, facts: str) -> None:
        if self._bar is None:
            self._bar, self._task = self._new_bar()
        assert self._task is not None
        self._bar.update(self._task, total=progress.total, completed=progress.done, description=title, facts=facts)
        self._bar.refresh()

    def _new_bar(self) -> tuple[Bar, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        console = Console(file=self._stream, force_terminal=True, force_jupyter=False)
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


class NotebookLine(ProgressLine):
    """The same under the running cell of a notebook."""

    def __init__(self, place: NotebookPlace, *, delay: float = 1.0) -> None:
        super().__init__(sys.stderr, delay=delay)
        self._place = place

    def pause(self) -> None:
        """Takes the line away until the next call."""
        self._place.clear()

    @property
    def visible(self) -> bool:
        """Whether the line is under the cell now."""
        return not self._place.empty

    def _show(self, title: str, progress: Progress, facts: str) -> None:
        self._place.say(f"{title}  {facts}", progress.done / progress.total if progress.total else None)


class TerminalPlace:
    """A line of a terminal whose text can be replaced. It appears with the first words."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.empty = True

    def say(self, text: str) -> None:
        """Shows the text."""
        self.stream.write(f"\r{text}" + ("" if self.empty else "\x1b[K"))
        self.stream.flush()
        self.empty = False

    def clear(self) -> None:
        """Takes the text away."""
        if not self.empty:
            self.stream.write("\r\x1b[2K")
            self.stream.flush()


@contextmanager
def waiting(
    what: str, setting: object, stream: TextIO | None = None, *, delay: float = 1.0
) -> Iterator[Callable[[str], None]]:
    """Shows on a terminal, or under a notebook's cell, what is being waited for, until it is done.

    Yields a function that replaces the text, for example by how far the work is.

    Args:
        what: what is being waited for.
        setting: the setting `progress`; 'off' shows nothing.
        stream: where to, `sys.stderr` by default; only a terminal shows anything.
        delay: seconds until anything is shown.
    """
    place = _place(setting, stream)
    if place is None:
        yield lambda _: None
        return
    lock = threading.Lock()
    wanted, said = what, False
    done = threading.Event()

    def say() -> None:
        nonlocal said
        with lock:
            if not done.is_set():
                place.say(f"{plain_line(wanted)} ...")
                said = True

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
            place.clear()


def _place(setting: object, stream: TextIO | None) -> TerminalPlace | NotebookPlace | None:
    """Where the setting `progress` allows a line: in a terminal, in a notebook, or not at all (None)."""
    if setting == "off":
        return None
    if stream is None and in_notebook():
        return NotebookPlace()
    stream = sys.stderr if stream is None else stream
    return TerminalPlace(stream) if stream is not None and stream.isatty() else None


def progress_line(setting: object, stream: TextIO | None = None) -> ProgressLine | None:
    """The line that the setting `progress` asks for: 'auto' after a second, 'on' at once, 'off' never.

    Whatever the setting, only a terminal or a notebook gets one.
    """
    place = _place(setting, stream)
    if place is None:
        return None
    delay = 0.0 if setting == "on" else 1.0
    if isinstance(place, NotebookPlace):
        return NotebookLine(place, delay=delay)
    return ProgressLine(place.stream, delay=delay)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook. Imports nothing: where IPython is not loaded it is not."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class NotebookPlace:
    """A place under the running cell whose content can be replaced. It appears with the first words."""

    def __init__(self) -> None:
        self._handle: Any = None
        self.empty = True

    def say(self, text: str, share: float | None = None) -> None:
        """Shows one line.

        Args:
            text: the line.
            share: from 0 to 1, for a bar before it.
        """
        bar = f'<progress value="{share:.4f}" max="1"></progress> ' if share is not None else ""
        self._put({"text/plain": text, "text/html": f"<div>{bar}<small>{escape(text)}</small></div>"})
        self.empty = False

    def clear(self) -> None:
        """Takes the line away."""
        if not self.empty:
            self._put({"text/plain": "", "text/html": ""})
            self.empty = True

    def _put(self, bundle: dict[str, str]) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)
