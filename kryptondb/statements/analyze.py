"""ANALYZE: measures on sample images how close each recipe comes to the exact map, and remembers it image by image.

The images are ordered by a hash of their names, so that a budget that ends early still leaves a random sample of them.
Each image is remembered as soon as it is measured: what was measured before an interruption stays, and running the
statement again resumes with the images that are missing.

With a budget, only maps that can change a plan are computed: after the first image of a profile, a map is dropped when
no recipe made of it can meet any usual target. The first image certifies no promise (see `optimizer.promise`), so that
dropping recipes because of it weakens no promise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kryptondb.catalog import ProfileKey, SampleRecord
from kryptondb.catalog.profiles import MOST_SAMPLES
from kryptondb.errors import ImageError, PlanError, Position, at
from kryptondb.executor import ImageFailure, Progress
from kryptondb.executor.occlusion import named_images, set_up
from kryptondb.executor.pictures import load_picture
from kryptondb.executor.profiling import Profiler, operators_for
from kryptondb.executor.resources import Deadline
from kryptondb.grammar.statements import Analyze, Column, HeatMap, Select, SelectItem, TableFunction
from kryptondb.images.picture import Picture, content_hash
from kryptondb.images.sources import ImageSource, find_images, sampling_order
from kryptondb.optimizer.physical import Occlude
from kryptondb.optimizer.promise import lower_bound
from kryptondb.optimizer.recipe import EXACT, Pass, Recipe, maps_beside, recipes_on, worthwhile
from kryptondb.optimizer.workload import Workload
from kryptondb.options.reader import bind
from kryptondb.options.tables import ANALYZE, OCCLUDE
from kryptondb.result import Result
from kryptondb.show.progress import progress_line
from kryptondb.show.values import table_of
from kryptondb.statements.profiles import key_of, measured_of, profile_of, sample_of
from kryptondb.text.units import counted, seconds_text

if TYPE_CHECKING:
    from kryptondb.statements.database import Database


def analyze(database: Database, statement: Analyze, bindings: Mapping[str, object]) -> Result:
    """Runs the statement; answers one row per recipe.

    Raises:
        BindError: an unknown option, or a value that it does not take, in its place.
        PlanError: a network that no approximate operator can run, or a budget too short for a single image.
    """
    database.catalog.check_writable()
    given = bind(ANALYZE, statement.options, bindings, defaults=True)
    with at(statement.position):
        occlude = database.plan(_query(statement), bindings).occlude
    assert occlude is not None
    seconds = given.get("budget")
    deadline = Deadline(math.inf if seconds is None else seconds, time.monotonic)
    with deadline.running(), database.threads():
        asked = occlude.experiment
        recipes = recipes_on(database.calibration.rates(occlude.device), asked.precision)
        profiler, estimates = _profiler(database, occlude, statement, recipes)
        images = asked.images
        sources = sampling_order(find_images(named_images(images, bindings), images.window, images.axes))
        analysis = _Analysis(database, key_of(asked, occlude.device), profiler, deadline, estimates)
        try:
            analysis.run(sources, recipes, given.name_position("budget"))
        finally:
            analysis.close()
        return analysis.result(given["confidence"])


class _Analysis:
    """The images of one ANALYZE statement, measured one after the other."""

    def __init__(
        self,
        database: Database,
        key: ProfileKey,
        profiler: Profiler,
        deadline: Deadline,
        estimates: Mapping[Pass, float],
    ) -> None:
        self._database, self._key, self._profiler, self._deadline = database, key, profiler, deadline
        self._estimates = estimates
        self._slowdown = 1.0  # seconds of the last image over its estimate
        self._line = progress_line(database.settings.get("progress"))
        self._failures: list[ImageFailure] = []
        self._new = self._known = self._left = 0
        self._ended = ""

    def run(self, sources: Sequence[ImageSource], recipes: Sequence[Recipe], position: Position | None) -> None:
        """Measures the images that the profile lacks, until the budget is reached.

        Args:
            position: where the budget stands in the text.

        Raises:
            PlanError: the budget is too short for a single image.
        """
        known = {sample.image: sample for sample in self._database.profiles.samples(self._key)}
        stops = len(sources) == 1 or self._database.settings.get("on_error") == "stop"
        for number, source in enumerate(sources, start=1):
            wanted = list(recipes)
            if self._deadline.seconds < math.inf and known:
                first = next(iter(known.values()))
                wanted = worthwhile(measured_of(first), first.seconds, recipes)
            try:
                picture = load_picture(source)
                image = content_hash(picture)
                if image in known and set(wanted) <= set(measured_of(known[image])):
                    self._known += 1
                    continue
                expected = self._slowdown * self._estimate(wanted)
                if image not in known and len(known) >= MOST_SAMPLES:
                    self._ended = f"{{:,}} skipped: a profile of {MOST_SAMPLES:,} images is large enough"
                elif self._deadline.spent + expected > self._deadline.seconds:
                    if not self._new:
                        given = seconds_text(self._deadline.seconds)
                        raise PlanError(
                            f"a budget of {given} is too short for a single image",
                            position=position,
                            hint=f"One is estimated to take {seconds_text(expected)}.",
                        )
                    self._ended = "budget reached with {:,} left; run again to continue"
                if self._ended:
                    self._left = len(sources) - number + 1
                    return
                known[image] = self._measure(picture, image, wanted, number, len(sources))
            except ImageError as error:
                if stops:
                    raise
                self._failures.append(ImageFailure(source.name, error.message))

    def close(self) -> None:
        """Takes the progress line away."""
        if self._line is not None:
            self._line.close()

    def result(self, confidence: float) -> Result:
        """One row per recipe, and a sentence about what was measured."""
        samples = self._database.profiles.samples(self._key)
        return Result(table=table_of_recipes(samples, confidence), errors=tuple(self._failures), note=self._note())

    def _measure(
        self, picture: Picture, image: str, recipes: Sequence[Recipe], number: int, images: int
    ) -> SampleRecord:
        def progress(done: int, total: int) -> None:
            if self._line is not None:
                self._line(Progress(picture.name, done, total, number, images))

        before = self._deadline.spent
        found = self._profiler.measure(picture, recipes, progress)
        sample = sample_of(image, picture.name, found)
        self._database.profiles.put(self._key, sample)
        self._slowdown = (self._deadline.spent - before) / self._estimate(recipes)
        self._new += 1
        return sample

    def _estimate(self, recipes: Sequence[Recipe]) -> float:
        """Seconds of all maps that recipes need for an image, including the exact map."""
        return sum(self._estimates[needed] for needed in (EXACT, *maps_beside(recipes)))

    def _note(self) -> str:
        parts = [f"{self._key.model}: {counted(self._new, 'image')} analyzed in {seconds_text(self._deadline.spent)}"]
        if self._known:
            parts.append(f"{self._known:,} already known")
        if self._left:
            parts.append(self._ended.format(self._left))
        return ", ".join(parts)


def table_of_recipes(samples: Sequence[SampleRecord], confidence: float) -> pa.Table:
    """One row per recipe, the slowest first, below a row for the exact map."""
    names = ("recipe", "images", "median_ssim", "worst_ssim", f"bound_{confidence:g}", "seconds", "times_exact")
    profile = profile_of(samples)
    rows: list[tuple[Any, ...]] = []
    if profile is not None:
        exact = float(np.median(profile.exact_seconds))
        for column, recipe in enumerate(profile.recipes):
            ssims, seconds = profile.samples[:, column], float(np.median(profile.seconds[:, column]))
            bound = lower_bound(ssims, confidence)
            spread = float(np.median(ssims)), float(ssims.min()), bound
            rows.append((str(recipe), profile.images, *spread, seconds, exact / seconds))
        rows.sort(key=lambda row: -row[-2])
        rows.insert(0, ("exact", profile.images, 1.0, 1.0, 1.0, exact, 1.0))
    kinds = {"recipe": pa.string(), "images": pa.int64()}
    return table_of(names, rows, {name: kinds.get(name, pa.float64()) for name in names})


def _query(statement: Analyze) -> Select:
    """The query that a profile is measured for."""
    model = Column(statement.model, position=statement.position)
    options = tuple(option for option in statement.options if option.name in OCCLUDE)
    source = TableFunction("occlude", (model, statement.images), options, position=statement.position)
    return Select((SelectItem(HeatMap()),), source)


def _profiler(
    database: Database, occlude: Occlude, statement: Analyze, recipes: Sequence[Recipe]
) -> tuple[Profiler, dict[Pass, float]]:
    """The profiler of an experiment, and the estimated seconds of each map that it computes for an image."""
    asked, rates = occlude.experiment, database.calibration.rates(occlude.device)
    model = database.models.get(asked.model)
    network = database.models.network(model)
    if network.unsteady is not None:
        raise PlanError(
            f"{asked.model} has no exact map to compare with: {network.unsteady}", position=statement.position
        )
    limits = occlude.device, occlude.memory_limit, asked.precision
    workload = Workload(network, asked.grid, None, asked.scored, *limits)
    operators = operators_for(recipes, workload, rates)
    if not operators:
        reason = f"it could not be traced ({network.failure})" if network.failure else "it only runs as a whole"
        raise PlanError(
            f"no approximate operator can run {asked.model}: {reason}",
            position=statement.position,
            hint="All its queries run exactly and need no profile.",
        )
    estimates = {EXACT: occlude.operator.estimate(workload, rates.in_precision(asked.precision)).seconds}
    for needed, operator in operators.items():
        precision = needed.precision or asked.precision
        part = replace(workload, precision=precision)
        estimates[needed] = operator.estimate(part, rates.in_precision(precision)).seconds
    return Profiler(set_up(occlude, model, database.models), operators), estimates
