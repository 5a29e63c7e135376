"""Images to cells: opens one picture after another, asks the experiment about it, hands its cells on by tiles."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from kryptondb.errors import ExecutionError, ImageError
from kryptondb.executor.cells import CELLS, InOrder, cell_batches
from kryptondb.executor.expressions import compile_predicate
from kryptondb.executor.heatmaps import likeliest
from kryptondb.executor.metadata import TuningOutcome
from kryptondb.executor.pictures import asking, taking_turns
from kryptondb.executor.resources import Progress
from kryptondb.executor.run_state import AnsweredImage, Runner, RunState
from kryptondb.executor.stages import ImageAnswer, ImageRun, Piece, Stage, empty_batch, matching
from kryptondb.optimizer.experiment import Experiment, Images
from kryptondb.optimizer.physical import Occlude
from kryptondb.process.memory import MemoryMeter, keeping_freed_memory, release_free_memory

if TYPE_CHECKING:
    from kryptondb.catalog import Model, ModelStore
    from kryptondb.executor.operators import AnyOperator, Scores
    from kryptondb.executor.runner import ModelRunner
    from kryptondb.images.sources import ImageCount, ImageSource
    from kryptondb.optimizer.self_tuning import SelfTuning

_IMAGE = pa.schema([pa.field("image", pa.string(), nullable=False)])


def cells(node: Occlude, run: RunState, in_order: bool = True) -> Stage:
    """The experiment's cells, image by image; `in_order` by class, row and column, else as they are computed.

    A picture that cannot be read is noted in `run.errors`, unless it is the only one asked for or `on_error` is 'stop':
    then its ImageError is raised. A picture that the plan's image filter excludes is not opened. Where the plan looks
    ahead, each picture is opened and set up while the tiles of the one before it run; all else comes in its own turn.
    """
    asked = node.experiment
    predicate = None if asked.image_filter is None else compile_predicate(asked.image_filter, _IMAGE)

    def start() -> Generator[Piece, None, None]:
        single = _is_single(asked.images, run.bindings)
        answers = _Answers(node, run)
        sources: Iterator[ImageSource] = _sources(asked.images, run.bindings)
        total = 0

        def wanted(source: ImageSource) -> bool:
            kept = predicate is None or matching(predicate, _image_row(source.name)) > 0
            return kept and (run.skip is None or not run.skip(source))

        if run.deadline is not None:  # which all pictures share: their number has to be known
            found = [source for source in sources if wanted(source)]
            sources, total = iter(found), len(found)
        elif node.tuning is not None:
            sources = iter(answers.tune(node.tuning, [source for source in sources if wanted(source)]))
        with taking_turns(
            sources, wanted, answers.about, ahead=answers.node.ahead and not single and run.looks_ahead
        ) as turns:
            while (turn := turns.next()) is not None:
                source = turn.item
                answers.number += 1
                try:
                    answer = turn.ready()
                except ImageError as error:
                    run.leave_out(source.name, error, single=single)
                    continue
                del turn
                run.stats.images += 1
                _note_unsteady(node, answer, run)
                if run.answered is not None:
                    run.answered[source.name] = AnsweredImage(source, likeliest(answer.run.prediction, answer.labels))
                with _share(answer, run, total - answers.number + 1):
                    yield from _pieces(node, answer, answers, turns.look_ahead, in_order)
                del answer  # its base goes before another comes
                if run.finished is not None:
                    run.finished(source)

    def keeping() -> Generator[Piece, None, None]:
        with keeping_freed_memory():
            yield from start()

    return Stage(CELLS, keeping)


class _Answers:
    """Asks about one picture after the other; the experiment is set up when the first of them is there.

    Attributes:
        node: the experiment; another one's once a batch has tuned itself.
        number: of the picture in turn, from 1.
        meter: of memory, from the first picture on.
    """

    def __init__(self, node: Occlude, run: RunState) -> None:
        self.node, self.run = node, run
        self.number = 0
        self.meter = MemoryMeter()
        self._runner: Runner | None = None
        self._labels: tuple[str, ...] = ()
        self._early: dict[int, ImageAnswer] = {}  # by source, of those that were answered before their turn

    def about(self, source: ImageSource) -> ImageAnswer:
        """The answer about a picture. Raises ImageError where it cannot be read."""
        early = self._early.pop(id(source), None)
        if early is not None:
            return early
        picture = self.run.load(source)
        runner = self._set_up()
        with asking(source.name):
            return ImageAnswer(source.name, runner.run(picture), self._labels)

    def tune(self, tuning: SelfTuning, batch: list[ImageSource]) -> list[ImageSource]:
        """Measures some pictures of a batch, and takes what they admit for the others; those that can be read."""
        from kryptondb.executor.self_tuning import measured_sample, node_for_others

        count = tuning.sample_size(len(batch))
        if not count:  # the plan could not know: how many images there are is only known here
            self.run.outcome = TuningOutcome((), None, tuning.against(len(batch)))
            return batch
        runner = cast("ModelRunner", self._set_up())
        sample = measured_sample(batch, count, tuning, self.node, runner, self.run, self.meter)
        self._early = {source: ImageAnswer(*answer, self._labels) for source, answer in sample.answers.items()}
        node = node_for_others(sample, batch, self.node, runner, self.run)
        if node is not self.node:
            self.node, self._runner = node, None
        return [source for source in batch if id(source) not in sample.failed]

    def _set_up(self) -> Runner:
        if self._runner is None:
            model = _model(self.node.experiment, self.run.models)
            self._runner, self._labels = self.run.set_up(self.node, model, self.run.models), tuple(model.labels)
            release_free_memory()  # what was freed until here is not the query's
            if not self.meter.begun:
                self.meter.begin()
        return self._runner


def _pieces(
    node: Occlude, image: ImageAnswer, answers: _Answers, begun: Callable[[], None], in_order: bool
) -> Generator[Piece, None, None]:
    """The cells of one image, and an empty last piece. Keeps the run's stats and tells its progress.

    Calls `begun` once the image's run has looked at the memory and nothing keeps others from using some.
    """
    run, meter, asked = answers.run, answers.meter, node.experiment
    grid = asked.grid
    counted, done = 0.0, 0
    ordered = InOrder(image, grid, asked.runs, memory=run.rows) if in_order else None
    tiles: Iterator[Scores] = iter(image.run)
    try:
        begun()
        while True:
            with asking(image.name):
                tile = next(tiles, None)
            if tile is None:
                break
            run.go_on()
            _note_unsteady(node, image, run)
            run.rows.hold("the scores of some positions", 2 * tile.scores.nbytes)  # once more while they are made
            done += len(tile.rows)
            if tile.computed:
                run.stats.positions += len(tile.rows)
            counted = _count(image.run, counted, meter, run)
            run.tell(Progress(image.name, done, asked.positions, answers.number, asked.images.count))
            for batch in ordered.add(tile) if ordered is not None else cell_batches(image, tile, grid):
                yield Piece(batch, image)
        _count(image.run, counted, meter, run)
    finally:
        run.rows.hold("the scores of some positions", 0)
        close = getattr(tiles, "close", None)
        if close is not None:
            close()
        for phase, seconds in image.run.spent.items():
            run.stats.phases[phase] = run.stats.phases.get(phase, 0.0) + seconds
    for batch in ordered.rest() if ordered is not None else ():
        yield Piece(batch, image)
    yield Piece(empty_batch(CELLS), image, last=True)


def _note_unsteady(node: Occlude, image: ImageAnswer, run: RunState) -> None:
    if image.run.unsteady is not None and node.unsteady is None:  # else the plan has said so
        run.found_unsteady(node.experiment.model, image.run.unsteady)


@contextmanager
def _share(image: ImageAnswer, run: RunState, images: int) -> Iterator[None]:
    """Gives one of so many images that are left its share of the time, where there is a limit."""
    if run.deadline is None:
        yield
        return
    with run.deadline.share(images) as time_left:
        image.run.allot(time_left)
        yield


def _count(image: ImageRun, counted: float, meter: MemoryMeter, run: RunState) -> float:
    """Adds the operations done since `counted` of the image's were, and looks at the memory."""
    run.stats.flops += image.flops - counted
    run.stats.peak_memory, run.stats.query_memory = meter.sample(), meter.query_peak
    return image.flops


def _sources(images: Images, bindings: Mapping[str, object]) -> Iterator[ImageSource]:
    from kryptondb.images.sources import find_images

    return iter(find_images(named_images(images, bindings), images.window, images.axes))


def count_named(asked: Experiment) -> ImageCount | None:
    """How many pictures a plan's paths name, as far as that is found out at once; None where it is not."""
    from kryptondb.images.sources import count_images

    if asked.images.spec is None:
        return None
    if asked.image_filter is None:
        return count_images(asked.images.spec)
    predicate = compile_predicate(asked.image_filter, _IMAGE)

    def kept(names: Sequence[str]) -> int:
        return matching(predicate, pa.RecordBatch.from_arrays([pa.array(names, pa.string())], schema=_IMAGE))

    return count_images(asked.images.spec, kept)


def _is_single(images: Images, bindings: Mapping[str, object]) -> bool:
    from kryptondb.images.sources import is_single

    return bool(is_single(named_images(images, bindings)))


def named_images(images: Images, bindings: Mapping[str, object]) -> object:
    """What to look for: the plan's paths, or the object that is bound."""
    if images.spec is not None:
        return images.spec
    if images.binding is None or images.binding not in bindings:
        raise ExecutionError(f"the plan's images are {images.details()}, which has no value here")
    return bindings[images.binding]


def _model(asked: Experiment, models: ModelStore) -> Model:
    """The plan's model, as long as it is still the one that was planned for."""
    model = models.get(asked.model)
    if model.fingerprint != asked.fingerprint:
        raise ExecutionError(
            f'the model "{asked.model}" is no longer the one that the query was planned for',
            hint="Run the statement again.",
        )
    return model


def _image_row(name: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([name], pa.string())], schema=_IMAGE)


def set_up(node: Occlude, model: Model, models: ModelStore) -> ModelRunner:
    """What runs a plan's experiment."""
    from kryptondb.executor.runner import ModelRunner

    runner = ModelRunner(
        experiment=node.experiment,
        model=model,
        network=models.network(model),
        operator=cast("AnyOperator", node.operator),
        device=node.device,
        precision=node.precision,
        beside=node.cost.ahead if node.ahead and node.cost is not None else 0,
        memory=node.cost.memory if node.cost is not None else 0,
    )
    _ = runner.placed, runner.rounded  # now: what an experiment takes is counted beyond its weights
    return runner
