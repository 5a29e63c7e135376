"""What a decoder reads: the bytes of a file or of memory, and which part of a file that holds several pictures.

A part is named behind a `#`: `study.dcm#frame=3`, `scan.tif#page=2`, `mri.nii#slice=60&axis=axial`. Frames and pages
count from 1, as DICOM and readers of documents do; slices and volumes are voxel indices and count from 0, as nibabel
and viewers do.
"""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote

from kryptondb.errors import BindError, ImageError
from kryptondb.files.paths import unusable
from kryptondb.files.regular import NotRegular, open_regular
from kryptondb.options.kinds import Whole
from kryptondb.options.option import Table
from kryptondb.options.reader import read
from kryptondb.options.tables import FRAGMENTS
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


_FRAGMENT = re.compile(r"[A-Za-z_]+=[^=&#]*(?:&[A-Za-z_]+=[^=&#]*)*\Z")


@dataclass(frozen=True)
class Part:
    """What stands behind the `#` of a path.

    Attributes:
        frame: of a DICOM file, from 1.
        page: of a TIFF file, from 1.
        slice: of a NIfTI volume, from 0: right to left is `sagittal`, back to front `coronal`, bottom to top `axial`.
        axis: the plane of the slice, one of `options.words.PLANES`.
        volume: of a NIfTI file with several (a time series), from 0.
    """

    frame: int | None = None
    page: int | None = None
    slice: int | None = None
    axis: str | None = None
    volume: int | None = None

    @classmethod
    def parse(cls, fragment: str, shown: str) -> Part:
        """Reads `slice=60&axis=coronal`. Raises ImageError, which begins with `shown`, for anything else."""
        return cls(**asked_for(FRAGMENTS, fragment, shown))

    def given(self) -> dict[str, int | str]:
        """What is set, in the order in which it is written."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    def only(self, kind: str, *names: str, shown: str) -> None:
        """Raises ImageError where something is set that files of this kind do not have."""
        for name, value in self.given().items():
            if name not in names:
                has = f"It has {', '.join(names)}." if names else "It holds one picture."
                raise ImageError(f"{shown}: #{name}={value} means nothing for a {kind} file", hint=has)

    def __str__(self) -> str:
        return "&".join(f"{name}={value}" for name, value in self.given().items())


WHOLE = Part()


def split_fragment(text: str) -> tuple[str, str]:
    """A path and what stands behind its last `#`, empty where that is a part of the name: ('a#1.png', '')."""
    path, mark, fragment = text.rpartition("#")
    return (path, fragment) if mark and path and _FRAGMENT.match(fragment) else (text, "")


def asked_for(table: Table, fragment: str, shown: str) -> Mapping[str, Any]:
    """The options that stand behind the `#` of a path.

    Args:
        shown: the path, with which errors begin.

    Raises:
        ImageError: an option that the table does not have, a value that it does not take, or one given twice.
    """
    values: dict[str, int | str] = {}
    for item in fragment.split("&"):
        name, _, text = item.partition("=")
        if name in values:
            raise ImageError(f"{shown}: {name} is given twice")
        counted = name in table and isinstance(table[name].kind, Whole) and re.fullmatch(r"[0-9]{1,15}", text)
        values[name] = int(text) if counted else unquote(text)
    try:
        return read(table, values)
    except BindError as error:
        raise ImageError(f"{shown}: {error.message}", hint=error.hint) from None
