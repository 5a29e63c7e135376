"""Paths as users write them, the same for what is read and what is written, and the format that an ending means."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

from kryptondb.errors import BindError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_FILE = re.compile(r"file://(localhost)?(?=/)", re.IGNORECASE)


def scheme_of(text: str) -> str | None:
    """The scheme of an address such as `s3://bucket/a.png`; None for a path, and for the address of a file here."""
    found = _SCHEME.match(text)
    return None if found is None or is_file_address(text) else found[1].lower()


def is_file_address(text: str) -> bool:
    """Whether a text is the address of a file of this machine: `file:///scans/a.png`."""
    return _FILE.match(text) is not None


def expanded(path: str | Path) -> Path:
    """The path with `~` replaced; that of the file which `file:///...` is the address of."""
    if isinstance(path, str) and (start := _FILE.match(path)):
        text = unquote(path[start.end() :], errors="surrogateescape")
        return Path(text[1:] if sys.platform == "win32" and re.match("/[A-Za-z]:", text) else text)
    try:
        return Path(path).expanduser()
    except RuntimeError:  # `~somebody` without a home is a name like any other
        return Path(path)


def cut_name(name: str, most: int) -> str:
    """The name of a file, or its beginning where it is longer than so many bytes: systems take 255."""
    return os.fsencode(name)[:most].decode(errors="ignore") if len(os.fsencode(name)) > most else name


def unusable(path: str | Path) -> str | None:
    """Why no file of this machine can have this path; None where one can.

    The system would raise a ValueError, not an OSError, or make a folder for an address.
    """
    text = os.fspath(path)
    if (scheme := scheme_of(text)) is not None:
        return f"{scheme}:// is not a place on this machine"
    if "\0" in text:
        return "a path cannot hold a NUL character"
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        return f"a path cannot hold the character {text[error.start]!r}"
    return None


def absolute(path: str) -> str:
    """The path with `~` expanded, made absolute from the current folder: what the catalog remembers.

    Raises:
        BindError: no file can have this path.
    """
    problem = unusable(path)
    if problem is not None:
        hint = "Download it, and name the file." if scheme_of(path) is not None else None
        raise BindError(f"{path!r} is not the name of a file: {problem}", hint=hint)
    return str(expanded(path).absolute())  # links are kept: what they point to may change


#: The format of each ending. `arrow` is the Arrow IPC file, whose batches can be found; `arrows` is the stream.
ENDINGS = {
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".arrows": "arrows",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".png": "png",
    ".html": "html",
    ".htm": "html",
    ".dcm": "dicom",
    **dict.fromkeys((".txt", ".text", ".log", ".out", ".md"), "table"),
}


def format_of(path: str) -> str | None:
    """The format of a file by the ending of its name; None where the name has none that means one."""
    return ENDINGS.get(Path(path).suffix.casefold())


def suggested_path(path: str) -> str | None:
    """A path with a name before its ending, where it has none: 'result.csv' for '.csv', which is a hidden file.

    None for any other path.
    """
    name = Path(path).name
    return str(Path(path).with_name(f"result{name}")) if name.casefold() in ENDINGS else None
