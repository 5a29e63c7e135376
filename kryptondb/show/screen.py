"""Where text goes: a terminal with a size and colours, or a file or pipe where nothing is cut or coloured."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Terminal:
    """Where text is shown. `width` None: not a terminal, so no line is ever cut and nothing is coloured."""

    width: int | None
    height: int | None
    colour: bool

    @classmethod
    def of(cls, stream: TextIO) -> Terminal:
        """What `stream` can show."""
        try:
            size = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError, AttributeError):
            return cls(None, None, False)
        colour = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        return cls(size.columns or 80, size.lines or 24, colour)


def rendered(what: RenderableType, terminal: Terminal, *, strip: bool = False) -> str:
    """What rich makes of it, as text for this terminal (escape codes only where colours are wanted)."""
    from rich.console import Console

    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=terminal.width or 1_000_000,
        force_terminal=terminal.colour,
        force_jupyter=False,  # in a notebook rich would display it, and the text would be empty
        color_system="truecolor" if terminal.colour else None,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
    )
    console.print(what, soft_wrap=False)
    text = buffer.getvalue()
    if strip and not terminal.colour:
        text = "".join(line.rstrip() + "\n" for line in text.splitlines())
    return text
