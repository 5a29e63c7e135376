"""Paths as users write them, the same for what is read and what is written."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with `~` replaced."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # `~somebody` without a home is a name like any other
        return Path(path)


def cut_name(name: str, most: int) -> str:
    """The name of a file, or its beginning where it is longer than so many bytes: systems take 255."""
    return os.fsencode(name)[:most].decode(errors="ignore") if len(os.fsencode(name)) > most else name


def unusable(path: str | Path) -> str | None:
    """Why no file can have this path; None where one can. The system would raise a ValueError, not an OSError."""
    text = os.fspath(path)
    if "\0" in text:
        return "a path cannot hold a NUL character"
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        return f"a path cannot hold the character {text[error.start]!r}"
    return None
