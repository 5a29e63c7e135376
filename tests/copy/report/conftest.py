"""A report of three images, made without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kryptondb.copy.sinks import copy_to
from kryptondb.executor import Execution
from kryptondb.images.preprocess import Preprocess
from kryptondb.optimizer import physical as p
from tests.fakes import FakeExperiment, FakeModel, FakeModels, FakeRun, occlude, start

#: What the network says of each picture, and so how cards are sorted and filtered.
PREDICTIONS = {
    "a.png": (0.5, 0.1, 0.3, 0.1),  # tabby 50 %
    "b.png": (0.05, 0.8, 0.1, 0.05),  # tiger 80 %
    "c.png": (0.6, 0.2, 0.1, 0.1),  # tabby 60 %
}


class Opinions(FakeExperiment):
    """Made-up scores, and predictions that differ from picture to picture."""

    def run(self, picture: Any) -> FakeRun:
        """As the fake's, with the picture's own prediction."""
        run = super().run(picture)
        run.prediction = np.array(PREDICTIONS.get(run.name, (0.4, 0.3, 0.2, 0.1)))
        return run


Report = Callable[..., tuple[Path, Execution]]


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Writes `report.html` from the pictures of a folder; gives it, and the run."""
    return writer(tmp_path)


def writer(folder: Path) -> Report:
    """What the fixture gives, for another folder."""

    def write(images: Any, *, classes: int = 1, progress: Any = None, **options: Any) -> tuple[Path, Execution]:
        root = p.HeatMaps(occlude(images, classes=p.ClassChoice("top", classes)))
        models = FakeModels(FakeModel(preprocess=Preprocess(12, 16)))  # the size of the fake plan's input
        run = start(root, Opinions(), models=models, progress=progress)
        path = folder / "report.html"
        copied = copy_to(run, str(path), options)
        assert (copied.format, copied.unit, copied.bytes) == ("html", "heat map", path.stat().st_size)
        return path, run

    return write
