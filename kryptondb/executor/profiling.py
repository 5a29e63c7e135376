"""Measures one image for a profile: its exact map, what else recipes need, and how near each comes with these."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np

from kryptondb.errors import ExecutionError
from kryptondb.executor.approximation import simulated
from kryptondb.executor.operators import AnyOperator, Incremental, Scores, Thresholded
from kryptondb.executor.pictures import asking
from kryptondb.executor.quality import ssim
from kryptondb.executor.runner import ModelRunner
from kryptondb.executor.stages import ImageRun
from kryptondb.images.picture import Picture
from kryptondb.network import UNCAPPED
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.experiment import ClassChoice
from kryptondb.optimizer.operator import Operator
from kryptondb.optimizer.recipe import EXACT, Pass, Recipe, accurate_pass, guide_pass, maps_beside, passes
from kryptondb.optimizer.workload import Workload
from kryptondb.process.memory import keeping_freed_memory


@dataclass(frozen=True)
class RecipeMeasurement:
    """One recipe on one image.

    Attributes:
        ssim: the lowest over the classes asked for.
        seconds: that it takes.
        further: the share of all cells that it computes because of what the first ones look like.
    """

    recipe: Recipe
    ssim: float
    seconds: float
    further: float = 0.0


@dataclass(frozen=True, eq=False)
class Sample:
    """What was measured of one image.

    Attributes:
        seconds: of the exact map.
        recipes: how near each comes, and how long it takes.
        exact: the exact map itself, as an answer.
    """

    seconds: float
    recipes: tuple[RecipeMeasurement, ...]
    exact: ImageRun

    @property
    def by_recipe(self) -> dict[Recipe, RecipeMeasurement]:
        """What was measured of each recipe."""
        return {measured.recipe: measured for measured in self.recipes}


@dataclass(eq=False)
class StoredAnswer:
    """An image's exact answer that was computed before its turn, and is read like any other (`stages.ImageRun`).

    Attributes:
        prediction: probabilities of all classes, float64 [classes].
        classes: the k classes that are scored.
        base: their scores with nothing occluded, float64 [k].
        scores: of every position, float64 [k, rows, cols].
        flops: operations that were done for it.
        spent: nothing, for its turn takes no time.
        unsteady: None: models that answer one picture in two ways are not measured.
    """

    prediction: np.ndarray
    classes: list[int]
    base: np.ndarray
    scores: np.ndarray
    flops: float
    spent: Mapping[str, float] = field(default_factory=dict)
    unsteady: str | None = None

    def allot(self, time_left: Callable[[], float]) -> None:
        """Takes no time."""

    def __iter__(self) -> Iterator[Scores]:
        rows, cols = self.scores.shape[1:]
        across = np.arange(cols, dtype=np.int32)
        for row in range(rows):
            yield Scores(np.full(cols, row, dtype=np.int32), across, self.scores[:, row].T)


@dataclass(frozen=True)
class Profiler:
    """Measures recipes on pictures.

    Attributes:
        runner: of the exact map, as a query would run it.
        operators: what computes each map beside that.
    """

    runner: ModelRunner
    operators: Mapping[Pass, Operator]

    def measure(
        self, picture: Picture, recipes: Sequence[Recipe], progress: Callable[[int, int], None] | None = None
    ) -> Sample:
        """The exact map, and what was measured of each recipe; of none in a precision that the network cannot run in.

        Args:
            progress: told how many positions are done, of how many, over all maps.

        Raises:
            ImageError: the picture cannot be made into the model's input.
            ExecutionError: the network failed.
        """
        wanted = maps_beside(recipes)
        grid = self.runner.grid
        done, total = 0, grid.rows * grid.cols * (1 + len(wanted))

        def count(positions: int) -> None:
            nonlocal done
            done += positions
            if progress is not None:
                progress(done, total)

        exact = self._timed(self.runner, picture, count)
        maps = {EXACT: exact}
        for each in wanted:
            try:
                maps[each] = self._timed(self._runner_of(each, exact.classes), picture, count)
            except ExecutionError as error:
                # A tensor that a network makes itself stays in its own precision, and may fit no other.
                if not each.precision or not isinstance(error.__cause__, RuntimeError):
                    raise
        recipes = [recipe for recipe in recipes if maps.keys() >= set(passes(recipe))]
        measured = []
        for recipe in recipes:
            accurate, guide = (
                None if each is None else maps[each] for each in (accurate_pass(recipe), guide_pass(recipe))
            )
            of_these = accurate or guide
            assert of_these is not None  # every recipe needs some map
            answer, further = simulated(
                recipe,
                of_these.scores,
                None if guide is None else guide.scores,
                score=self.runner.experiment.score,
            )
            spent, guided = (0.0 if timed is None else timed.seconds for timed in (accurate, guide))
            seconds = recipe.seconds((grid.rows, grid.cols), spent, guided, further)
            # SSIM is of heat maps, so of drops. In a reduced precision the image as it is was rounded too, and what
            # seems the most probable class may be another one: then it is the heat map of something else.
            same = of_these.classes == exact.classes
            near = _lowest(exact.drops, of_these.dropping(answer)) if same else 0.0
            measured.append(RecipeMeasurement(recipe, near, seconds, further))
        flops = sum(timed.flops for timed in maps.values())
        return Sample(
            exact.seconds,
            tuple(measured),
            StoredAnswer(exact.prediction, exact.classes, exact.base, exact.scores, flops),
        )

    def _runner_of(self, beside: Pass, classes: list[int]) -> ModelRunner:
        """What computes a map beside the exact one, as a query that follows a recipe does."""
        runner = replace(self.runner, operator=cast("AnyOperator", self.operators[beside]))
        if beside.precision:
            return replace(runner, precision=beside.precision)
        same_classes = replace(runner.experiment, classes=ClassChoice("list", indices=tuple(classes)))
        return replace(runner, experiment=same_classes)

    @staticmethod
    def _timed(runner: ModelRunner, picture: Picture, count: Callable[[int], None]) -> _Map:
        began = time.perf_counter()
        scores, run = _map(runner, picture, count)
        return _Map(scores, np.asarray(run.base), run.classes, run.prediction, run.flops, time.perf_counter() - began)


@dataclass(frozen=True, eq=False)
class _Map:
    """The scores of all cells, float64 [k, rows, cols], and of the image as it is, float64 [k]."""

    scores: np.ndarray
    base: np.ndarray
    classes: list[int]
    prediction: np.ndarray
    flops: float
    seconds: float

    @property
    def drops(self) -> np.ndarray:
        """How much the scores fall, float64 [k, rows, cols]."""
        return self.dropping(self.scores)

    def dropping(self, scores: np.ndarray) -> np.ndarray:
        """How much others fall from this base, float64 [k, rows, cols]."""
        drops: np.ndarray = self.base[:, None, None] - scores
        return drops


def operators_for(
    recipes: Sequence[Recipe], workload: Workload, rates: Rates, hints: Mapping[str, Any] | None = None
) -> dict[Pass, Incremental]:
    """The fastest operator for each map that recipes need beside the exact one, by USING's hints.

    None for a network that only runs as a whole.
    """
    found: dict[Pass, Incremental] = {}
    for each in maps_beside(recipes):
        precision = each.precision or workload.precision
        part, its_rates = replace(workload, precision=precision), rates.in_precision(precision)
        kind = Incremental if each.cap == UNCAPPED else partial(Thresholded, cap=each.cap)
        for operator in Incremental.settings(kind, part, its_rates, hints or {}):
            found[each] = operator
    return found


def _map(runner: ModelRunner, picture: Picture, count: Callable[[int], None]) -> tuple[np.ndarray, ImageRun]:
    """The scores of all cells, float64 [k, rows, cols], and the run that gave them."""
    with keeping_freed_memory(), asking(picture.name):
        run = runner.run(picture)
        maps = np.full((len(run.classes), runner.grid.rows, runner.grid.cols), np.nan)
        for cells in run:
            maps[:, cells.rows, cells.cols] = cells.scores.T
            count(len(cells.rows))
    return maps, run


def _lowest(exact: np.ndarray, approximate: np.ndarray) -> float:
    """The SSIM of the class that comes out worst; maps [k, rows, cols]. A map that is not finite is like no other."""
    similarities = [ssim(*pair) for pair in zip(exact, approximate, strict=True)]
    return min(each if np.isfinite(each) else 0.0 for each in similarities)
