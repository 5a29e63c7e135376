"""Main memory of this process: how much it holds, and freed memory kept at hand for the next tile of a query.

Only anonymous memory belongs to a query. Pages of files (libraries' code, mapped weights) are shared by all processes,
are read when first touched, and are dropped when the system needs the space.

Glibc maps large blocks afresh at every allocation and returns them at once. Each tile would then touch all of its
memory for the first time: on a virtual machine a layer's output of 34 MB costs 7 ms that way and 1.6 ms otherwise.
While queries run, glibc is asked to keep what is freed; after the last of them all free memory is returned.

Kept memory is fragmented: a block that fits no gap takes new memory, while the gaps stay allocated. So a run watches
what the process holds, and returns all gaps when a node's memory would exceed the plan's budget. Touching memory anew
takes time, so plans may hold several times what is alive, as far as the memory limit allows.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Resident:
    """Bytes in memory: the most so far and now, and how much of now are pages of files."""

    highest: int
    now: int
    files: int


def resident_memory() -> Resident | None:
    """What the process holds; None where the system does not tell. About 30 microseconds."""
    if sys.platform == "linux":
        try:
            with Path("/proc/self/status").open(encoding="ascii", errors="replace") as status:
                sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in status if line.endswith(" kB\n")}
            files = sizes.get("RssFile", 0) + sizes.get("RssShmem", 0)
            return Resident(sizes["VmHWM"], sizes["VmRSS"], files)
        except (OSError, KeyError):
            return None
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Resident(highest, highest, 0)


def forget_highest() -> bool:
    """Lets the system count the most so far anew from here on; False where it does not."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def anonymous_bytes() -> int | None:
    """Bytes in memory now that are no pages of files; None where the system does not tell. About 2 microseconds."""
    try:
        _, held, files, *_ = os.pread(_statm(), 128, 0).split()
    except (OSError, ValueError):
        return None
    return (int(held) - int(files)) * _PAGE


@lru_cache(maxsize=1)
def _opened(process: int) -> int:
    return os.open("/proc/self/statm", os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))


def _statm() -> int:
    return _opened(os.getpid())  # a forked process has its own


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = (1 << 31) - 1
_AS_BEFORE = {_M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: 64 << 20}  # where glibc's own adjustment ends up

_NOTICED = 64  # a node that takes less than this part of the budget is let pass

_lock = threading.Lock()
_running = 0


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
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


def release_free_memory() -> None:
    """Gives all free memory back to the system. Does nothing without glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


class MemoryGuard:
    """Keeps a run within its budget, as far as free memory goes.

    Attributes:
        trims: how often memory was given back.
    """

    def __init__(self, before: int | None, budget: int, needed: Sequence[int]) -> None:
        """
        Args:
            before: bytes that the process held before the run; None: nothing is watched.
            budget: bytes that it may hold more.
            needed: what each node allocates at most.
        """
        self.trims = 0
        self._most = None if before is None else before + budget
        self._needed = needed
        self._small = budget // _NOTICED

    def before(self, index: int) -> None:
        """Called before the node `index` runs."""
        needed = self._needed[index]
        if self._most is None or needed < self._small:
            return
        held = anonymous_bytes()
        if held is not None and held + needed > self._most:
            self.trims += 1
            release_free_memory()


@lru_cache(maxsize=1)
def _glibc() -> Any:
    """The process's own C library, if it is one that has these functions."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version, library.mallopt, library.malloc_trim  # noqa: B018  (looked up: is it glibc?)
    except (OSError, AttributeError, TypeError):
        return None
    return library


class MemoryMeter:
    """The peak of the process's resident memory, and of what a query holds beside what was there when it began."""

    def __init__(self) -> None:
        held = resident_memory()
        self._peak = held.now if held is not None else 0
        self._highest_before = held.highest if held is not None else 0
        self._query_peak = 0
        self._before: int | None = None

    def begin(self) -> None:
        """From here on memory is the query's: pictures and the network are there, its base and its tiles are not."""
        self.sample()
        renewed = forget_highest()
        held = resident_memory()
        if held is not None:
            self._before = held.now - held.files
            self._highest_before = 0 if renewed else held.highest

    def sample(self) -> int | None:
        """Looks once more, and gives the peak of the process in bytes. About 30 microseconds."""
        held = resident_memory()
        if held is None:
            return None
        # A new high of the process is one since the meter was made, even if it came and went between two looks.
        highest = held.highest if held.highest > self._highest_before else held.now
        self._peak = max(self._peak, highest)
        if self._before is not None:
            self._query_peak = max(self._query_peak, highest - held.files - self._before)
        return self._peak

    @property
    def begun(self) -> bool:
        """Whether the query has begun."""
        return self._before is not None

    @property
    def query_peak(self) -> int | None:
        """The most bytes that the query held, seen at the last look; None before it began."""
        return self._query_peak if self._before is not None else None
