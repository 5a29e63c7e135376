"""While the tiles of one picture run, the next is opened and set up; whoever reads the answer cannot tell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from kryptondb.catalog import Catalog, ModelStore
from kryptondb.errors import ExecutionError, ImageError
from kryptondb.executor import Progress
from kryptondb.executor.operators import Full, Incremental
from kryptondb.executor.pictures import taking_turns
from kryptondb.executor.run import Execution
from kryptondb.optimizer import physical as p
from tests.fakes import (
    FakeExperiment,
    FakeOperator,
    expression,
    group,
    limit,
    occlude,
    order,
    pictures,
    plan_of,
    start,
    where,
)
from tests.patience import PATIENCE


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kryptondb-ahead")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


def opened(experiment: FakeExperiment) -> list[str]:
    return [entry.removeprefix("open ") for entry in experiment.log if entry.startswith("open")]


class Signalling(FakeExperiment):
    """Says when a picture has been set up."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.ready: dict[str, threading.Event] = {f"{letter}.png": threading.Event() for letter in "abcd"}
        self.made_in: dict[str, int] = {}

    def run(self, picture: Any) -> Any:
        name = Path(picture.name).name
        self.made_in[name] = threading.get_ident()
        try:
            return super().run(picture)
        finally:
            self.ready[name].set()

    def wait_for(self, name: str) -> None:
        assert self.ready[name].wait(PATIENCE), f"{name} was not set up in time"


def test_the_next_picture_is_set_up_by_another_thread_while_tiles_run(folder: Path) -> None:
    experiment = Signalling()

    def progress(told: Progress) -> None:
        following = {"a.png": "b.png", "b.png": "c.png"}.get(Path(told.image).name)
        if following is not None:
            experiment.wait_for(following)

    for _ in start(occlude(str(folder), ahead=True), experiment, progress=progress).batches():
        pass
    here = threading.get_ident()
    assert experiment.made_in["a.png"] == here
    assert experiment.made_in["b.png"] == experiment.made_in["c.png"] != here


def test_a_plan_that_does_not_look_ahead_and_a_single_picture_need_no_thread(folder: Path) -> None:
    one = str(folder / "a.png")
    for node in (occlude(str(folder)), occlude(one, ahead=True), occlude((one,), ahead=True)):
        seen: list[list[str]] = []
        for _ in start(node, progress=lambda _: seen.append(threads())).batches():
            pass
        assert seen and not any(seen)


def bad_file(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"not a picture")


def all_good(folder: Path) -> None:
    pass


SCENARIOS: dict[str, tuple[Callable[[Path], None], Callable[[p.Occlude], p.PlanNode], dict[str, Any]]] = {
    "all": (all_good, lambda cells: cells, {}),
    "a bad file": (bad_file, lambda cells: cells, {}),
    "a bad file that stops": (bad_file, lambda cells: cells, {"on_error": "stop"}),
    "a limit": (all_good, lambda cells: limit(cells, 17), {}),
    "a limit within a picture": (all_good, lambda cells: limit(cells, 3), {}),
    "sorted": (all_good, lambda cells: order(cells, "drop DESC"), {}),
    "grouped": (bad_file, lambda cells: group(where(cells, "y > 0"), "image", n="count(*)"), {}),
    "heat maps": (all_good, lambda cells: p.HeatMaps(cells), {}),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("refuses", [(), ("a.png",), ("c.png",), ("png",)], ids=str)
def test_rows_errors_stats_and_progress_are_the_same(folder: Path, scenario: str, refuses: tuple[str, ...]) -> None:
    spoil, root, more = SCENARIOS[scenario]
    spoil(folder)
    stories = []
    for ahead in (False, True):
        told: list[Progress] = []
        run = start(
            root(occlude(str(folder), ahead=ahead)), FakeExperiment(refuses=refuses), progress=told.append, **more
        )
        rows: list[Any] = []
        try:
            for batch in run.batches():
                rows.append((batch.to_pylist(), list(run.errors)))  # what was known at each batch
        except ImageError as error:
            rows.append(str(error))
        run.close()
        stats = replace(run.stats, seconds=0.0, peak_memory=None, query_memory=None)
        stories.append((rows, run.errors, stats, told))
    assert stories[0] == stories[1]


def test_an_error_of_the_next_picture_waits_for_its_turn(folder: Path) -> None:
    experiment = Signalling(refuses=("b.png",))

    def progress(told: Progress) -> None:
        experiment.wait_for("b.png")
        assert run.errors == []

    run = start(occlude(str(folder), ahead=True), experiment, progress=progress, on_error="stop")
    batches = run.batches()
    assert next(batches).num_rows == 12
    assert (run.errors, run.stats.failed) == ([], 0)
    with pytest.raises(ImageError, match="b.png"):
        next(batches)
    assert [failure.image for failure in run.errors] == [str(folder / "b.png")]
    assert opened(experiment) == ["a.png"]


def test_what_the_network_raises_for_the_next_picture_is_raised_in_its_turn(folder: Path) -> None:
    class Failing(Signalling):
        def run(self, picture: Any) -> Any:
            if picture.name.endswith("b.png"):
                raise RuntimeError("a shape does not fit")
            return super().run(picture)

    batches = start(occlude(str(folder), ahead=True), Failing()).batches()
    assert next(batches).num_rows == 12
    with pytest.raises(ExecutionError, match=r"b\.png: the network failed: a shape does not fit"):
        next(batches)


def test_a_picture_that_memory_was_too_short_for_is_tried_again_in_its_turn(folder: Path) -> None:
    class Short(Signalling):
        def run(self, picture: Any) -> Any:
            if threading.current_thread().name.startswith("kryptondb-ahead"):
                raise RuntimeError("[enforce fail] not enough memory: you tried to allocate 8 bytes")
            return super().run(picture)

    experiment = Short()
    batches = list(start(occlude(str(folder), ahead=True), experiment).batches())
    assert [batch.num_rows for batch in batches] == [12, 12, 12]
    assert set(experiment.made_in.values()) == {threading.get_ident()}


def test_pictures_that_the_filter_excludes_are_not_opened_ahead_either(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"not a picture")
    experiment = FakeExperiment()
    run = start(occlude(str(folder), ahead=True, image_filter=expression("image NOT LIKE '%b.png'")), experiment)
    assert len(list(run.batches())) == 2
    assert opened(experiment) == ["a.png", "c.png"]
    assert run.errors == []


# Stopping


@pytest.mark.parametrize("stop", ["close", "limit", "interrupt", "failure"])
def test_stopping_opens_no_picture_beyond_the_next_and_leaves_no_thread(tmp_path: Path, stop: str) -> None:
    folder = str(pictures(tmp_path, "a.png", "b.png", "c.png", "d.png"))
    experiment = Signalling()

    def progress(told: Progress) -> None:
        experiment.wait_for("b.png")
        if stop == "interrupt":
            raise KeyboardInterrupt
        if stop == "failure":
            raise ZeroDivisionError

    cells = occlude(folder, ahead=True)
    run = start(limit(cells, 3) if stop == "limit" else cells, experiment, progress=progress)
    batches = run.batches()
    if stop in ("interrupt", "failure"):
        with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
            next(batches)
    else:
        next(batches)
    run.close()
    assert threads() == []
    assert opened(experiment) == ["a.png", "b.png"]
    assert run.stats.images == 1


def test_closing_waits_for_the_picture_that_is_being_opened(folder: Path) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    class Slow(Signalling):
        def run(self, picture: Any) -> Any:
            if picture.name.endswith("b.png"):
                begun.set()
                assert go_on.wait(PATIENCE)
                done.set()
            return super().run(picture)

    def progress(told: Progress) -> None:
        assert begun.wait(PATIENCE)

    run = start(occlude(str(folder), ahead=True), Slow(), progress=progress)
    next(run.batches())
    threading.Timer(0.05, go_on.set).start()
    run.close()
    assert done.is_set()


def test_a_search_for_the_next_item_ends_when_nobody_wants_it_any_more() -> None:
    searching = threading.Event()

    def wanted(number: int) -> bool:
        if number == 5:
            searching.set()
        return number == 0

    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    with taking_turns(endless(), wanted, str, ahead=True) as turns:
        turn = turns.next()
        assert turn is not None and turn.ready() == "0"
        turns.look_ahead()
        assert searching.wait(PATIENCE)


# Networks


@pytest.fixture(scope="module")
def models() -> Iterator[ModelStore]:
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip
    with Catalog() as catalog:
        store = ModelStore(catalog)
        store.register("net", module.eval(), size=(32, 32))
        yield store


@pytest.mark.parametrize("operator", [Full(8), Incremental((2, 2), (), 16, 2), Incremental((4, 4))], ids=str)
def test_scores_are_the_same_to_the_bit(models: ModelStore, operator: Full | Incremental) -> None:
    noise = np.random.default_rng(0)
    arrays = [noise.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(4)]

    def answer(ahead: bool) -> tuple[pa.Table, float]:
        node = occlude(
            binding="0", ahead=ahead, operator=operator, height=32, width=32, stride=(4, 4), patch=(8, 8),
            fingerprint=models.get("net").fingerprint, fill="patch_mean", class_count=4,
        )  # fmt: skip
        run = Execution(plan_of(node), models=models, bindings={"0": arrays})
        batches = list(run.batches())
        assert run.stats.images == 4
        return pa.Table.from_batches(batches, schema=run.schema).replace_schema_metadata(None), run.stats.flops

    assert answer(ahead=True) == answer(ahead=False)


def test_the_thread_gives_operators_as_many_cores_as_its_maker_does() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with taking_turns(iter(range(2)), lambda _: True, lambda _: torch.get_num_threads(), ahead=True) as turns:
            turns.look_ahead()
            turn = turns.next()
            torch.set_num_threads(1)  # as workers do in theirs
            turns.look_ahead()
            later = turns.next()
            assert turn is not None and later is not None
            assert (turn.ready(), later.ready()) == (2, 2)
    finally:
        torch.set_num_threads(before)


def test_plans_that_look_ahead_go_to_json_and_back() -> None:
    plan = plan_of(occlude("scans", ahead=True))
    assert p.from_json(p.to_json(plan), [FakeOperator]) == plan
