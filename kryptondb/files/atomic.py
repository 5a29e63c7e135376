"""Files that appear whole or not at all: written beside their place, moved there when all went well."""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from kryptondb.errors import Error, ExecutionError, ReaderLeftError
from kryptondb.files.paths import expanded, scheme_of, unusable
from kryptondb.files.regular import descriptor_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: How long a pipe that nothing reads yet is waited for.
_READER_SECONDS = 10.0


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turns what the system says about a file into an ExecutionError that names it."""
    try:
        yield
    except Error:  # one of ours may be an OSError as well
        raise
    except OSError as error:
        raise _refused(path, error) from error


def target_of(path: str | Path) -> Path:
    """The file that is written where a path is to be written to: links are followed, and `..` leaves any folder.

    Also one that is not there yet, for folders on the way are made: 'missing/../a.png' is a.png. A pipe or device stays
    as it is named.

    Raises:
        ExecutionError: a path that no file can have.
    """
    problem = unusable(path)
    if problem is not None:
        hint = "Write a file here, and copy it there." if scheme_of(str(path)) is not None else None
        raise ExecutionError(f"cannot write {str(path)!r}: {problem}", hint=hint)
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
            with suppress(FileNotFoundError):  # a name that is too long is said now
                target.lstat()
            if target.exists() and not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if special:
        with _opened(path, target, "w") as stream:
            yield stream
        return
    with _replacing(path, target) as stream:
        yield stream
    _sync_folder(target.parent)


class HeldFolder:
    """A folder that one run alone writes into, and that stays the same one from the first file to the last.

    All names are those of files inside it. They go into the folder that was opened, whatever is found at its path
    meanwhile; where the system has no way to say that (Windows), a folder that is open cannot be replaced.

    Attributes:
        path: as it is opened.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def check(self) -> None:
        """Raises ExecutionError where the folder is not the one at its path any more."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            if os.path.samestat(self.path.stat(), os.fstat(self._descriptor)):
                return
        raise self.replaced()

    def replaced(self) -> ExecutionError:
        """The error for a folder that was removed, replaced or emptied."""
        return ExecutionError(
            f"{self.path}{os.sep} was removed or replaced while the query wrote into it",
            hint="What it had written is gone: run the command again.",
        )

    def size(self, name: str) -> int | None:
        """The bytes of a regular file; None where there is none of that name."""
        try:
            status = os.stat(self._inside(name), dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def names(self) -> list[str]:
        """What is in the folder."""
        place = self.path if self._descriptor is None else self._descriptor
        with writing(self.path), os.scandir(place) as entries:
            return [entry.name for entry in entries]

    def remove(self, name: str) -> None:
        """Removes a file, if there is one and it can be removed."""
        with suppress(OSError):
            os.unlink(self._inside(name), dir_fd=self._descriptor)

    def descriptor_of(self, name: str, flags: int, most: int) -> int:
        """See `files.regular.descriptor_of`; empty files are taken."""
        return descriptor_of(self._inside(name), flags, most, empty=True, folder=self._descriptor)

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """A file inside, as `atomic_file` gives one; a link of that name is replaced and not followed."""
        with _replacing(self.path / name, Path(self._inside(name)), self._descriptor) as stream:
            yield stream
        if self._descriptor is not None:
            with suppress(OSError):
                os.fsync(self._descriptor)

    def _inside(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)


@contextmanager
def held_folder(path: str | Path) -> Iterator[HeldFolder]:
    """The folder that a path means, made where it is not there, for this run alone.

    Raises:
        ExecutionError: it is no folder, nothing can be written into it, or another run writes into it.
    """
    target = writable_folder(path)
    if os.open not in os.supports_dir_fd:  # Windows
        yield HeldFolder(target, None)
        return
    with writing(path):
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not locked(descriptor):
            raise ExecutionError(
                f"another query writes into {target}{os.sep}", hint="Wait for it, or stop it, or name another folder."
            )
        folder = HeldFolder(target, descriptor)
        folder.check()
        yield folder
    finally:
        os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Locks a file for this process; False where another has it. Where the system has no locks, everyone gets it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


class _File(io.FileIO):
    """What lies beneath a stream. It keeps the system's refusal, whatever the writers above make of that."""

    refusal: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Writes some of the bytes."""
        with self._noting():
            return super().write(data)

    def close(self) -> None:
        """Closes the file."""
        with self._noting():
            super().close()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.refusal = self.refusal or error
            raise


@contextmanager
def _replacing(path: str | Path, target: Path, folder: int | None = None) -> Iterator[BinaryIO]:
    """A stream that takes the place of a file when all went well.

    Args:
        path: as messages name it.
        target: the file; inside the folder, where that is given by its descriptor.
    """
    # Cut to what a name may have, and to letters, which no cut breaks.
    start = os.fsencode(target.name)[:100].decode("ascii", "ignore")
    temporary = str(target.with_name(f".{start}.{secrets.token_hex(6)}.partial"))
    try:
        # Opened by name: a file of `mkstemp` would keep its permissions for the owner alone.
        with _opened(path, temporary, "x", folder) as stream:
            yield stream
            with writing(path):
                stream.flush()
                with suppress(FileNotFoundError):
                    mode = stat.S_IMODE(os.stat(target, dir_fd=folder, follow_symlinks=False).st_mode)
                    os.chmod(stream.fileno() if os.chmod in os.supports_fd else temporary, mode)  # noqa: PTH101
                os.fsync(stream.fileno())
        with writing(path):
            os.replace(temporary, target, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


@contextmanager
def _opened(
    path: str | Path, real: str | Path, mode: Literal["w", "x"], folder: int | None = None
) -> Iterator[BinaryIO]:
    """The file at `real`, open to write. Whatever the system says about it is an ExecutionError that names `path`.

    Libraries that write into the stream turn its errors into their own, and some only print them: what counts is
    whether the system has refused anything.
    """
    with writing(path):
        file = _File(real, mode, opener=lambda name, flags: _open_to_write(name, flags, folder))
    stream = io.BufferedWriter(file)
    try:
        yield stream
        stream.close()
    except Exception as error:
        if file.refusal is None or isinstance(error, ExecutionError):
            raise
        raise _refused(path, file.refusal) from error
    finally:
        with suppress(OSError, ValueError):  # after an error: what else the system says is of no use
            stream.close()
    if file.refusal is not None:
        raise _refused(path, file.refusal) from file.refusal


def _open_to_write(name: str, flags: int, folder: int | None) -> int:
    """The descriptor of a file that is written; of a pipe once something reads it, which is waited for some seconds."""
    at_once = getattr(os, "O_NONBLOCK", 0)
    end = time.monotonic() + _READER_SECONDS
    while True:
        try:
            descriptor = os.open(name, flags | at_once | getattr(os, "O_NOCTTY", 0), 0o666, dir_fd=folder)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(name, dir_fd=folder).st_mode):
                raise
            if time.monotonic() >= end:
                raise OSError(errno.ENXIO, "nothing reads this pipe: start its reader first", name) from error
        time.sleep(0.02)
    if at_once:
        os.set_blocking(descriptor, True)
    return descriptor


def _refused(path: str | Path, error: OSError) -> ExecutionError:
    if isinstance(error, BrokenPipeError):
        return ReaderLeftError(f"cannot write {path}: its reader has closed it")
    return ExecutionError(f"cannot write {path}: {error.strerror or error}")


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
