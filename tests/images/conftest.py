"""Small pictures that the tests of this room share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kryptondb.images import Picture, decode, sample_path


@pytest.fixture(scope="session")
def cat() -> Picture:
    """The cat photograph, 300 x 451 RGB."""
    return decode(sample_path("cat"))


@pytest.fixture
def rgb() -> NDArray[np.uint8]:
    """12 x 17 x 3, every sample different enough to notice a swap or a turn."""
    return np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
