"""A batch that tunes itself: some of its images are measured, and what these admit runs for the others.

The images are drawn in an order that depends on their names alone; see `optimizer.tuning` for what that is worth. Each
is remembered in the profile as soon as it is measured, and its exact map waits in memory for its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kryptondb.errors import ImageError
from kryptondb.executor.experiment import Experiment
from kryptondb.executor.operators import OPERATORS
from kryptondb.executor.outcome import Outcome
from kryptondb.executor.profiling import Profiler, Sample, operators_for
from kryptondb.executor.resources import Progress
from kryptondb.executor.run_state import Run
from kryptondb.executor.stages import ImageRun
from kryptondb.images.sources import sampling_order
from kryptondb.optimizer.approximations import Approximations, Asked, approximations, fastest_kept
from kryptondb.optimizer.physical import Occlude
from kryptondb.optimizer.promise import Profile
from kryptondb.optimizer.recipe import Recipe, recipes_on, worthwhile
from kryptondb.optimizer.run_by import run_by
from kryptondb.optimizer.tuning import Tuning
from kryptondb.optimizer.workload import Workload
from kryptondb.process.memory import MemoryMeter

if TYPE_CHECKING:
    from kryptondb.images.sources import ImageSource


@dataclass
class Drawn:
    """The images that were measured.

    Attributes:
        answers: name and exact answer of each, by the `id` of its source.
        failed: those that could not be read, by the same.
        samples: what was measured, in the order of drawing.
        recipes: those that were measured on every image.
    """

    answers: dict[int, tuple[str, ImageRun]] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    samples: list[Sample] = field(default_factory=list)
    recipes: Sequence[Recipe] = ()

    def profile(self) -> Profile:
        """What was measured as the planner reads it."""
        measured = [{each.recipe: each for each in sample.recipes} for sample in self.samples]
        return Profile.of(self.recipes, measured, [sample.seconds for sample in self.samples])


def draw(
    drawn: Drawn,
    batch: Sequence[ImageSource],
    count: int,
    tuning: Tuning,
    node: Occlude,
    experiment: Experiment,
    run: Run,
    meter: MemoryMeter,
) -> None:
    """Measures so many images of the batch; one that cannot be read is left out, and another is drawn for it.

    Which recipes are worth measuring is judged by the first image of the profile that all of them become part of: a
    later one may certify there, and must not decide what is tried.

    Raises:
        ImageError: an image cannot be read, and the run stops at it.
        ExecutionError: the network failed, or the run was closed.
    """
    laboratory = run.laboratory
    assert laboratory is not None  # who gives none gets exact answers, and no image is drawn
    workload, rates = _workload(node, experiment), laboratory.rates(node.device)
    drawn.recipes = recipes_on(rates, node.precision)
    known = laboratory.known(node)
    if known is not None:
        drawn.recipes = worthwhile(*known, drawn.recipes)
    profiler = Profiler(experiment, operators_for(drawn.recipes, workload, rates, dict(tuning.hints)))
    for source in sampling_order(batch):
        if len(drawn.samples) == count:
            return

        def progress(done: int, total: int, name: str = source.name) -> None:
            run.go_on()
            run.stats.peak_memory, run.stats.query_memory = meter.sample(), meter.query_peak
            run.tell(Progress(name, done, total, len(drawn.samples) + 1, count))

        try:
            picture = run.load(source)
            sample = profiler.measure(picture, drawn.recipes, progress)
        except ImageError as error:
            drawn.failed.add(id(source))
            run.leave_out(source.name, error)
            continue
        laboratory.remember(node, picture, sample)
        drawn.answers[id(source)] = source.name, sample.exact
        drawn.samples.append(sample)
        measured = {each.recipe: each for each in sample.recipes}
        drawn.recipes = [recipe for recipe in drawn.recipes if recipe in measured]
        if known is None and len(drawn.samples) == 1:
            drawn.recipes = worthwhile(measured, sample.seconds, drawn.recipes)


def settle(
    drawn: Drawn, batch: Sequence[ImageSource], tuning: Tuning, node: Occlude, experiment: Experiment, run: Run
) -> Occlude:
    """The experiment of the other images of the batch; what was decided stands in the run's outcome."""
    laboratory = run.laboratory
    assert laboratory is not None
    found = Approximations(why_none="no image could be measured")
    if drawn.samples:
        asked = Asked(tuning.ssim, tuning.confidence, drawn.profile())
        workload, rates = _workload(node, experiment), laboratory.rates(node.device)
        found = approximations(asked, workload, rates, OPERATORS, dict(tuning.hints))
    best = fastest_kept(found, tuning.exact_seconds, node.memory_limit)
    names = _all_drawn(drawn, batch)
    if best is None:
        run.outcome = Outcome(
            names, None, found.why_none or "no recipe that keeps the promise is estimated to be faster"
        )
        return node
    run.outcome = Outcome(names, str(best.recipe), best.about)
    return replace(run_by(node, best.candidate), tuning=None)


def _all_drawn(drawn: Drawn, batch: Sequence[ImageSource]) -> tuple[str, ...]:
    """The names that nothing but images which were measured has: a batch may hold one file several times."""
    others = {source.name for source in batch if id(source) not in drawn.answers}
    return tuple(name for name, _ in drawn.answers.values() if name not in others)


def _workload(node: Occlude, experiment: Experiment) -> Workload:
    classes = node.classes.count(experiment.network.classes)
    return Workload(experiment.network, node.grid, node.runs, classes, node.device, node.memory_limit, node.precision)
