"""Images to cells: opens one picture after another, asks the experiment about it, hands its cells on by tiles."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

import pyarrow as pa

from kryptondb.errors import ExecutionError, ImageError
from kryptondb.executor import heap
from kryptondb.executor.ahead import taking_turns
from kryptondb.executor.cells import CELLS, cell_batches
from kryptondb.executor.deadline import Deadline
from kryptondb.executor.expressions import compile_predicate
from kryptondb.executor.heatmaps import likeliest
from kryptondb.executor.pieces import ImageAnswer, ImageRun, Piece, Scores, Stage, empty_batch
from kryptondb.executor.relational import matches
from kryptondb.executor.stats import ImageFailure, MemoryMeter, Progress, Stats
from kryptondb.optimizer.physical import Images, Occlude

if TYPE_CHECKING:
    from kryptondb.catalog import Model, ModelStore
    from kryptondb.executor.experiment import Experiment
    from kryptondb.executor.operators import AnyOperator
    from kryptondb.images import Picture
    from kryptondb.images.sources import ImageSource

_IMAGE = pa.schema([pa.field("image", pa.string(), nullable=False)])


class Runner(Protocol):
    """An experiment that is set up: `kryptondb.executor.experiment.Experiment`."""

    def run(self, picture: Picture) -> ImageRun: ...


#: How an experiment is set up for a plan's node; tests give their own.
SetUp = Callable[[Occlude, "Model", "ModelStore"], Runner]


@dataclass(frozen=True)
class Seen:
    """What is remembered of a picture that was asked about."""

    source: ImageSource
    likeliest: list[tuple[int, str | None, float]]


@dataclass
class Run:
    """What one run of a plan shares: what it reads, what it is told, and what it has done."""

    models: ModelStore
    bindings: Mapping[str, object]
    on_error: str
    progress: Callable[[Progress], None] | None
    set_up: SetUp
    stats: Stats = field(default_factory=Stats)
    errors: list[ImageFailure] = field(default_factory=list)
    seen: dict[str, Seen] | None = None  # by name, when pictures are to be opened again
    stopped: bool = False
    deadline: Deadline | None = None  # of a plan that runs until a time is over


def cells(node: Occlude, run: Run) -> Stage:
    """The experiment's cells, image by image.

    A picture that cannot be read is noted in `run.errors`, unless it is the only one asked for or `on_error` is 'stop':
    then its ImageError is raised. A picture that the plan's image filter excludes is not opened. Where the plan looks
    ahead, each picture is opened and set up while the tiles of the one before it run; all else comes in its own turn.
    """
    predicate = None if node.image_filter is None else compile_predicate(node.image_filter, _IMAGE)

    def start() -> Generator[Piece, None, None]:
        single = _is_single(node.input, run.bindings)
        raises = run.on_error == "stop" or single
        meter = MemoryMeter()
        runner: Runner | None = None
        labels: tuple[str, ...] = ()
        number = 0

        def wanted(source: ImageSource) -> bool:
            return predicate is None or matches(predicate, _image_row(source.name))

        def prepare(source: ImageSource) -> ImageAnswer:
            nonlocal runner, labels
            picture = load_picture(source)
            if runner is None:
                model = _model(node, run.models)
                runner, labels = run.set_up(node, model, run.models), tuple(model.labels)
                heap.trim()  # what was freed until here is not the query's
                meter.begin()
            with asking(source.name):
                return ImageAnswer(source.name, runner.run(picture), labels)

        sources, total = _sources(node.input, run.bindings), 0
        if run.deadline is not None:  # which all pictures share: their number has to be known
            found = [source for source in sources if wanted(source)]
            sources, total = iter(found), len(found)
        with taking_turns(sources, wanted, prepare, ahead=node.ahead and not single) as turns:
            while (turn := turns.next()) is not None:
                number += 1
                source = turn.item
                try:
                    answer = turn.ready()
                except ImageError as error:
                    run.stats.failed += 1
                    run.errors.append(ImageFailure(source.name, error.message))
                    if raises:
                        raise
                    continue
                del turn
                run.stats.images += 1
                if run.seen is not None:
                    run.seen[source.name] = Seen(source, likeliest(answer.run.prediction, labels))
                with _share(answer, run, total - number + 1):
                    yield from _pieces(node, answer, number, meter, run, turns.look_ahead)
                del answer  # its base goes before another comes

    def keeping() -> Generator[Piece, None, None]:
        with heap.kept():
            yield from start()

    return Stage(CELLS, keeping)


def _pieces(
    node: Occlude, image: ImageAnswer, number: int, meter: MemoryMeter, run: Run, begun: Callable[[], None]
) -> Generator[Piece, None, None]:
    """The cells of one image by tiles, and an empty last piece. Keeps the run's stats and tells its progress.

    Calls `begun` once the image's run has looked at the memory and nothing keeps others from using some.
    """
    counted, done = 0.0, 0
    tiles: Iterator[Scores] = iter(image.run)
    try:
        begun()
        while True:
            with asking(image.name):
                tile = next(tiles, None)
            if tile is None:
                break
            if run.stopped:
                raise ExecutionError("the query was closed while it ran")
            done += len(tile.rows)
            run.stats.positions += len(tile.rows)
            counted = _count(image.run, counted, meter, run)
            if run.progress is not None:
                run.progress(Progress(image.name, done, node.positions, number, node.input.count))
            for batch in cell_batches(image, tile, node.patch, node.stride):
                yield Piece(batch, image)
        _count(image.run, counted, meter, run)
    finally:
        close = getattr(tiles, "close", None)
        if close is not None:
            close()
    yield Piece(empty_batch(CELLS), image, last=True)


@contextmanager
def _share(image: ImageAnswer, run: Run, images: int) -> Iterator[None]:
    """Gives one of so many images that are left its share of the time, where there is a limit."""
    if run.deadline is None:
        yield
        return
    with run.deadline.share(images) as time_left:
        image.run.allot(time_left)
        yield


@contextmanager
def asking(image: str) -> Iterator[None]:
    """Turns what the network's own code raises (no memory left, most of all) into an error that names the picture."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExecutionError(f"{image}: the network failed: {first[:300]}") from error


def _count(image: ImageRun, counted: float, meter: MemoryMeter, run: Run) -> float:
    """Adds the operations done since `counted` of the image's were, and looks at the memory."""
    run.stats.flops += image.flops - counted
    run.stats.peak_memory, run.stats.query_memory = meter.sample(), meter.query_peak
    return image.flops


def _sources(images: Images, bindings: Mapping[str, object]) -> Iterator[ImageSource]:
    from kryptondb.images.sources import find_images

    return iter(find_images(_spec(images, bindings), images.window))


def _is_single(images: Images, bindings: Mapping[str, object]) -> bool:
    from kryptondb.images.sources import is_single

    return bool(is_single(_spec(images, bindings)))


def _spec(images: Images, bindings: Mapping[str, object]) -> object:
    """What to look for: the plan's paths, or the object that is bound."""
    if images.spec is not None:
        return list(images.spec) if isinstance(images.spec, tuple) else images.spec
    if images.binding is None or images.binding not in bindings:
        raise ExecutionError(f"the plan's images are {images.details()}, which has no value here")
    return bindings[images.binding]


def load_picture(source: ImageSource) -> Picture:
    """Opens a picture. Raises ImageError where it cannot be read."""
    try:
        return source.load()
    except OSError as error:
        raise ImageError(f"cannot read {source.name}: {error.strerror or error}") from error


def _model(node: Occlude, models: ModelStore) -> Model:
    """The plan's model, as long as it is still the one that was planned for."""
    model = models.get(node.model)
    if model.fingerprint != node.fingerprint:
        raise ExecutionError(
            f'the model "{node.model}" is no longer the one that the query was planned for',
            hint="Run the statement again.",
        )
    return model


def _image_row(name: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([name], pa.string())], schema=_IMAGE)


def set_up_experiment(node: Occlude, model: Model, models: ModelStore) -> Experiment:
    """The experiment that a plan's node describes."""
    from kryptondb.executor.experiment import Experiment
    from kryptondb.images.fills import parse_fill

    experiment = Experiment(
        model=model,
        network=models.network(node.model),
        grid=node.grid,
        runs=node.runs,
        fill=parse_fill(node.fill),
        classes=node.classes,
        score=node.score,
        operator=cast("AnyOperator", node.operator),
        device=node.device,
        precision=node.precision,
        beside=node.cost.ahead if node.ahead and node.cost is not None else 0,
    )
    _ = experiment.placed  # now: what an experiment takes is counted beyond its weights
    return experiment
