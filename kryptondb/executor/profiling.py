"""Measures one image for a profile: its exact map, its guides, and how near each recipe comes with these."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from kryptondb.executor import heap, ladder
from kryptondb.executor.approximation import approximate
from kryptondb.executor.experiment import Experiment, ImageRun
from kryptondb.executor.occlusion import asking
from kryptondb.executor.operators import Thresholded
from kryptondb.executor.quality import ssim
from kryptondb.images.picture import Picture
from kryptondb.network import Cap
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.physical import ClassChoice
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Workload


@dataclass(frozen=True)
class Measured:
    """One recipe on one image: the lowest SSIM over the classes asked for, and the seconds that it takes."""

    recipe: Recipe
    ssim: float
    seconds: float


@dataclass(frozen=True)
class Profiler:
    """Measures recipes on pictures.

    Attributes:
        experiment: of the exact map, as a query would run it.
        guides: the operator that computes each guide.
    """

    experiment: Experiment
    guides: Mapping[Cap, Thresholded]

    def measure(
        self, picture: Picture, recipes: Sequence[Recipe], progress: Callable[[int, int], None] | None = None
    ) -> tuple[float, list[Measured]]:
        """Seconds of the exact map, and what was measured of each recipe.

        Args:
            progress: told how many positions are done, of how many, over all maps.

        Raises:
            ImageError: the picture cannot be made into the model's input.
            ExecutionError: the network failed.
        """
        caps = list(dict.fromkeys(cap for cap in map(ladder.cap_of, recipes) if cap is not None))
        grid = self.experiment.grid
        done, total = 0, grid.rows * grid.cols * (1 + len(caps))

        def count(positions: int) -> None:
            nonlocal done
            done += positions
            if progress is not None:
                progress(done, total)

        began = time.perf_counter()
        exact, run = _map(self.experiment, picture, count)
        exact_seconds = time.perf_counter() - began
        same = ClassChoice("list", indices=tuple(run.classes))
        base = np.asarray(run.base)[:, None, None]
        guides: dict[Cap | None, tuple[np.ndarray | None, float]] = {None: (None, 0.0)}
        for cap in caps:
            experiment = replace(self.experiment, operator=self.guides[cap], classes=same)
            began = time.perf_counter()
            maps, _ = _map(experiment, picture, count)
            guides[cap] = maps, time.perf_counter() - began
        measured = []
        for recipe in recipes:
            guide, guide_seconds = guides[ladder.cap_of(recipe)]
            answer = approximate(recipe, exact, guide, score=self.experiment.score)
            seconds = ladder.seconds(recipe, (grid.rows, grid.cols), exact_seconds, guide_seconds)
            measured.append(Measured(recipe, _lowest(base - exact, base - answer), seconds))  # of heat maps: drops
        return exact_seconds, measured


def guides_for(recipes: Sequence[Recipe], workload: Workload, rates: Rates) -> dict[Cap, Thresholded]:
    """The fastest operator for each cap that recipes need; none for a network that only runs as a whole."""
    found = {}
    for cap in dict.fromkeys(map(ladder.cap_of, recipes)):
        if cap is not None:
            for operator in Thresholded.settings(partial(Thresholded, cap=cap), workload, rates, {}):
                found[cap] = operator
    return found


def _map(experiment: Experiment, picture: Picture, count: Callable[[int], None]) -> tuple[np.ndarray, ImageRun]:
    """The scores of all cells, float64 [k, rows, cols], and the run that gave them."""
    with heap.kept(), asking(picture.name):
        run = experiment.run(picture)
        maps = np.full((len(run.classes), experiment.grid.rows, experiment.grid.cols), np.nan)
        for cells in run:
            maps[:, cells.rows, cells.cols] = cells.scores.T
            count(len(cells.rows))
    return maps, run


def _lowest(exact: np.ndarray, approximate: np.ndarray) -> float:
    """The SSIM of the class that comes out worst; maps [k, rows, cols]. A map that is not finite is like no other."""
    similarities = [ssim(*pair) for pair in zip(exact, approximate, strict=True)]
    return min(each if np.isfinite(each) else 0.0 for each in similarities)
