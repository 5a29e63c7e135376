"""Memory that a query frees stays at hand for its next tile, instead of going back to the system and coming anew.

Glibc maps large blocks afresh at every allocation and gives them back at once. Each tile would then touch all of its
memory for the first time: on a virtual machine a layer's output of 34 MB costs 7 ms that way and 1.6 ms otherwise. While
queries run, glibc is asked to keep what is freed; after the last of them everything free goes back at once.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = (1 << 31) - 1
_AS_BEFORE = {_M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: 64 << 20}  # where glibc's own adjustment ends up

_lock = threading.Lock()
_running = 0


@contextmanager
def kept() -> Iterator[None]:
    """Keeps freed memory in the process; may be nested and used by several threads. Does nothing without glibc."""
    global _running
    library = _glibc()
    if library is None:
        yield
        return
    with _lock:
        _running += 1
        if _running == 1:
            library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
            library.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                for option, value in _AS_BEFORE.items():
                    library.mallopt(option, value)
                library.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> Any:
    """The process's own C library, if it is one that has these functions."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version, library.mallopt, library.malloc_trim  # noqa: B018  (looked up: is it glibc?)
    except (OSError, AttributeError, TypeError):
        return None
    return library
