"""Traced networks beside the database file, so that another process starts without building and tracing them again.

`clinic.krypton` keeps its own in the folder `clinic.krypton-networks`, one file a network, named by the model's
fingerprint. It is only a cache: whatever cannot be read or written is left out without a word, and the folder may be
deleted at any time. The networks used longest ago go first when the folder has grown too large.
"""

from __future__ import annotations

import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kryptondb.errors import ExecutionError

if TYPE_CHECKING:
    from kryptondb.network import Network

MOST_BYTES = 4 << 30  # of a folder: seven networks of VGG16's size, ninety of ResNet18's
FREE_BYTES = 1 << 30  # left on the disk for everybody else
ABANDONED_SECONDS = 24 * 3600.0  # after which a half-written file has nobody who writes it
SUFFIX = ".network"


class NetworkCache:
    """The networks of one database; all methods are quiet where the disk refuses.

    Args:
        database: the path of the database file.
        most_bytes: how large the folder may grow.
    """

    def __init__(self, database: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = database.with_name(f"{database.name}-networks")
        self._most_bytes = most_bytes

    def read(self, fingerprint: str) -> Network | None:
        """The network of a model, or None where there is none that this version can use."""
        path = self._path(fingerprint)
        if path is None or not path.is_file():
            return None
        from kryptondb.network.storage import read_network
        from kryptondb.network.templates import Unreadable

        try:
            network = read_network(path)
        except Unreadable:
            return None
        with suppress(OSError):
            path.touch()  # it was used now
        return network

    def write(self, fingerprint: str, network: Network) -> None:
        """Keeps a network, in place of what is there under its name.

        One that is not traced, or answers one picture in two ways, is found out about anew each time.
        """
        from kryptondb.network.storage import write_network
        from kryptondb.network.templates import Unwritable

        path = self._path(fingerprint)
        if (
            path is None
            or not network.traced
            or network.unsteady is not None
            or not self._make_room(path, network.parameter_bytes)
        ):
            return
        with suppress(Unwritable, ExecutionError, OSError):
            write_network(network, path)

    def forget(self, fingerprint: str) -> None:
        """Removes the network of a model, if there is one."""
        path = self._path(fingerprint)
        if path is not None:
            _remove(path)
            with suppress(OSError):
                self.folder.rmdir()  # the last one takes the folder along

    def _path(self, fingerprint: str) -> Path | None:
        """A network's file; None for a text that is no fingerprint and could name any file."""
        return self.folder / f"{fingerprint}{SUFFIX}" if re.fullmatch(r"[0-9a-f]{64}", fingerprint) else None

    def _make_room(self, path: Path, size: int) -> bool:
        """Removes what was used longest ago until one more of `size` bytes fits; False where it never does."""
        try:
            free = shutil.disk_usage(self.folder.parent).free
            files = [(file, file.stat()) for file in self.folder.iterdir()] if self.folder.is_dir() else []
        except OSError:
            return False
        if size > self._most_bytes or size > free - FREE_BYTES:
            return False
        for file, status in files:
            if file.name.endswith(".partial") and status.st_mtime < time.time() - ABANDONED_SECONDS:
                _remove(file)
        kept = [(status.st_mtime, status.st_size, file) for file, status in files if file.name.endswith(SUFFIX)]
        used = sum(bytes for _, bytes, file in kept if file != path)
        for _, bytes, file in sorted(kept):
            if used + size <= self._most_bytes:
                break
            if file != path:
                _remove(file)
                used -= bytes
        return True


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
