"""A model's file, exported once for all tests of the catalog, and copied for each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.networks import export, small_net


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network's .pt2 file; tests leave it as it is."""
    path = tmp_path_factory.mktemp("saved") / "net.pt2"
    export(small_net(), path, side=16)
    return path


@pytest.fixture
def program(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, named net.pt2, which the test may change."""
    return Path(shutil.copy(saved, tmp_path / "net.pt2"))
