"""Opening files that somebody else names: a database, a manifest, a model or a statement.

Such a name may lead to a device that never ends, to a pipe that nobody writes into, or to a file of a terabyte. Only
regular files up to a size are opened. What is refused is an OSError like any other of the system's, whose `strerror`
says what the path leads to, so that a caller turns all of them into its own error at once.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
}
#: A pipe or device is never waited for, and a terminal that is opened does not become the process's own.
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


class NotRegular(OSError):
    """The path leads to something else than a regular file of a size that is taken."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


def open_regular(path: str | Path, most: int, *, empty: bool = False) -> BinaryIO:
    """A stream of a regular file's bytes, from the beginning.

    Args:
        most: bytes; a larger file is refused.
        empty: whether a file of no bytes is taken. Those of /proc say that they have none, and may have no end.

    Raises:
        NotRegular: the path leads to a folder, pipe, device or socket, or to a file that is too large or empty.
        OSError: it cannot be opened.
    """
    _check(path, Path(path).stat(), most, empty)  # before it is opened: opening a device may already do something
    return os.fdopen(descriptor_of(path, os.O_RDONLY, most, empty=empty), "rb")


def read_regular(path: str | Path, most: int, *, empty: bool = False) -> bytes:
    """The bytes of a regular file, as many as it has when it is opened. Raises what `open_regular` raises."""
    with open_regular(path, most, empty=empty) as stream:
        return stream.read(os.fstat(stream.fileno()).st_size)


def check_regular(path: str | Path, most: int, *, empty: bool = False) -> int:
    """The size of a regular file in bytes, for a reader that opens it by name. Raises what `open_regular` raises."""
    with open_regular(path, most, empty=empty) as stream:
        return os.fstat(stream.fileno()).st_size


def descriptor_of(
    path: str | Path, flags: int, most: int, *, empty: bool = False, mode: int = 0o666, folder: int | None = None
) -> int:
    """The descriptor of a regular file.

    Args:
        flags: of `os.open`; with `os.O_NOFOLLOW` a link is refused.
        mode: permissions of a file that is made.
        folder: the descriptor of the folder that `path` is relative to.

    Raises:
        NotRegular, OSError: as `open_regular`.
    """
    descriptor = os.open(path, flags | _FLAGS, mode, dir_fd=folder)
    try:
        _check(path, os.fstat(descriptor), most, empty)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: str | Path, status: os.stat_result, most: int, empty: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise NotRegular(path, f"it is {kind}, not a regular file")
    if status.st_size > most:
        raise NotRegular(path, f"it is larger than {_size(most)}")
    if not status.st_size and not empty:
        raise NotRegular(path, "the file is empty")


def _size(count: int) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count >> power:,} {unit}"
    return f"{count:,} bytes"
