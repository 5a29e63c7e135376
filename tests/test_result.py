"""Result: read when asked, kept by arrow(), streamed by batches()."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest

import kryptondb
from kryptondb.errors import SkippedImages
from kryptondb.executor.resources import ImageFailure
from kryptondb.result import Result, skipped_so_far

BROKEN = ImageFailure("broken.png", "no picture")


@dataclass
class FakeRun:
    """Two batches, counting how often they are read."""

    batch: pa.RecordBatch
    log: list[str] = field(default_factory=list)
    errors: tuple[object, ...] = ()
    stats: object = None

    @property
    def schema(self) -> pa.Schema:
        return self.batch.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        self.log.append("run")
        yield self.batch
        yield self.batch

    def keep(self, size: int) -> None:
        """There is room for everything."""

    def close(self) -> None:
        self.log.append("close")


def maps_batch(values: np.ndarray, **columns: list[object]) -> pa.RecordBatch:
    """A batch with a heat map column, n x rows x cols."""
    storage = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), values[0].size)
    kind = pa.fixed_shape_tensor(pa.float32(), values.shape[1:])
    heatmap = pa.ExtensionArray.from_storage(kind, storage)
    return pa.RecordBatch.from_arrays([*map(pa.array, columns.values()), heatmap], names=[*columns, "heatmap"])


NUMBERS = pa.RecordBatch.from_pydict({"n": [1, 2, 3]})
MAPS = maps_batch(np.arange(12).reshape(2, 2, 3), image=["a.png", "b.png"])


def test_nothing_runs_until_rows_are_read():
    log: list[str] = []
    result = Result(lambda: FakeRun(NUMBERS, log))
    assert result.schema.names == ["n"]
    repr(result)
    assert log == []
    assert result.arrow().num_rows == 6
    assert log == ["run", "close"]


def test_arrow_keeps_the_rows_and_the_stream_does_not():
    log: list[str] = []
    result = Result(lambda: FakeRun(NUMBERS, log))
    assert sum(batch.num_rows for batch in result.batches()) == 6
    assert result.arrow() is result.arrow()
    assert sum(batch.num_rows for batch in result.batches()) == 6
    assert log.count("run") == 2


def test_a_stream_that_is_abandoned_closes_the_run():
    log: list[str] = []
    stream = Result(lambda: FakeRun(NUMBERS, log)).batches()
    next(stream)
    stream.close()
    assert log == ["run", "close"]


def test_heat_maps_come_as_one_array():
    maps = Result(lambda: FakeRun(MAPS)).heatmaps()
    assert maps.shape == (4, 2, 3)
    assert maps.dtype == np.float32
    assert (maps[2:] == maps[:2]).all()


def test_heat_maps_of_no_image_are_an_empty_array():
    assert Result(lambda: FakeRun(MAPS.slice(0, 0))).heatmaps().shape == (0, 2, 3)


def test_asking_for_heat_maps_that_were_not_selected_names_the_columns():
    with pytest.raises(kryptondb.BindError, match="only the columns n"):
        Result(lambda: FakeRun(NUMBERS)).heatmaps()


def test_a_data_frame_holds_each_heat_map_as_a_matrix():
    pytest.importorskip("pandas")
    frame = Result(lambda: FakeRun(MAPS)).df()
    assert list(frame.columns) == ["image", "heatmap"]
    assert frame["heatmap"][1].shape == (2, 3)
    assert frame["heatmap"][1][0, 0] == 6


def test_a_data_frame_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(kryptondb.Error, match="pip install pandas"):
        Result(lambda: FakeRun(NUMBERS)).df()


def test_any_reader_of_the_arrow_protocol_takes_a_result():
    assert pa.table(Result(lambda: FakeRun(NUMBERS))).num_rows == 6


def test_errors_and_stats_read_a_result_that_nobody_has_read():
    log: list[str] = []
    result = Result(lambda: FakeRun(NUMBERS, log, errors=(BROKEN,), stats="seconds"))
    assert skipped_so_far(result) == () and log == []
    with pytest.warns(SkippedImages, match="broken.png"):
        assert result.errors == [BROKEN]
    assert result.stats == "seconds"
    assert log.count("run") == 1


def test_the_representation_says_what_it_is():
    result = Result(lambda: FakeRun(NUMBERS))
    assert "not read yet" in repr(result)
    result.arrow()
    assert "6 rows" in repr(result)
    assert repr(Result(message="net: 3 classes")) == "net: 3 classes"
