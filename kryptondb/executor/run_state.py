"""What one run of a plan shares: what it reads, what it is told, and what it has done so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from kryptondb.errors import ExecutionError, ImageError, NondeterministicModel, warn
from kryptondb.executor.metadata import TuningOutcome
from kryptondb.executor.pictures import Looks, load_picture
from kryptondb.executor.resources import Deadline, ImageFailure, Progress, RowMemory, Stats
from kryptondb.executor.stages import ImageRun
from kryptondb.optimizer.physical import Occlude

if TYPE_CHECKING:
    from kryptondb.catalog import Model, ModelStore
    from kryptondb.executor.profiling import Sample
    from kryptondb.images import Picture
    from kryptondb.images.sources import ImageSource


class Runner(Protocol):
    """What runs an experiment on one picture after another: `kryptondb.executor.runner.ModelRunner`."""

    def run(self, picture: Picture) -> ImageRun:
        """The experiment on one picture."""


#: How a plan's node is made ready to run.
SetUp = Callable[[Occlude, "Model", "ModelStore"], Runner]


#: Takes what was measured of a picture, in a batch that tunes itself, for later queries of the experiment.
Measurements = Callable[[Occlude, "Picture", "Sample"], None]


@dataclass(frozen=True)
class AnsweredImage:
    """What is remembered of a picture that was asked about."""

    source: ImageSource
    likeliest: list[tuple[int, str | None, float]]


@dataclass
class RunState:
    """One run of a plan.

    Attributes:
        answered: pictures by name, when they are to be opened again.
        looks: what they were then.
        deadline: of a plan that runs until a time is over.
        measured: takes what was measured of each picture of a batch that tunes itself.
        outcome: what came of tuning, once that is over.
        rows: what memory there is for rows.
        skip: says which images are not asked about.
        finished: told of each image when its rows have all been taken.
        unsteady: why answers are approximate where the plan did not know: its model answered one picture in two ways.
        looks_ahead: whether the next picture may be prepared while the caller reads rows of the one before.
    """

    models: ModelStore
    bindings: Mapping[str, object]
    on_error: str
    progress: Callable[[Progress], None] | None
    set_up: SetUp
    stats: Stats = field(default_factory=Stats)
    errors: list[ImageFailure] = field(default_factory=list)
    answered: dict[str, AnsweredImage] | None = None
    looks: Looks | None = None
    stopped: bool = False
    deadline: Deadline | None = None
    measured: Measurements | None = None
    outcome: TuningOutcome | None = None
    rows: RowMemory = field(default_factory=RowMemory)
    skip: Callable[[ImageSource], bool] | None = None
    finished: Callable[[ImageSource], None] | None = None
    unsteady: str | None = None
    looks_ahead: bool = True

    def load(self, source: ImageSource) -> Picture:
        """Opens a picture, and remembers what it was where it is drawn later. Raises ImageError."""
        return load_picture(source) if self.looks is None else self.looks.load(source)

    def leave_out(self, name: str, error: ImageError, *, single: bool = False) -> None:
        """Notes a picture that cannot be read; raises its error where it is the only one, or where the run stops."""
        self.stats.failed += 1
        self.errors.append(ImageFailure(name, error.message, self.stats.images))
        if single or self.on_error == "stop":
            raise error

    def skip_later(self, name: str, error: ImageError, *, explained: bool = True) -> None:
        """Notes a picture that COPY cannot write although it was found; raises its error where the run stops at one.

        A picture is noted once, however many of its classes are drawn.

        Args:
            explained: whether it was explained.
        """
        if self.on_error == "stop":
            raise error
        if all(failure.image != name for failure in self.errors):
            self.errors.append(ImageFailure(name, error.message))
            self.stats.images -= explained
            self.stats.failed += 1

    def found_unsteady(self, model: str, why: str) -> None:
        """Notes that the model answered one picture in two ways; warns of it once."""
        if self.unsteady is None:
            self.unsteady = why
            warn(NondeterministicModel(model, why))

    def go_on(self) -> None:
        """Raises ExecutionError where the run was closed meanwhile."""
        if self.stopped:
            raise ExecutionError("the query was closed while it ran")

    def tell(self, progress: Progress) -> None:
        """Hands progress on."""
        if self.progress is not None:
            self.progress(progress)
