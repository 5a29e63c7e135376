"""The record of a folder that a query over many images is copied into: which images are in which file.

It is a file of JSON lines. The first says which query the folder belongs to. Each of the others was added after its
part had appeared under its name, so that a part which is named here is whole. A line that was cut off, by a crash or a
full disk, is taken away when the folder is opened again.

    {"kryptondb": "0.1.0", "query": {"statement": "SELECT HEATMAP ...", "fingerprint": "...", "labels": "...", ...}}
    {"part": "part-00001.parquet", "rows": 64, "bytes": 812345, "images": [["scans/a.png", "81233:1732..."], ...]}
    {"failed": "scans/broken.png", "message": "..."}
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from kryptondb.errors import ExecutionError
from kryptondb.files.atomic import HeldFolder, held_folder, locked, writing
from kryptondb.files.regular import NotRegular
from kryptondb.files.schema import Anything, Form, Items, Object, Row, Text, Unfit, Whole, from_json
from kryptondb.version import __version__

#: Readers of folders of Parquet files pass over what begins with an underscore.
NAME = "_manifest.jsonl"
#: A record larger than this is none of ours: it would be one of some million images.
_MOST_BYTES = 1 << 30
#: A line, of a part with a thousand images.
_MOST_LINE = 64 << 20
#: What records of earlier versions do not say of their query; it counts as the same.
_SINCE = ("labels",)
#: What every record begins with.
_BEGINNING = b'{"kryptondb": "'

_IMAGE = Text(path=True)
_FIRST = Object({"kryptondb": Text(100), "query": Object({"statement": Text(1 << 24, path=True)}, others=Anything())})
_PART = Object(
    {
        "part": Text(pattern=r"part-[0-9]{5,9}\.parquet"),
        "rows": Whole(),
        "bytes": Whole(),
        "images": Items(Row(_IMAGE, Text(1_000))),
    }
)
_FAILED = Object({"failed": _IMAGE, "message": Text(path=True)})
_ANOTHER = "Name another folder, or delete this one."


class Manifest:
    """A folder's record, open and locked.

    Attributes:
        folder: where it is.
        done: what each image that earlier runs wrote was at that time (see `parts.identity_of`), by name; as often as
            it was written.
        parts: how many parts there are, lost ones included.
    """

    def __init__(self, folder: HeldFolder, stream: BinaryIO) -> None:
        self.folder, self._stream = folder, stream
        self.done: dict[str, list[str]] = {}
        self.parts = 0
        self._path = folder.path / NAME
        self._size = 0  # bytes of the lines that are whole
        self._sizes: dict[str, int] = {}  # of the parts that are there

    def add(self, part: str, rows: int, size: int, images: Sequence[tuple[str, str]]) -> None:
        """Notes a part that has appeared, with its images and what each of them was."""
        self._write({"part": part, "rows": rows, "bytes": size, "images": [list(image) for image in images]})
        self._count(part)
        self._sizes[part] = size

    def fail(self, image: str, message: str) -> None:
        """Notes an image that was left out. It is tried again when the command is run again."""
        self._write({"failed": image, "message": message})

    def next_part(self) -> str:
        """The name of the part that comes next."""
        return f"part-{self.parts + 1:05}.parquet"

    def check(self, parts: bool = False) -> None:
        """Raises ExecutionError where the folder or the record are not those that were opened.

        Args:
            parts: whether to look for all parts of the record, too.
        """
        self.folder.check()
        if self.folder.size(NAME) != self._size or not self._is_in_place():
            raise self.folder.replaced()
        if parts and any(self.folder.size(part) != size for part, size in self._sizes.items()):
            raise self.folder.replaced()

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self._path.lstat(), os.fstat(self._stream.fileno()))
        except OSError:
            return False

    def _count(self, part: str) -> None:
        self.parts = max(self.parts, int(part.removeprefix("part-").removesuffix(".parquet")))

    def _read(self, query: Mapping[str, Any]) -> None:
        """Reads what is there; begins the record where nothing is."""
        lines: list[dict[str, Any]] = []
        while line := self._stream.readline(_MOST_LINE):
            if not line.endswith(b"\n"):
                if len(line) == _MOST_LINE:
                    raise self._damaged(len(lines) + 1, "the line is too long")
                if not lines and not line.startswith(_BEGINNING) and not _BEGINNING.startswith(line.strip(b"\0")):
                    raise self._damaged(1, "it is not the beginning of a record of KryptonDB")
                break  # it was cut off while it was written
            try:
                lines.append(_form(value := from_json(line, _MOST_LINE), first=not lines).check(value))
            except Unfit as unfit:
                raise self._damaged(len(lines) + 1, str(unfit)) from None
            self._size += len(line)
        if lines:
            self._compare(lines[0]["query"], query)
        for number, entry in enumerate(lines[1:], start=2):
            if "part" in entry:
                self._take(number, entry)
        if os.fstat(self._stream.fileno()).st_size != self._size:
            with writing(self._path):
                self._stream.truncate(self._size)
        if not lines:
            self._begin(query)

    def _compare(self, known: Mapping[str, Any], query: Mapping[str, Any]) -> None:
        """Raises ExecutionError where the folder belongs to another query."""
        if known == {key: value for key, value in query.items() if key in known or key not in _SINCE}:
            return
        statement = known["statement"]
        same = statement == query.get("statement")
        what = "the same query of a model that has changed since" if same else f"another query: {statement}"
        raise ExecutionError(f"{self.folder.path}{os.sep} holds the rows of {what}", hint=_ANOTHER)

    def _take(self, number: int, entry: Mapping[str, Any]) -> None:
        """Counts a part, and its images where it is still there; else these are explained again."""
        part = entry["part"]
        if part in self._sizes:
            raise self._damaged(number, f"{part} appears twice")
        self._count(part)
        size = self.folder.size(part)
        if size is None:
            return
        if size != entry["bytes"]:
            raise ExecutionError(
                f"{self.folder.path / part} is not the file that was written: it has {size:,} bytes, and"
                f" {entry['bytes']:,} by line {number} of {NAME}",
                hint="Delete it, and its images are explained again; or name another folder.",
            )
        self._sizes[part] = size
        for name, identity in entry["images"]:
            self.done.setdefault(name, []).append(identity)

    def _begin(self, query: Mapping[str, Any]) -> None:
        """The first line, in a folder that has no parts of anybody's."""
        if any(name.startswith("part-") and name.endswith(".parquet") for name in self.folder.names()):
            raise ExecutionError(f"{self.folder.path}{os.sep} holds parts that no {NAME} lists", hint=_ANOTHER)
        self._write({"kryptondb": __version__, "query": dict(query)})

    def _write(self, entry: Mapping[str, Any]) -> None:
        """Adds a line; none of it stays where the system refuses some of it."""
        try:
            line = json.dumps(entry, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # a path may hold bytes that are not UTF-8
            line = json.dumps(entry).encode()
        descriptor, left = self._stream.fileno(), memoryview(line + b"\n")
        with writing(self._path):
            try:
                os.lseek(descriptor, self._size, os.SEEK_SET)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, self._size)
                raise
        self._size += len(line) + 1

    def _damaged(self, number: int, reason: str) -> ExecutionError:
        return ExecutionError(f"{self._path} is damaged: line {number}: {reason}", hint=_ANOTHER)


def _form(value: object, first: bool) -> Form:
    """What a line must be."""
    if first:
        return _FIRST
    return _FAILED if isinstance(value, dict) and "failed" in value else _PART


@contextmanager
def opened(path: str, query: Mapping[str, Any]) -> Iterator[Manifest]:
    """The record of a folder, for this process alone; begun where there is none.

    What earlier runs left half-written is removed.

    Args:
        path: the folder, made where it is not there.
        query: JSON values that are the same for the same query.

    Raises:
        ExecutionError: the folder belongs to another query, another process writes into it, it cannot be written, or
            its record is damaged or is not a regular file.
    """
    with held_folder(path) as folder:
        record = folder.path / NAME
        try:
            if stat.S_ISLNK(record.lstat().st_mode):  # it would be another file that is emptied and written into
                raise ExecutionError(f"{record} is a link, not a record of KryptonDB", hint=_ANOTHER)
        except OSError:
            pass  # opening it says why
        try:
            with writing(record):
                flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
                stream = os.fdopen(folder.descriptor_of(NAME, flags, _MOST_BYTES), "r+b")
        except ExecutionError as error:
            error.hint = _ANOTHER if isinstance(error.__cause__, NotRegular) else error.hint
            raise
        with stream:
            if not locked(stream.fileno()):
                raise ExecutionError(
                    f"another query writes into {folder.path}{os.sep}", hint="Wait for it, or stop it."
                )
            for name in folder.names():
                if name.startswith(".part-") and name.endswith(".partial"):
                    folder.remove(name)
            manifest = Manifest(folder, stream)
            manifest._read(query)
            manifest.check()
            yield manifest
