"""Files that appear whole or not at all: written beside their place, moved there when all went well."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from kryptondb.errors import ExecutionError
from kryptondb.paths import expanded, unusable


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turns what the system says about a file into an ExecutionError that names it."""
    try:
        yield
    except OSError as error:
        raise ExecutionError(f"cannot write {path}: {error.strerror or error}") from error


def target_of(path: str | Path) -> Path:
    """The file that is written where a path is to be written to: links are followed, and `..` leaves any folder.

    Also one that is not there yet, for folders on the way are made: 'missing/../a.png' is a.png. A pipe or device stays
    as it is named.

    Raises:
        ExecutionError: a path that no file can have.
    """
    problem = unusable(path)
    if problem is not None:
        raise ExecutionError(f"cannot write {str(path)!r}: {problem}")
    target = expanded(path)
    return target if is_stream(target) else Path(os.path.realpath(target))


def writable_folder(path: str | Path) -> Path:
    """The folder that a path means, made where it is not there, with those on the way to it.

    Raises:
        ExecutionError: it is no folder, or nothing can be written into it.
    """
    target = target_of(path)
    with writing(path):
        target.mkdir(parents=True, exist_ok=True)
        if not os.access(target, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return target


def is_stream(target: Path) -> bool:
    """Whether a file is a pipe or device, such as /dev/stdout: what is written there goes on to somebody."""
    try:
        mode = target.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_terminal(path: str | Path) -> bool:
    """Whether what is written to a path appears on a terminal."""
    target = target_of(path)
    if not is_stream(target):
        return False
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # a pipe that nobody reads yet, or one that is not to be written to
        return False
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary stream that becomes the file at `path` when the block ends without an error.

    On an error, or Ctrl-C, what was there before stays as it was and the temporary file is removed. Folders on the way
    are made; a symbolic link is followed, and the permissions of a file that is there already are kept. A pipe or
    device is written to directly, for it cannot be replaced.

    Raises:
        ExecutionError: the file cannot be written; said on entering, before any work, where the system tells.
    """
    with writing(path):
        target = target_of(path)
        if target.is_dir():
            raise ExecutionError(f"cannot write {path}: it is a folder")
        special = is_stream(target)
        if not special:
            if target.is_symlink():  # of a circle
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if special:
        with _opened(path, target, "wb") as stream:
            yield stream
        return
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.partial")
    try:
        # Opened by name: a file of `mkstemp` would keep its permissions for the owner alone.
        with _opened(path, temporary, "xb") as stream:
            yield stream
            with writing(path):
                stream.flush()
                os.fsync(stream.fileno())
        with writing(path):
            with suppress(FileNotFoundError):
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            temporary.replace(target)
            _sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def _opened(path: str | Path, real: Path, mode: Literal["wb", "xb"]) -> Iterator[BinaryIO]:
    """The file at `real`, open; what the system says about opening it names `path`."""
    with ExitStack() as stack:
        with writing(path):
            stream = stack.enter_context(real.open(mode))
        yield stream


def _sync_folder(folder: Path) -> None:
    """Makes the new name durable, where the system has a way to."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
