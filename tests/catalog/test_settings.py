"""SET and SHOW SETTINGS."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kryptondb.catalog import settings as settings_module
from kryptondb.catalog.settings import Settings, resolve_device
from kryptondb.catalog.store import Catalog
from kryptondb.errors import BindError, PlanError
from kryptondb.options.tables import SETTINGS


@pytest.fixture
def settings() -> Settings:
    return Settings(Catalog())


def test_a_setting_is_remembered_by_the_catalog(tmp_path: Path) -> None:
    with Catalog(tmp_path / "a.krypton") as catalog:
        Settings(catalog).set("THREADS", 3)
    with Catalog(tmp_path / "a.krypton") as catalog:
        assert Settings(catalog).get("threads") == 3
        assert Settings(catalog).thread_count() == 3


def test_every_default_is_a_value_that_its_setting_takes(settings: Settings) -> None:
    assert [(name, value) for name, value, default, _ in settings.rows() if value != default] == []
    assert [row[0] for row in settings.rows()] == list(SETTINGS)
    assert settings.thread_count() is None


@pytest.mark.parametrize(
    ("name", "value", "canonical"),
    [
        ("device", "CPU", "cpu"),
        ("device", "cuda:1", "cuda:1"),
        ("threads", "4", 4),
        ("on_error", "Stop", "stop"),
        ("progress", "off", "off"),
        ("memory_limit", "512MB", "512MB"),
        ("memory_limit", 1 << 30, 1 << 30),
        ("memory_limit", "auto", "auto"),
    ],
)
def test_values_become_canonical(settings: Settings, name: str, value: object, canonical: object) -> None:
    assert settings.set(name, value) == canonical
    assert settings.get(name) == canonical


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "gpu"),
        ("device", 1),
        ("threads", 0),
        ("threads", 2.5),
        ("threads", True),
        ("threads", "99999"),
        ("memory_limit", "4 apples"),
        ("memory_limit", "1MB"),
        ("memory_limit", -5),
        ("memory_limit", "9" * 18 + "TB"),
        ("on_error", "ignore"),
        ("progress", None),
    ],
)
def test_other_values_are_refused_with_what_it_takes(settings: Settings, name: str, value: object) -> None:
    with pytest.raises(BindError, match=f"^{name} must be .*, not "):
        settings.set(name, value)
    assert settings.get(name) == SETTINGS[name].default


def test_an_unknown_setting_names_the_nearest(settings: Settings) -> None:
    with pytest.raises(BindError, match='no setting named "treads"\nDid you mean "threads"'):
        settings.set("treads", 2)
    with pytest.raises(BindError, match="SHOW SETTINGS"):
        settings.get("colour")


def test_a_value_from_another_version_counts_as_never_set() -> None:
    catalog = Catalog()
    catalog.put_setting("device", "abacus")
    assert Settings(catalog).get("device") == "auto"


@pytest.mark.parametrize(
    ("text", "expected"), [("4GiB", 4 << 30), ("512MB", 512_000_000), ("1.5 gib", 3 << 29), (100 << 20, 100 << 20)]
)
def test_memory_limits_are_counted_in_bytes(settings: Settings, text: object, expected: int) -> None:
    settings.set("memory_limit", text)
    assert settings.memory_limit_bytes() == expected


def test_an_automatic_memory_limit_is_half_of_what_is_free(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryptondb.catalog.settings.free_memory", lambda: 8 << 30)
    assert settings.memory_limit_bytes() == 4 << 30


def test_free_memory_respects_the_limit_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:    4096 kB\n")
    monkeypatch.setattr(settings_module, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(settings_module, "CGROUPS", tmp_path)
    assert settings_module.free_memory() == 4096 * 1024
    for name, text in (
        ("memory.max", "3000000"),
        ("memory.current", "1000000"),
        ("memory.stat", "inactive_file 500\n"),
    ):
        (tmp_path / name).write_text(text)
    assert settings_module.free_memory() == 2_000_500
    (tmp_path / "memory.max").write_text("max")
    assert settings_module.free_memory() == 4096 * 1024


def test_a_system_that_tells_nothing_still_has_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(settings_module, "CGROUPS", tmp_path)
    assert settings_module.free_memory() > 1 << 20


def test_the_device_asked_for_has_to_be_there(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert settings.resolved_device() == "cpu"
    settings.set("device", "cuda")
    with pytest.raises(PlanError, match="device 'cuda' not found"):
        settings.resolved_device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert settings.resolved_device() == "cuda"
    assert resolve_device("auto") == "cuda"
    with pytest.raises(PlanError, match="there is 1"):
        resolve_device("cuda:1")
    with pytest.raises(PlanError, match="no device named 'tpu'"):
        resolve_device("tpu")
