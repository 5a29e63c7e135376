"""What no answer is written over: the pictures that its query reads, and the database that is open."""

from __future__ import annotations

import os
from pathlib import Path

from kryptondb.atomic import target_of
from kryptondb.errors import ExecutionError

#: What SQLite keeps beside a database: its write-ahead log, the log's index, a rollback journal.
_BESIDE = ("-wal", "-shm", "-journal")
_ANOTHER = "Name another file."


def refuse_database(path: str, database: Path | None) -> None:
    """Raises ExecutionError where `path` is the open database's file, or one that SQLite keeps beside it.

    Args:
        database: the file of the open database; None for one in memory.
    """
    if database is None:
        return
    target, real = target_of(path), os.path.realpath(database)
    if _is_same(target, Path(real)):
        raise ExecutionError(f"cannot write {path}: it is the open database", hint=_ANOTHER)
    if any(_is_same(target, Path(real + ending)) for ending in _BESIDE):
        raise ExecutionError(f"cannot write {path}: it belongs to the open database {database}", hint=_ANOTHER)


def refuse_sources(path: str, spec: object) -> None:
    """Raises ExecutionError where `path` is a file that the query reads.

    Args:
        spec: where the query's pictures come from, as `images.find_images` takes it.
    """
    target = target_of(path)
    if not _is_file(target):
        return
    from kryptondb.images.sources import reads

    if reads(spec, target):
        raise ExecutionError(f"cannot write {path}: the query reads its pictures from it", hint=_ANOTHER)


def _is_same(first: Path, second: Path) -> bool:
    """Whether two paths are one file, or would be, where neither is there yet."""
    try:
        return first.samefile(second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # writing will say why
        return False
