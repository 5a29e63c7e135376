"""A small exported network, pictures of a few kinds, and a folder to work in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.networks import export, small_network


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of three classes for 32 x 32 RGB pictures, as a .pt2 file."""
    path = tmp_path_factory.mktemp("models") / "small.pt2"
    export(small_network(), path)
    return path


@pytest.fixture
def network() -> torch.nn.Module:
    """The same network as a module."""
    return small_network()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: an empty one with three pictures in scans/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    for number in range(3):
        picture(number).save(tmp_path / "scans" / f"{number}.png")
    return tmp_path


def picture(seed: int) -> Image.Image:
    """Noise of 32 x 32 RGB."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))
