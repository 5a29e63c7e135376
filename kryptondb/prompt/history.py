"""Where the prompt's history is kept: a file in the user's state folder that nobody else can read."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.history import History


def state_folder(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The folder for what a program remembers between runs: XDG_STATE_HOME, or its like on macOS and Windows."""
    if environment.get("XDG_STATE_HOME"):
        return Path(environment["XDG_STATE_HOME"]) / "kryptondb"
    if platform == "win32" and environment.get("LOCALAPPDATA"):
        return Path(environment["LOCALAPPDATA"]) / "kryptondb"
    home = Path(environment["HOME"]) if environment.get("HOME") else Path.home()
    if platform == "darwin":
        return home / "Library" / "Application Support" / "kryptondb"
    return home / ".local" / "state" / "kryptondb"


def private_file(folder: Path, name: str = "history") -> Path | None:
    """The file in the folder, made with permissions for its owner alone; None when it cannot be written."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    except OSError:
        return None
    return path


def prompt_history(folder: Path | None = None) -> History:
    """The history to give to prompt_toolkit; one in memory when no file can be kept."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = private_file(state_folder() if folder is None else folder)
    return FileHistory(str(path)) if path is not None else InMemoryHistory()
