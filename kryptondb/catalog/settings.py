"""`SET name = value`: the values of settings that a catalog remembers, and what 'auto' means: free memory, a device."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kryptondb.catalog.store import Catalog
from kryptondb.errors import BindError, PlanError, Position
from kryptondb.options.kinds import Device, Memory
from kryptondb.options.option import Option
from kryptondb.options.tables import SETTINGS
from kryptondb.options.words import MIN_MEMORY

CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
FALLBACK_BYTES = 4 << 30  # where the system reports nothing


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
            most = int((CGROUPS / limit).read_text())  # "max" is not a number: there is no limit
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


SettingValue = str | int


class Settings:
    """The settings of a session, remembered in its catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def get(self, name: str) -> SettingValue:
        """The value now. Raises BindError for a setting there is not."""
        setting = SETTINGS.find(name)
        return _remembered(setting, self._catalog.setting(setting.name))

    def set(
        self, name: str, value: object, *, at: Position | None = None, name_at: Position | None = None
    ) -> SettingValue:
        """Sets and remembers; returns the canonical value.

        Args:
            at, name_at: where the value and the name stand in a statement.

        Raises BindError for an unknown name (with the nearest) or a value it does not take.
        """
        setting = SETTINGS.find(name, name_at)
        canonical = _read(setting, value, at)
        self._catalog.put_setting(setting.name, str(canonical))
        return canonical

    def rows(self) -> list[tuple[str, str, str, str]]:
        """SHOW SETTINGS: (name, value, default, description)."""
        texts = self._catalog.settings()
        return [
            (row.name, str(_remembered(row, texts.get(row.name))), row.default, row.description)
            for row in SETTINGS.rows
        ]

    def memory_limit_bytes(self) -> int:
        """The memory a query may use; 'auto' is half of what is free at this moment."""
        value = self.get("memory_limit")
        if value == "auto":
            return max(MIN_MEMORY, free_memory() // 2)
        return Memory.bytes(value)

    def thread_count(self) -> int | None:
        """How many threads were asked for; None for 'auto', which leaves torch's own choice alone."""
        value = self.get("threads")
        return value if isinstance(value, int) else None

    def resolved_device(self) -> str:
        """The torch device: 'cpu', 'cuda' or 'cuda:n'. Raises PlanError when the device asked for is not there."""
        return resolve_device(str(self.get("device")))


def _read(setting: Option, value: object, position: Position | None = None) -> SettingValue:
    """The value that a setting takes for this one; a number may come as its text, as the catalog keeps it."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        value = int(value)
    canonical: SettingValue = setting.read(value, position)
    return canonical


def _remembered(setting: Option, text: str | None) -> SettingValue:
    """A value that this version does not take (another version wrote it) counts as never set."""
    try:
        return _read(setting, setting.default if text is None else text)
    except BindError:
        return _read(setting, setting.default)


def resolve_device(device: str) -> str:
    """'auto' -> 'cuda' where there is one, else 'cpu'; others are checked. Raises PlanError when it is not there."""
    try:
        device = Device().read(device)
    except ValueError:
        raise PlanError(f"no device named '{device}'", hint=f"It is {Device()}.") from None
    if device == "cpu":
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if count else "cpu"
    index = int(device.partition(":")[2] or 0)
    if index < count:
        return device
    found = f"there {'is' if count == 1 else 'are'} {count}" if count else "torch finds no CUDA device"
    raise PlanError(f"device '{device}' not found: {found}", hint="SET device = 'auto' uses what is available.")
