"""`SET name = value`: the settings there are, what each takes, and the values a catalog remembers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from kryptondb.catalog.memory import free_memory
from kryptondb.catalog.store import Catalog
from kryptondb.errors import BindError, PlanError, did_you_mean

SettingValue = str | int

MAX_THREADS = 4096
MIN_MEMORY = 64 << 20
UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    UNITS[f"{_letter}B"] = 1000**_power
    UNITS[_letter] = UNITS[f"{_letter}IB"] = 1024**_power


@dataclass(frozen=True)
class Setting:
    """One setting. `parse` gives the canonical value of what a user wrote, or raises ValueError."""

    name: str
    default: str
    description: str
    parse: Callable[[object], SettingValue]


def _choice(*allowed: str) -> Callable[[object], SettingValue]:
    def parse(value: object) -> SettingValue:
        if isinstance(value, str) and value.strip().casefold() in allowed:
            return value.strip().casefold()
        raise ValueError("it takes " + " or ".join(f"'{word}'" for word in allowed))

    return parse


def _device(value: object) -> SettingValue:
    text = value.strip().casefold() if isinstance(value, str) else ""
    if re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text):
        return text
    raise ValueError("it takes 'auto', 'cpu', 'cuda' or 'cuda:0'")


def _threads(value: object) -> SettingValue:
    text = str(value).strip().casefold() if not isinstance(value, (bool, float)) else ""
    if text == "auto":
        return "auto"
    if re.fullmatch(r"\d{1,5}", text) and 1 <= int(text) <= MAX_THREADS:
        return int(text)
    raise ValueError(f"it takes 'auto' or a whole number from 1 to {MAX_THREADS}")


def _memory(value: object) -> SettingValue:
    text = str(value).strip() if not isinstance(value, bool) else ""
    if text.casefold() == "auto":
        return "auto"
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,6})?)\s*([A-Za-z]{0,3})", text)
    if match and match[2].upper() in UNITS:
        amount = int(float(match[1]) * UNITS[match[2].upper()])
        if MIN_MEMORY <= amount < 1 << 60:
            return text if match[2] else amount
        raise ValueError("it takes at least 64MiB")
    raise ValueError("it takes 'auto', an amount like '4GiB' or '512MB', or a number of bytes")


def _sentence(error: ValueError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("device", "auto", "where networks run: 'auto', 'cpu', 'cuda' or 'cuda:0'", _device),
        Setting("threads", "auto", "processor threads a query may use: 'auto' or a number", _threads),
        Setting("memory_limit", "auto", "memory a query may use: 'auto' (half of what is free) or '4GiB'", _memory),
        Setting(
            "on_error", "continue", "a bad image: 'continue' leaves it out, 'stop' ends", _choice("continue", "stop")
        ),
        Setting(
            "tuning",
            "auto",
            "a batch WITH SSIM and no profile: 'auto' measures images drawn by their names, 'off' runs exactly",
            _choice("auto", "off"),
        ),
        Setting(
            "progress", "auto", "the progress bar: 'auto' (on a terminal), 'on' or 'off'", _choice("auto", "on", "off")
        ),
    )
}


class Settings:
    """The settings of a session, remembered in its catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def get(self, name: str) -> SettingValue:
        """The value now. Raises BindError for a setting there is not."""
        setting = self._setting(name)
        text = self._catalog.setting(setting.name)
        return self._parse_remembered(setting, text)

    def set(self, name: str, value: object) -> SettingValue:
        """Sets and remembers; returns the canonical value.

        Raises BindError for an unknown name (with the nearest) or a value it does not take.
        """
        setting = self._setting(name)
        try:
            parsed = setting.parse(value)
        except ValueError as error:
            raise BindError(f'setting "{setting.name}" cannot be {value!r}', hint=_sentence(error)) from None
        self._catalog.put_setting(setting.name, str(parsed))
        return parsed

    def rows(self) -> list[tuple[str, str, str, str]]:
        """SHOW SETTINGS: (name, value, default, description)."""
        remembered = self._catalog.settings()
        return [
            (s.name, str(self._parse_remembered(s, remembered.get(s.name))), s.default, s.description)
            for s in SETTINGS.values()
        ]

    def memory_limit_bytes(self) -> int:
        """The memory a query may use; 'auto' is half of what is free at this moment."""
        value = self.get("memory_limit")
        if value == "auto":
            return max(MIN_MEMORY, free_memory() // 2)
        if isinstance(value, int):
            return value
        number, unit = re.findall(r"[\d.]+|[A-Za-z]+", value)
        return int(float(number) * UNITS[unit.upper()])

    def thread_count(self) -> int | None:
        """How many threads were asked for; None for 'auto', which leaves torch's own choice alone."""
        value = self.get("threads")
        return value if isinstance(value, int) else None

    def resolved_device(self) -> str:
        """The torch device: 'cpu', 'cuda' or 'cuda:n'. Raises PlanError when the device asked for is not there."""
        return resolve_device(str(self.get("device")))

    @staticmethod
    def _setting(name: str) -> Setting:
        setting = SETTINGS.get(name.casefold())
        if setting is None:
            near = did_you_mean(name, SETTINGS)
            hint = f"{near} " if near else ""
            raise BindError(f'no setting named "{name}"', hint=f"{hint}SHOW SETTINGS lists them.")
        return setting

    @staticmethod
    def _parse_remembered(setting: Setting, text: str | None) -> SettingValue:
        """A value that this version does not take (another version wrote it) counts as never set."""
        try:
            return setting.parse(setting.default if text is None else text)
        except ValueError:
            return setting.parse(setting.default)


def resolve_device(device: str) -> str:
    """'auto' -> 'cuda' where there is one, else 'cpu'; others are checked. Raises PlanError when it is not there."""
    try:
        device = str(_device(device))
    except ValueError as error:
        raise PlanError(f"there is no device '{device}'", hint=_sentence(error)) from None
    if device == "cpu":
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if count else "cpu"
    index = int(device.partition(":")[2] or 0)
    if index < count:
        return device
    found = f"there {'is' if count == 1 else 'are'} {count}" if count else "torch finds no CUDA device here"
    raise PlanError(f"device '{device}' is not there: {found}", hint="SET device = 'auto' takes what there is.")
