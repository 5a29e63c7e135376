"""How much memory is free now, on this machine and in this container."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
FALLBACK_BYTES = 4 << 30  # a system that tells nothing


def free_memory() -> int:
    """Bytes that can be used without swapping: what the system has left, or the container's limit if less."""
    free = [amount for amount in (_from_meminfo(), _from_cgroup()) if amount is not None]
    if free:
        return max(0, min(free))
    return _from_system() or FALLBACK_BYTES


def _from_meminfo() -> int | None:
    """Linux: MemAvailable counts what the page cache would give back."""
    try:
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _from_cgroup() -> int | None:
    """Linux containers: the limit minus what is in use, its page cache counted as free (version 2, then 1)."""
    for limit, usage, statistics, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            most = int((CGROUPS / limit).read_text())  # "max" is no number: no limit
            used = int((CGROUPS / usage).read_text())
            rows = (line.split() for line in (CGROUPS / statistics).read_text().splitlines())
            reclaimable = sum(int(row[1]) for row in rows if row[0] == cache)
        except (OSError, ValueError, IndexError):
            continue
        return most - used + reclaimable
    return None


def _from_system() -> int | None:
    """On macOS and Windows: all memory, for want of a number for what is free in the standard library."""
    if sys.platform == "win32":  # pragma: no cover
        import ctypes

        class Status(ctypes.Structure):
            _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
                (name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")
            ]

        status = Status(length=ctypes.sizeof(Status))
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return int(status.free)
        return None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
