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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from kryptondb.atomic import writing
from kryptondb.errors import ExecutionError
from kryptondb.version import __version__

#: Readers of folders of Parquet files pass over what begins with an underscore.
NAME = "_manifest.jsonl"
#: A record larger than this is none of ours: it would be one of some million images.
_MOST_BYTES = 1 << 30
#: What records of earlier versions do not say of their query; it counts as the same.
_SINCE = ("labels",)


class Manifest:
    """A folder's record, open and locked.

    Attributes:
        done: what each image that earlier runs wrote was at that time (see `parts.identity_of`), by name; as often as
            it was written.
        parts: how many parts there are, lost ones included.
    """

    def __init__(self, folder: Path, stream: BinaryIO) -> None:
        self._folder, self._stream = folder, stream
        self.done: dict[str, list[str]] = {}
        self.parts = 0

    def add(self, part: str, rows: int, size: int, images: Sequence[tuple[str, str]]) -> None:
        """Notes a part that has appeared, with its images and what each of them was."""
        self._write({"part": part, "rows": rows, "bytes": size, "images": [list(each) for each in images]})
        self._count(part)

    def fail(self, image: str, message: str) -> None:
        """Notes an image that was left out. It is tried again when the command is run again."""
        self._write({"failed": image, "message": message})

    def next_part(self) -> str:
        """The name of the part that comes next."""
        return f"part-{self.parts + 1:05}.parquet"

    def _count(self, part: str) -> None:
        number = part.removeprefix("part-").removesuffix(".parquet")
        self.parts = max(self.parts, int(number) if number.isdecimal() else 0)

    def _read(self, query: Mapping[str, Any]) -> None:
        """Reads what is there; begins the record where nothing is."""
        path = self._folder / NAME
        if self._stream.seek(0, os.SEEK_END) > _MOST_BYTES:
            raise ExecutionError(f"{path} is too large for a record of images")
        self._stream.seek(0)
        sound = 0
        lines: list[dict[str, Any]] = []
        for line in self._stream:
            entry = _entry(line)
            if entry is None:
                if self._stream.read(1):
                    raise ExecutionError(f"{path} is damaged: line {len(lines) + 1} says nothing", hint=_ANOTHER)
                break  # it was cut off while it was written
            lines.append(entry)
            sound += len(line)
        if sound != self._stream.seek(0, os.SEEK_END):
            self._stream.truncate(sound)
        self._stream.seek(sound)
        if not lines:
            self._begin(query)
            return
        first, *others = lines
        written = first.get("query")
        known = written if isinstance(written, dict) else {}
        if known != {key: value for key, value in query.items() if key in known or key not in _SINCE}:
            statement = known.get("statement")
            same = statement == query.get("statement")
            what = "the same query of a model that has changed since" if same else f"another query: {statement}"
            raise ExecutionError(f"{self._folder}{os.sep} holds the rows of {what}", hint=_ANOTHER)
        for entry in others:
            if "part" not in entry:
                continue
            self._count(entry["part"])
            if (self._folder / entry["part"]).is_file():  # else it was lost: its images are explained again
                for name, identity in entry["images"]:
                    self.done.setdefault(name, []).append(identity)

    def _begin(self, query: Mapping[str, Any]) -> None:
        """The first line, in a folder that has no parts of anybody's."""
        if any(self._folder.glob("part-*.parquet")):
            raise ExecutionError(f"{self._folder}{os.sep} holds parts that no {NAME} tells of", hint=_ANOTHER)
        self._write({"kryptondb": __version__, "query": dict(query)})

    def _write(self, entry: Mapping[str, Any]) -> None:
        with writing(self._folder / NAME):
            self._stream.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())


_ANOTHER = "Name another folder, or delete this one."


@contextmanager
def opened(folder: Path, query: Mapping[str, Any]) -> Iterator[Manifest]:
    """The record of a folder, for this process alone; begun where there is none.

    What earlier runs left half-written is removed.

    Args:
        query: JSON values that are the same for the same query.

    Raises:
        ExecutionError: the folder belongs to another query, another process writes into it, or it cannot be written.
    """
    path = folder / NAME
    with writing(path):
        stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    with stream:
        if not _locked(stream):
            raise ExecutionError(f"another query writes into {folder}{os.sep}", hint="Wait for it, or stop it.")
        for left in folder.glob(".part-*.partial"):
            with suppress(OSError):
                left.unlink()
        manifest = Manifest(folder, stream)
        manifest._read(query)
        yield manifest


def _locked(stream: BinaryIO) -> bool:
    """Locks a file for this process; False where another has it. Where the system has no locks, everyone gets it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _entry(line: bytes) -> dict[str, Any] | None:
    """A line's object; None for one that is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
