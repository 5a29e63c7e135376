"""Progress in a notebook: a bar under the cell, redrawn in place, gone when done; text where HTML is not shown."""

from __future__ import annotations

import sys
from html import escape
from typing import Any


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook. Imports nothing: without IPython loaded it is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class NotebookPlace:
    """A place under the running cell whose content can be replaced. It appears with the first words."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._empty = True

    def say(self, text: str, share: float | None = None) -> None:
        """Shows one line.

        Args:
            text: the line.
            share: from 0 to 1, for a bar before it.
        """
        bar = f'<progress value="{share:.4f}" max="1"></progress> ' if share is not None else ""
        self._put({"text/plain": text, "text/html": f"<div>{bar}<small>{escape(text)}</small></div>"})
        self._empty = False

    def clear(self) -> None:
        """Takes the line away."""
        if not self._empty:
            self._put({"text/plain": "", "text/html": ""})
            self._empty = True

    def _put(self, bundle: dict[str, str]) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)
