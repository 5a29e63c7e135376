"""The bytes of a picture, wherever they are: a file, or memory (a cell of a table, something fetched)."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from kryptondb.errors import ImageError
from kryptondb.files.paths import unusable
from kryptondb.files.regular import NotRegular, open_regular
from kryptondb.text.plain_text import printable

MAX_PICTURE_BYTES = 1 << 40  # a volume or whole slide may be large; what is read of it is bounded by its reader


class Content(ABC):
    """What a decoder reads. `name` is what the picture is called; `suffix` the ending of its path, in lower case."""

    name: str
    suffix: str

    @abstractmethod
    def open(self) -> BinaryIO:
        """A new stream at the beginning, which can seek. Raises OSError, and ImageError for what is no file."""

    def start(self, count: int) -> bytes:
        """The first bytes, up to `count`; none where it cannot be read."""
        try:
            with self.open() as stream:
                return stream.read(count)
        except (OSError, ValueError, ImageError):
            return b""


@dataclass(frozen=True)
class FileContent(Content):
    """A file on this machine; `suffix` is that of its path."""

    path: Path
    name: str

    @property
    def suffix(self) -> str:  # type: ignore[override]  # read-only here
        """The ending of the path, `.nii.gz` as one."""
        return suffix_of(self.path.name)

    def open(self) -> BinaryIO:
        """The file. Pipes and devices are refused before they are opened: reading them could wait for ever."""
        problem = unusable(self.path)
        if problem is not None:
            raise ImageError(f"{self.name}: {problem}")
        try:
            return open_regular(self.path, MAX_PICTURE_BYTES)
        except NotRegular as error:
            raise ImageError(f"{self.name}: {error.strerror}") from None


@dataclass(frozen=True)
class BytesContent(Content):
    """Bytes in memory."""

    data: bytes
    name: str
    suffix: str = ""

    def open(self) -> BinaryIO:
        """The bytes as a stream."""
        if not self.data:
            raise ImageError(f"{self.name}: the picture is empty")
        return io.BytesIO(self.data)


def file_content(path: str | Path) -> FileContent:
    """The file at `path`, named after it as given."""
    return FileContent(Path(path), printable(path))


def suffix_of(name: str) -> str:
    """`.png` for `a.PNG`, `.nii.gz` for `brain.nii.gz`."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    return PurePosixPath(path.stem).suffix.lower() + suffix if suffix == ".gz" else suffix
