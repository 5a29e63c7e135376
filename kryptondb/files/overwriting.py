"""What no answer is written over: the pictures that its query reads, what models are made of, and the open database.

A file is known by what it is, not by its name: through links of either kind, `..`, other spellings on disks that do not
tell them apart, and folders that are mounted twice.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from kryptondb.errors import ExecutionError
from kryptondb.files.atomic import target_of

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


def refuse_files(path: str, kept: Mapping[str, str]) -> None:
    """Raises ExecutionError where `path` is one of some files, or lies in one of some folders.

    Args:
        kept: why each of them is left alone, by its path: 'it is the running script'.
    """
    target = target_of(path)
    for file, why in kept.items():
        status = _status(Path(file))
        inside = status is not None and stat.S_ISDIR(status.st_mode) and _is_same(target.parent, Path(file))
        if inside or _is_same(target, Path(file)):
            raise ExecutionError(f"cannot write {path}: {why}", hint=_ANOTHER)


def refuse_sources(path: str, reads: Callable[[Path], bool]) -> None:
    """Raises ExecutionError where `path` is a file that the query reads.

    Args:
        reads: whether the query reads a file that is there.
    """
    target = target_of(path)
    status = _status(target)
    if status is not None and stat.S_ISREG(status.st_mode) and reads(target):
        raise ExecutionError(f"cannot write {path}: the query reads its pictures from it", hint=_ANOTHER)


def _is_same(target: Path, other: Path) -> bool:
    """Whether two paths are one file, or would be, where neither is there yet.

    Of two that are not there, names that differ in case alone are one: the disk may not tell them apart.
    """
    first, second = _status(target), _status(other)
    if first is not None or second is not None:
        return first is not None and second is not None and os.path.samestat(first, second)
    return other.name.casefold() == target.name.casefold() and _is_same_folder(target.parent, other.parent)


def _is_same_folder(first: Path, second: Path) -> bool:
    one, other = _status(first), _status(second)
    if one is None or other is None:
        return os.path.realpath(first) == os.path.realpath(second)
    return os.path.samestat(one, other)


def _status(path: Path) -> os.stat_result | None:
    """What the system says of a path; None where nothing is there, or it may not be looked at."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
