"""A query that has to be done in time gives every image its share, and leaves the others as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kryptondb.executor.resources import Deadline
from kryptondb.optimizer.physical import Occlude
from tests.executor.test_deadline import Clock
from tests.fakes import FakeExperiment, FakeRun, expression, occlude, pictures, start


class Slow(FakeExperiment):
    """A second to open a picture, and all the time that an image is given for its cells."""

    def __init__(self, clock: Clock, refuses: tuple[str, ...] = ()) -> None:
        super().__init__(refuses=refuses)
        self.clock = clock
        self.allotted: list[tuple[str, float]] = []

    def run(self, picture):
        run = super().run(picture)
        self.clock.now += 1.0

        def allot(time_left: Callable[[], float]) -> None:
            self.allotted.append((run.name, time_left()))
            self.clock.now += time_left()

        run.allot = allot
        return run


def answered(node: Occlude, budget: float, refuses: tuple[str, ...] = ()) -> tuple[Slow, Deadline, int]:
    """Runs a plan with a clock of its own; the reader takes a minute for each batch."""
    clock = Clock()
    experiment = Slow(clock, refuses)
    run = start(node, experiment)
    deadline = run.run.deadline = Deadline(budget, clock)
    batches = 0
    for _ in run.batches():
        clock.now += 60.0
        batches += 1
    return experiment, deadline, batches


def test_images_share_the_time_and_what_their_bases_take_is_part_of_it(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    experiment, deadline, batches = answered(occlude(str(folder), seconds=20.0), 20.0)
    assert batches == 4 and deadline.spent == pytest.approx(20.0)
    assert [name for name, _ in experiment.allotted] == ["a.png", "b.png", "c.png", "d.png"]
    shares = [seconds for _, seconds in experiment.allotted]
    assert all(3.5 <= share <= 4.75 for share in shares) and sum(shares) + 4 == pytest.approx(20.0)


def test_an_image_that_is_left_out_leaves_its_share_to_the_others(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "a.png", "b.png", "c.png")
    experiment, deadline, batches = answered(occlude(str(folder), seconds=10.0), 10.0, refuses=("b.png",))
    assert batches == 2 and deadline.spent == pytest.approx(10.0)
    assert experiment.allotted[1][1] > 4.0 > experiment.allotted[0][1]


def test_only_images_that_the_query_asks_for_have_a_share(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "a.png", "b.png", "c.png")
    node = occlude(str(folder), seconds=9.0, image_filter=expression("image LIKE '%b.png'"))
    experiment, _, _ = answered(node, 9.0)
    assert experiment.allotted == [("b.png", 8.0)]


def test_a_plan_without_a_time_allots_none(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "a.png")
    experiment = Slow(Clock())
    run = start(occlude(str(folder)), experiment)
    assert run.run.deadline is None and list(run.batches()) and experiment.allotted == []
    timed = start(occlude(str(folder), seconds=7.5), experiment)
    assert timed.run.deadline is not None and timed.run.deadline.seconds == 7.5


def test_fakes_are_as_the_executor_expects_them() -> None:
    assert not hasattr(FakeRun, "allot")  # else the test before shows nothing
