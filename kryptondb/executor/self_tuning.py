"""A batch that tunes itself: some of its images are measured, and what these admit runs for the others.

The images are chosen by hashing file names; see `optimizer.self_tuning` for what that is worth. Each is remembered in
the profile as soon as it is measured, and its exact map waits in memory for its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kryptondb.errors import ImageError
from kryptondb.executor.metadata import TuningOutcome
from kryptondb.executor.operators import OPERATORS
from kryptondb.executor.profiling import Profiler, Sample
from kryptondb.executor.resources import Progress
from kryptondb.executor.run_state import RunState
from kryptondb.executor.runner import ModelRunner
from kryptondb.executor.stages import ImageRun
from kryptondb.images.sources import sampling_order
from kryptondb.optimizer.physical import Occlude
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.self_tuning import SelfTuning
from kryptondb.optimizer.strategies.self_tuning import alternative
from kryptondb.process.memory import MemoryMeter

if TYPE_CHECKING:
    from kryptondb.images.sources import ImageSource


@dataclass
class BatchSample:
    """The images that were measured.

    Attributes:
        answers: name and exact answer of each, by the `id` of its source.
        failed: those that could not be read, by the same.
        samples: what was measured, image by image.
    """

    answers: dict[int, tuple[str, ImageRun]] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    samples: list[Sample] = field(default_factory=list)


def measured_sample(
    batch: Sequence[ImageSource],
    count: int,
    tuning: SelfTuning,
    node: Occlude,
    runner: ModelRunner,
    run: RunState,
    meter: MemoryMeter,
) -> BatchSample:
    """Measures `count` images of the batch; one that cannot be read is skipped, and another takes its place.

    Raises:
        ImageError: an image cannot be read, and the run stops at it.
        ExecutionError: the network failed, or the run was closed.
    """
    measured = BatchSample()
    recipes: Sequence[Recipe] = tuning.recipes
    profiler = Profiler(runner, tuning.operators)
    for source in sampling_order(batch):
        if len(measured.samples) == count:
            break

        def progress(done: int, total: int, name: str = source.name) -> None:
            run.go_on()
            run.stats.peak_memory, run.stats.query_memory = meter.sample(), meter.query_peak
            run.tell(Progress(name, done, total, len(measured.samples) + 1, count))

        try:
            picture = run.load(source)
            sample = profiler.measure(picture, recipes, progress)
        except ImageError as error:
            measured.failed.add(id(source))
            run.leave_out(source.name, error)
            continue
        if run.measured is not None:
            run.measured(node, picture, sample)
        measured.answers[id(source)] = source.name, sample.exact
        measured.samples.append(sample)
        if len(measured.samples) == 1:
            recipes = tuning.worth_measuring(sample.by_recipe, sample.seconds)
        else:
            recipes = [recipe for recipe in recipes if recipe in sample.by_recipe]
    return measured


def node_for_others(
    measured: BatchSample, batch: Sequence[ImageSource], node: Occlude, runner: ModelRunner, run: RunState
) -> Occlude:
    """What runs the other images of the batch; why is in the run's outcome."""
    samples = measured.samples
    exact_seconds = [sample.seconds for sample in samples]
    found = alternative(node, runner.network, OPERATORS, [sample.by_recipe for sample in samples], exact_seconds)
    run.outcome = TuningOutcome(_names_measured(measured, batch), found.recipe, found.note)
    return found.node


def _names_measured(measured: BatchSample, batch: Sequence[ImageSource]) -> tuple[str, ...]:
    """The names that only measured images have: a batch may hold one file several times."""
    others = {source.name for source in batch if id(source) not in measured.answers}
    return tuple(name for name, _ in measured.answers.values() if name not in others)
