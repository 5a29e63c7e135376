"""Opening a picture and asking the network about it: what goes wrong becomes an error that names the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kryptondb.errors import Error, ExecutionError, ImageError, one_line

if TYPE_CHECKING:
    from kryptondb.images import Picture
    from kryptondb.images.sources import ImageSource


def load_picture(source: ImageSource) -> Picture:
    """Opens a picture. Raises ImageError where it cannot be read."""
    try:
        return source.load()
    except OSError as error:
        raise ImageError(f"cannot read {source.name}: {error.strerror or error}") from error


class Looks:
    """What the pictures of a run were when they were asked about: nothing is drawn over another one.

    A picture may be replaced while its map is computed. What it shows is compared, for its file may have the same size
    and time; its file is too where what else stands in it matters.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forgets all: a run begins."""
        self._shown: dict[str, str] = {}
        self._files: dict[str, tuple[int, ...] | None] = {}

    def load(self, source: ImageSource) -> Picture:
        """Opens a picture for the first time. Raises ImageError where it cannot be read."""
        file = _status(source)
        picture = load_picture(source)
        self._note(self._shown, source.name, _content(picture))
        self._note(self._files, source.name, file)
        return picture

    def load_again(self, source: ImageSource) -> Picture:
        """Opens it again. Raises ImageError where it cannot be read any more, or is another picture."""
        picture = load_picture(source)
        if self._shown.get(source.name) != _content(picture):
            raise _changed(source)
        return picture

    def file(self, source: ImageSource) -> Path | None:
        """The file that it is in; None for an array. Raises ImageError where it has been written to."""
        if source.file is not None and self._files.get(source.name) != _status(source):
            raise _changed(source)
        return source.file

    @staticmethod
    def _note(known: dict[str, Any], name: str, value: object) -> None:
        """Of a picture that is given twice and has changed in between, neither is known again."""
        known[name] = value if known.setdefault(name, value) == value else None


def _content(picture: Picture) -> str:
    from kryptondb.images.picture import content_hash

    return content_hash(picture)


def _status(source: ImageSource) -> tuple[int, ...] | None:
    """What changes with a file."""
    try:
        status = source.file.stat() if source.file is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _changed(source: ImageSource) -> ImageError:
    return ImageError(
        f"{source.name}: the picture has changed since its map was computed, which is not drawn over another one",
        hint="Run the statement again.",
    )


@contextmanager
def asking(image: str) -> Iterator[None]:
    """Turns what the network's own code raises (whatever a module's forward may) into an error that names the picture.

    Errors of ours that name no picture pass: they are about the query.
    """
    try:
        yield
    except Error:
        raise
    except Exception as error:
        raise ExecutionError(f"{image}: the network failed: {one_line(error)}") from error
