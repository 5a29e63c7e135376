"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kryptondb.files.paths import expanded, scheme_of, unusable

NOBODY = "~no-such-user-here"


def test_a_home_is_put_in_its_place_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert expanded("~/a.png") == tmp_path / "a.png"
    assert expanded(Path("b") / "~") == Path("b") / "~"
    assert expanded(f"{NOBODY}.csv") == Path(f"{NOBODY}.csv")


def test_paths_that_no_file_can_have_are_told() -> None:
    assert unusable("a\0b.csv") == "a path cannot hold a NUL character"
    assert unusable("scans/Ärzte \udcff.png") is None, "a byte that is no text"
    assert unusable(Path("a.csv")) is None


@pytest.mark.skipif("sys.platform == 'win32'", reason="Windows has names of any UTF-16")
def test_a_character_that_the_system_has_no_bytes_for_is_told() -> None:
    assert unusable("a\ud800.csv") == r"a path cannot hold the character '\ud800'"


def test_the_address_of_a_file_here_is_its_path() -> None:
    for address in ("file:///scans/a%20b.png", "FILE://localhost/scans/a b.png"):
        assert expanded(address) == Path("/scans/a b.png") and scheme_of(address) is None and unusable(address) is None
    assert expanded("file:///a%FF.png") == Path("/a\udcff.png")
    for path in ("file:/a.png", "a/file:///b.png", "c:/a.png", "c://a.png"):
        assert expanded(path) == Path(path) and scheme_of(path) is None


@pytest.mark.parametrize("address", ["s3://bucket/a.csv", "HTTPS://host/a", "file://elsewhere/a.csv", "memory://a"])
def test_an_address_elsewhere_is_no_path_of_this_machine(address: str) -> None:
    assert unusable(address) == f"{address.partition(':')[0].lower()}:// is not a place on this machine"
