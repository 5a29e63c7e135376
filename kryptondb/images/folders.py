"""Folders and globs to files, lazily: one directory at a time, each in name order."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kryptondb.errors import ImageError
from kryptondb.images.content import file_content, suffix_of
from kryptondb.images.decode import SUFFIXES
from kryptondb.images.dicom_header import SIGNATURE_END, is_dicom
from kryptondb.text.plain_text import printable


@dataclass(frozen=True)
class Unreadable:
    """A folder that cannot be read, in the place of what it holds."""

    name: str
    error: ImageError


Found = Path | Unreadable


def is_folder(path: Path) -> bool:
    """Whether it is one; False for what cannot be looked at."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """Whether something is there. A file that may not be looked at is there: decoding it will say why it fails."""
    try:
        return path.exists()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False


def is_picture(path: Path) -> bool:
    """By the suffix. A file without one, or with a number (as DICOM UIDs end), is looked into: PACS export such."""
    suffix = suffix_of(path.name)
    if suffix in SUFFIXES:
        return True
    unnamed = not path.suffix or path.suffix[1:].isdigit()
    return unnamed and path.name.upper() != "DICOMDIR" and is_dicom(file_content(path).start(SIGNATURE_END))


Ancestors = tuple[tuple[int, int], ...]  # (device, inode) of the folders above: a link to one of them is a loop


@dataclass(frozen=True)
class _Entry:
    """Something in a folder, with the folders above it."""

    path: Path
    is_folder: bool
    above: Ancestors

    @property
    def hidden(self) -> bool:
        return self.path.name.startswith(".")


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _entries(folder: Path, above: Ancestors, in_order: bool = True) -> Iterator[_Entry | Unreadable]:
    """What one directory holds, in name order or any; one failing source for a folder that cannot be read."""
    try:
        identity = _identity(folder)
        if identity in above:
            return
        found = folder.iterdir()
        paths = sorted(found, key=lambda path: path.name) if in_order else found
    except OSError as error:
        shown = printable(folder)
        yield Unreadable(shown, ImageError(f"{shown}: {(error.strerror or str(error)).lower()}"))
        return
    for path in paths:
        yield _Entry(path, is_folder(path), (*above, identity))


def walk(folder: Path, above: Ancestors, in_order: bool = True) -> Iterator[Found]:
    """Every picture under `folder`, at all depths, files and folders in one name order, or in any."""
    listed = _entries if in_order else partial(_entries, in_order=False)
    for entry in listed(folder, above):
        if isinstance(entry, Unreadable):
            yield entry
        elif entry.hidden:
            continue
        elif entry.is_folder:
            yield from walk(entry.path, entry.above, in_order)
        elif is_picture(entry.path):
            yield entry.path


def links_in(folder: Path) -> Iterator[Path]:
    """The symbolic links under a folder, at all depths, in no order, without a look at anything else."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif entry.is_dir():
                yield from links_in(Path(entry.path))


def match_glob(pattern: Path) -> Iterator[Found]:
    """The files that match, in name order by directory. A pattern without a suffix of its own means pictures only."""
    parts = pattern.parts[1:] if pattern.anchor else pattern.parts
    suffix = pattern.suffix
    only_pictures = not suffix or glob.has_magic(suffix)
    seen: set[Path] | None = set() if parts.count("**") > 1 else None  # only two `**` can reach a file in two ways
    for found in _match(Path(pattern.anchor), parts, ()):
        if isinstance(found, Unreadable):
            yield found
        elif only_pictures and not is_picture(found):
            continue
        elif seen is None or found not in seen:
            if seen is not None:
                seen.add(found)
            yield found


def _match(folder: Path, parts: tuple[str, ...], above: Ancestors) -> Iterator[Found]:
    """Files under `folder` whose path matches `parts`; as in a shell, `*` does not match a leading dot."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        while rest and rest[0] == "**":
            rest = rest[1:]
        yield from _match_here_and_below(folder, rest or ("*",), above)
        return
    if not glob.has_magic(part):
        path = folder / part
        if rest and is_folder(path):
            yield from _match(path, rest, ())
        elif not rest and path.is_file():
            yield path
        return
    for entry in _entries(folder, above):
        if isinstance(entry, Unreadable):
            yield entry
        elif (entry.hidden and not part.startswith(".")) or not fnmatch.fnmatchcase(entry.path.name, part):
            continue
        elif rest and entry.is_folder:
            yield from _match(entry.path, rest, ())
        elif not rest and not entry.is_folder:
            yield entry.path


def _match_here_and_below(folder: Path, rest: tuple[str, ...], above: Ancestors) -> Iterator[Found]:
    """`**/rest`: rest in this folder, then in each folder below it."""
    try:
        if above and _identity(folder) in above:
            return
    except OSError:
        pass  # reading it says why
    yield from _match(folder, rest, ())
    for entry in _entries(folder, above):
        if isinstance(entry, Unreadable):
            if not glob.has_magic(rest[0]):  # otherwise _match has read the folder, and reported it
                yield entry
        elif entry.is_folder and not entry.hidden:
            yield from _match_here_and_below(entry.path, rest, entry.above)
