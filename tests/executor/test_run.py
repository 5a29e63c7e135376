"""A plan runs image by image, tells what it did, and stops when it is told to."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from kryptondb.errors import ExecutionError, ImageError
from kryptondb.executor import Progress
from kryptondb.optimizer import physical as p
from kryptondb.process.memory import MemoryMeter
from tests.fakes import (
    FakeExperiment,
    FakeModel,
    FakeModels,
    FakeOperator,
    expression,
    group,
    limit,
    occlude,
    order,
    pictures,
    rows,
    select,
    start,
    table,
    where,
)


def test_nothing_is_opened_before_the_first_batch_is_asked_for(folder: Path) -> None:
    experiment = FakeExperiment()
    run = start(occlude(str(folder)), experiment)
    assert run.schema.names[0] == "image"
    batches = run.batches()
    assert experiment.log == []
    next(batches)
    assert experiment.log == [
        "set up",
        "open a.png",
        "begin a.png",
        *(f"tile a.png {row}" for row in range(3)),
        "end a.png",
    ]


def test_a_batch_holds_the_rows_of_one_image(folder: Path) -> None:
    batches = list(start(occlude(str(folder))).batches())
    assert [batch.num_rows for batch in batches] == [12, 12, 12]
    assert [set(batch["image"].to_pylist()) for batch in batches] == [{str(folder / f"{name}.png")} for name in "abc"]


def test_an_image_of_very_many_rows_comes_in_several_batches(picture: str) -> None:
    batches = list(start(occlude(picture, grid=(3, 300), classes=p.ClassChoice("all"))).batches())
    assert [batch.num_rows for batch in batches] == [3600]
    tables = list(start(occlude(picture, grid=(9, 300)))._stage.tables(rows=1000))
    assert [part.num_rows for part in tables] == [1200, 1200, 300]


def test_every_batch_has_the_schema_that_was_announced(folder: Path) -> None:
    cells = occlude(str(folder))
    for root in (
        cells,
        where(cells, "y > 2"),
        select(cells, a="drop * 2", b="label"),
        order(cells, "drop"),
        group(cells, "label", n="count(*)"),
        p.HeatMaps(cells, prediction=True),
        limit(cells, 2),
    ):
        run = start(root)
        batches = list(run.batches())
        assert batches
        assert all(batch.schema.equals(run.schema, check_metadata=True) for batch in batches)
        for batch in batches:
            batch.validate(full=True)


def test_images_already_answered_are_not_kept(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{index}.png" for index in range(6)))
    alive: list[Any] = []

    class Watched(FakeExperiment):
        def run(self, picture: Any) -> Any:
            gc.collect()
            alive.append(sum(reference() is not None for reference in references))
            run = super().run(picture)
            references.extend([weakref.ref(picture), weakref.ref(run)])
            return run

    references: list[Any] = []
    gc.freeze()  # what other tests left need not be looked through for each picture
    try:
        for root in (p.HeatMaps(occlude(str(tmp_path))), group(occlude(str(tmp_path)), n="count(*)")):
            for _ in start(root, Watched()).batches():
                pass
    finally:
        gc.unfreeze()
    assert max(alive) <= 2  # the run before, while the next is made


def test_the_metadata_says_how_the_answer_was_made(picture: str) -> None:
    metadata = {
        key.decode().removeprefix("kryptondb."): value.decode()
        for key, value in start(occlude(picture)).schema.metadata.items()
    }
    assert p.from_json(metadata.pop("plan"), [FakeOperator]).occlude == occlude(picture)
    assert metadata.pop("version")
    assert metadata == {
        **{"statement": "SELECT 1", "quality": "exact", "model": "net", "fingerprint": "f00d", "fill": "gray"},
        **{"patch": "8x4", "stride": "2x4", "input": "12x16", "score": "probability"},
        **{"edges": "fit", "operator": "full", "precision": "float32", "device": "cpu"},
    }


def test_the_stats_count_what_was_done(folder: Path) -> None:
    run = start(occlude(str(folder), runs=((0, 0, 1), (2, 3, 3)), classes=p.ClassChoice("top", 2)))
    for _ in run.batches():
        pass
    stats = run.stats
    assert (stats.positions, stats.images, stats.failed, stats.flops) == (9, 3, 0, 900.0)
    assert stats.seconds > 0
    assert stats.peak_memory is None or stats.peak_memory > 1024**2


def test_the_memory_meter_sees_a_peak_that_is_over() -> None:
    meter = MemoryMeter()
    before = meter.sample()
    if before is None:
        pytest.skip("this system does not tell")
    block = np.ones(96 * 1024**2, dtype=np.uint8)
    during = meter.sample()
    del block
    after = meter.sample()
    assert during is not None and after is not None
    assert after >= during >= before


def test_progress_is_told_for_each_tile(folder: Path) -> None:
    told: list[Progress] = []
    for _ in start(occlude(str(folder), count=3), progress=told.append).batches():
        pass
    assert told[:4] == [
        Progress(str(folder / "a.png"), 4, 12, 1, 3),
        Progress(str(folder / "a.png"), 8, 12, 1, 3),
        Progress(str(folder / "a.png"), 12, 12, 1, 3),
        Progress(str(folder / "b.png"), 4, 12, 2, 3),
    ]
    assert len(told) == 9


# Images that fail


def test_a_bad_image_is_left_out_and_listed_and_the_others_go_on(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"not a picture")
    run = start(group(occlude(str(folder)), "image", n="count(*)"))
    found = [row["image"] for batch in run.batches() for row in batch.to_pylist()]
    assert found == [str(folder / "a.png"), str(folder / "c.png")]
    (failure,) = run.errors
    assert failure.image == str(folder / "b.png")
    assert "b.png" in failure.message
    assert (run.stats.images, run.stats.failed) == (2, 1)


def test_an_image_that_the_experiment_refuses_is_left_out_too(folder: Path) -> None:
    run = start(occlude(str(folder)), FakeExperiment(refuses=("a.png",)))
    assert len(list(run.batches())) == 2
    assert [failure.message for failure in run.errors] == [f"{folder / 'a.png'}: refused"]


def test_a_missing_file_in_a_list_is_left_out(folder: Path) -> None:
    run = start(occlude((str(folder / "a.png"), str(folder / "gone.png"))))
    assert len(list(run.batches())) == 1
    assert [failure.image for failure in run.errors] == [str(folder / "gone.png")]


def test_when_no_image_can_be_read_the_answer_is_empty_and_all_are_listed(folder: Path) -> None:
    run = start(p.HeatMaps(occlude(str(folder))), FakeExperiment(refuses=("png",)))
    assert list(run.batches()) == []
    assert len(run.errors) == 3


def test_on_error_stop_raises_at_the_first_bad_image(folder: Path) -> None:
    experiment = FakeExperiment(refuses=("b.png",))
    run = start(occlude(str(folder)), experiment, on_error="stop")
    batches = run.batches()
    next(batches)
    with pytest.raises(ImageError, match="b.png"):
        next(batches)
    assert "open c.png" not in experiment.log


def test_the_only_image_of_a_query_is_never_hidden(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match="b.png"):
        rows(occlude(str(folder / "b.png")))
    with pytest.raises(ImageError, match="gone.png"):
        rows(occlude(str(folder / "gone.png")))
    with pytest.raises(ImageError, match="b.png"):
        rows(group(occlude((str(folder / "b.png"),)), n="count(*)"))


def test_a_file_that_vanishes_after_it_was_found_is_left_out(folder: Path) -> None:
    class Vanishing(FakeExperiment):
        def run(self, picture: Any) -> Any:
            (folder / "b.png").unlink(missing_ok=True)
            return super().run(picture)

    run = start(occlude(str(folder)), Vanishing())
    assert len(list(run.batches())) == 2
    assert [failure.image for failure in run.errors] == [str(folder / "b.png")]


def test_what_the_network_raises_names_the_picture(folder: Path) -> None:
    class Exhausted(FakeExperiment):
        def run(self, picture: Any) -> Any:
            raise RuntimeError("out of memory\na long explanation")

    with pytest.raises(ExecutionError, match=r"a\.png: the network failed: out of memory$"):
        rows(occlude(str(folder)), Exhausted())


# Images that are bound or filtered


def test_a_bound_array_is_asked_about() -> None:
    array = np.zeros((20, 20, 3), dtype=np.uint8)
    assert len(rows(occlude(binding="0"), bindings={"0": array})) == 12
    two = rows(p.HeatMaps(occlude(binding="scans")), bindings={"scans": [array, Image.new("L", (9, 9))]})
    assert len({row["image"] for row in two}) == 2


def test_a_plan_without_its_binding_says_which_is_missing() -> None:
    with pytest.raises(ExecutionError, match=r"parameter \$scan"):
        rows(occlude(binding="scan"))


def test_images_that_the_filter_excludes_are_never_opened(folder: Path) -> None:
    (folder / "c.png").write_bytes(b"not a picture")
    experiment = FakeExperiment()
    cells = occlude(str(folder), image_filter=expression("image LIKE '%b.png'"))
    run = start(cells, experiment)
    assert len(list(run.batches())) == 1
    assert [entry for entry in experiment.log if entry.startswith("open")] == ["open b.png"]
    assert run.errors == []


# Stopping


def test_closing_the_rows_stops_the_work(folder: Path) -> None:
    experiment = FakeExperiment()
    run = start(occlude(str(folder)), experiment)
    batches = run.batches()
    next(batches)
    run.close()
    assert "open b.png" not in experiment.log
    assert list(batches) == []


def test_leaving_in_the_middle_of_an_image_closes_its_experiment(picture: str) -> None:
    experiment = FakeExperiment()
    run = start(limit(occlude(picture), 3), experiment)
    list(run.batches())
    assert experiment.log[-1] == f"end {Path(picture).name}"
    assert run.stats.positions == 4


def test_a_run_that_is_closed_from_its_progress_ends_at_the_next_tile(folder: Path) -> None:
    def stop(progress: Progress) -> None:
        run.close()

    experiment = FakeExperiment()
    run = start(occlude(str(folder)), experiment, progress=stop)
    with pytest.raises(ExecutionError, match="closed while it ran"):
        list(run.batches())
    assert run.stats.positions == 4
    assert experiment.log[-1] == "end a.png"


def test_ctrl_c_passes_through_and_leaves_nothing_running(folder: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.image_number == 2:
            raise KeyboardInterrupt

    experiment = FakeExperiment()
    run = start(occlude(str(folder)), experiment, progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(run.batches())
    assert experiment.log[-1] == "end b.png"
    assert (run.stats.images, run.stats.positions) == (2, 16)
    run.close()


def test_rows_are_read_once(picture: str) -> None:
    run = start(occlude(picture))
    list(run.batches())
    with pytest.raises(ExecutionError, match="run the statement again"):
        run.batches()
    closed = start(occlude(picture))
    closed.close()
    with pytest.raises(ExecutionError, match="closed"):
        closed.batches()


def test_a_model_replaced_after_planning_is_not_asked(picture: str) -> None:
    with pytest.raises(ExecutionError, match='"net" is no longer the one'):
        rows(occlude(picture), models=FakeModels(FakeModel(fingerprint="another")))


def test_a_value_that_cannot_be_computed_is_an_execution_error(picture: str) -> None:
    with pytest.raises(ExecutionError, match="overflow"):
        rows(select(occlude(picture), a="(class + 9000000000000000000) * 4"))


def test_the_time_of_the_reader_is_not_the_querys(picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("kryptondb.executor.run.time.perf_counter", lambda: next(clock))
    run = start(occlude(picture))
    for _ in run.batches():
        next(clock)
    assert run.stats.seconds == 20


def test_redundancy_rows_come_from_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import kryptondb.network.regions
    from kryptondb.executor.stages import REDUNDANCY

    class Layer:
        layer, operator, channels, height, width = "conv1", "conv2d", 64, 16, 16
        gflops_full, gflops_incremental, ratio, uniform_ratio, centre_ratio = 2.0, 1.0, 2.0, 1.75, 1.5

    class Total(Layer):
        layer, operator, channels, height, width = "total", None, None, None, None

    class Models(FakeModels):
        def network(self, name: str) -> str:
            return f"network of {name}"

    def layers(network: object, grid: Any) -> list[type[Layer]]:
        assert network == "network of net"
        assert (grid.rows, grid.cols) == (3, 4)
        return [Layer, Total]

    monkeypatch.setattr(kryptondb.network.regions, "redundancy_table", layers)
    node = p.Redundancy("net", "f00d", (8, 4), (2, 4), 12, 16)
    found = table(node, models=Models())
    assert found.schema.remove_metadata() == REDUNDANCY
    assert found.schema.metadata[b"kryptondb.model"] == b"net"
    assert found["layer"].to_pylist() == ["conv1", "total"]
    assert rows(select(where(node, "ratio > 1 AND channels IS NULL"), l="layer"), models=Models()) == [{"l": "total"}]


def test_batches_make_a_stream_that_other_readers_take(folder: Path) -> None:
    run = start(select(occlude(str(folder)), drop="drop"))
    reader = pa.RecordBatchReader.from_batches(run.schema, run.batches())
    assert reader.read_all().num_rows == 36
