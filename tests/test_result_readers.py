"""DuckDB, Polars and pandas read a Result itself, through the Arrow C stream protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import kryptondb
from kryptondb.errors import ExecutionError
from kryptondb.result import Result
from tests.networks import small_network
from tests.test_result import MAPS, FakeRun

CELLS = "SELECT image, y, x, base, drop FROM occlude(net, ?, patch => 8, stride => 8)"


@pytest.fixture
def cells() -> Iterator[Result]:
    """A real query of 25 cells, which nobody has run."""
    with kryptondb.connect() as db:
        db.register("net", small_network(), size=40, labels=["left", "right", "both"])
        picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        yield db.sql(CELLS, [picture])


def in_duckdb(result: Result, query: str = "FROM result") -> Any:
    duckdb = pytest.importorskip("duckdb")
    return duckdb.sql(query).to_arrow_table()


def in_polars(result: Result) -> Any:
    return pytest.importorskip("polars").DataFrame(result)


def in_pandas(result: Result) -> Any:
    pandas = pytest.importorskip("pandas", minversion="3")  # where from_arrow began
    return pandas.DataFrame.from_arrow(result)


READERS = pytest.mark.parametrize("read", [in_duckdb, in_polars, in_pandas])


@pytest.mark.slow
@READERS
def test_a_reader_gets_the_cells_that_the_query_answers(cells: Result, read: Callable[[Result], Any]) -> None:
    frame = read(cells)
    expected = cells.arrow()
    assert expected.num_rows == 25
    for name in ("image", "y", "x", "base", "drop"):
        assert list(np.asarray(frame[name])) == list(np.asarray(expected[name])), name


@READERS
def test_a_heat_map_arrives_as_the_list_of_its_values(read: Callable[[Result], Any]) -> None:
    frame = read(Result(lambda: FakeRun(MAPS)))
    heatmaps = frame["heatmap"]
    first = heatmaps[0]
    values = first.as_py() if isinstance(first, pa.Scalar) else first
    assert np.asarray(values).ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert len(heatmaps) == 4


def test_duckdb_asks_a_result_in_its_own_sql(cells: Result) -> None:
    found = in_duckdb(cells, "SELECT count(*) AS n, max(drop) AS most FROM result WHERE y = 0").to_pylist()
    rows = [row for row in cells.arrow().to_pylist() if row["y"] == 0]
    assert found == [{"n": len(rows), "most": max(row["drop"] for row in rows)}]


def test_the_schema_is_told_without_running_the_query() -> None:
    log: list[str] = []
    result = Result(lambda: FakeRun(MAPS, log))
    assert pa.schema(result) == MAPS.schema
    assert log == []


@dataclass
class Failing(FakeRun):
    """One batch, then an error."""

    log: list[str] = field(default_factory=list)

    def batches(self) -> Iterator[pa.RecordBatch]:
        yield self.batch
        raise ExecutionError("the second picture is gone")


@pytest.mark.parametrize("read", [in_polars, in_pandas])
def test_an_error_midway_reaches_the_reader_with_its_words_and_ends_the_run(read: Callable[[Result], Any]) -> None:
    log: list[str] = []
    with pytest.raises(Exception, match="the second picture is gone"):
        read(Result(lambda: Failing(MAPS, log)))
    assert log == ["close"]


def test_a_stream_that_is_given_up_stops_the_work() -> None:
    log: list[str] = []
    stream = pa.RecordBatchReader.from_stream(Result(lambda: FakeRun(MAPS, log)))
    stream.read_next_batch()
    del stream
    assert log == ["run", "close"]
