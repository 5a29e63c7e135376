"""Pictures for the executor's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small pictures: a.png, b.png, c.png."""
    return pictures(tmp_path / "in", "a.png", "b.png", "c.png")


@pytest.fixture
def picture(folder: Path) -> str:
    """One of them."""
    return str(folder / "a.png")
