"""Pictures at addresses (`https://...`, `s3://...`) through fsspec, within bounds of size and time.

fsspec and what it needs for a protocol (aiohttp for https, s3fs for s3, ...) are installed by whoever uses them.
Nothing is fetched before a picture's turn comes, and nothing is kept on disk.
"""

from __future__ import annotations

import glob
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from kryptondb.errors import ImageError
from kryptondb.files.paths import scheme_of
from kryptondb.images.content import BytesContent, suffix_of
from kryptondb.text.plain_text import printable

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

MOST_BYTES = 512 << 20
STALLED_SECONDS = 30.0  # without a byte
MOST_SECONDS = 600.0  # for one picture, or for a listing

#: Plain storage. fsspec's other protocols open archives, caches and programs, which no path in a table should.
SCHEMES = frozenset(
    {"http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "ftp", "sftp", "webhdfs", "memory"}
)
_CHUNK = 1 << 20
_MISSING = (404, 410)  # of HTTP's answers

Answer = TypeVar("Answer")


def is_remote(text: str) -> bool:
    """Whether a path is an address."""
    return scheme_of(text) is not None


def is_several(address: str) -> bool:
    """Whether an address is a folder or a glob. In http a `?` begins a query."""
    path = _path_of(address) if _scheme(address) in ("http", "https") else address
    return path.endswith("/") or glob.has_magic(path)


def shown(address: str) -> str:
    """The address as it is named in answers and messages: without a user and password."""
    return printable(re.sub(r"://[^/@]*@", "://", address))


def find(address: str, suffixes: frozenset[str]) -> Iterator[str]:
    """The addresses of the files in a folder (of these suffixes, at all depths), or of those that match a glob.

    Raises:
        ImageError: as `fetch`.
    """
    system, path = _system(address)

    def listed() -> list[str]:
        names = system.glob(path) if glob.has_magic(path) else system.find(path)
        return sorted(str(system.unstrip_protocol(name)) for name in names)

    pictures_only = not glob.has_magic(path) or glob.has_magic(suffix_of(path))
    for address_found in _in_time(shown(address), listed):
        if not pictures_only or suffix_of(_path_of(address_found)) in suffixes:
            yield address_found


def fetch(address: str) -> BytesContent:
    """What lies there.

    Raises:
        ImageError: fsspec or what it needs is missing; no such file, no permission, no answer in time; too large.
    """
    name = shown(address)
    system, path = _system(address)
    chunks: queue.Queue[bytes | Exception | None] = queue.Queue(maxsize=8)
    stopped = threading.Event()

    def read() -> None:
        try:
            with system.open(path, "rb", block_size=_CHUNK, cache_type="readahead") as stream:
                while not stopped.is_set() and (chunk := stream.read(_CHUNK)):
                    chunks.put(chunk)
            chunks.put(None)
        except Exception as error:
            chunks.put(error)

    threading.Thread(target=read, name="kryptondb-fetch", daemon=True).start()
    data, until = bytearray(), time.monotonic() + MOST_SECONDS
    try:
        while (chunk := chunks.get(timeout=STALLED_SECONDS)) is not None:
            if isinstance(chunk, Exception):
                raise _reason(name, chunk) from None
            data += chunk
            if len(data) > MOST_BYTES:
                raise ImageError(f"{name}: more than the {MOST_BYTES:,} bytes that are fetched")
            if time.monotonic() > until:
                raise ImageError(f"{name}: not fetched in {MOST_SECONDS:g} seconds")
    except queue.Empty:
        raise ImageError(f"{name}: no answer in {STALLED_SECONDS:g} seconds") from None
    finally:
        stopped.set()
        with suppress(queue.Empty):  # the thread may be waiting for a place
            while True:
                chunks.get_nowait()
    return BytesContent(bytes(data), name, suffix_of(_path_of(address)))


def _path_of(address: str) -> str:
    """What an address names on its host. Raises ImageError for one that is no address: `http://[x/a.png`."""
    try:
        return urlsplit(address).path
    except ValueError as error:
        raise ImageError(f"{shown(address)}: not an address: {error}") from None


def _scheme(address: str) -> str:
    return scheme_of(address) or ""


def _system(address: str) -> tuple[AbstractFileSystem, str]:
    """The file system for an address, and the path in it."""
    name = shown(address)
    if _scheme(address) not in SCHEMES or "::" in address:
        raise ImageError(
            f"{name}: pictures cannot be fetched from {_scheme(address)}://", hint=f"From {', '.join(sorted(SCHEMES))}."
        )
    try:
        import fsspec
    except ImportError:
        raise ImageError(
            f"{name}: fetching pictures needs the package fsspec", hint='pip install "kryptondb[remote]"'
        ) from None
    try:
        return fsspec.core.url_to_fs(address)  # type: ignore[no-any-return]  # untyped
    except Exception as error:
        raise _reason(name, error) from None


def _in_time(name: str, call: Callable[[], Answer]) -> Answer:
    """What a call answers, or ImageError when it fails or takes too long."""
    answers: queue.Queue[Any] = queue.Queue(maxsize=1)

    def run() -> None:
        try:
            answers.put((call(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=run, name="kryptondb-list", daemon=True).start()
    try:
        answer, error = answers.get(timeout=MOST_SECONDS)
    except queue.Empty:
        raise ImageError(f"{name}: no answer in {MOST_SECONDS:g} seconds") from None
    if error is not None:
        raise _reason(name, error) from None
    return answer  # type: ignore[no-any-return]  # what `call` gave


def _reason(name: str, error: Exception) -> ImageError:
    """What went wrong, for a person."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, FileNotFoundError) and cause is not None:
        # fsspec says so of everything that keeps it from asking: a refused connection, an unknown host, status 500.
        status = getattr(cause, "status", None)
        if isinstance(status, int) and status not in _MISSING:
            return ImageError(f"{name}: cannot be fetched: the server answers {status} {getattr(cause, 'message', '')}")
        if status is None and isinstance(cause, Exception) and not isinstance(cause, (FileNotFoundError, LookupError)):
            error = cause
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{name}: no such file")
    if isinstance(error, PermissionError):
        return ImageError(f"{name}: permission denied")
    if isinstance(error, ImportError):
        return ImageError(f"{name}: another package is needed: {error}")
    first = shown((str(error).splitlines() or [""])[0])[:200]
    return ImageError(f"{name}: cannot be fetched: {first or type(error).__name__}")
