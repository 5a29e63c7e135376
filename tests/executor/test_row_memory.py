"""Rows that a query keeps count in the memory limit, and the error beyond it says how to keep none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.parquet
import pytest
import torch

import kryptondb
from kryptondb.errors import ExecutionError
from kryptondb.executor import calibrate
from kryptondb.executor.cells import InOrder
from kryptondb.executor.resources import RowMemory
from kryptondb.executor.stages import ImageAnswer
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.experiment import ClassChoice
from tests.fakes import FakeRun, occlude

CLASSES = 40_000


class Wide(torch.nn.Module):
    """Very many classes from very little work."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 3, 2)
        self.head = torch.nn.Linear(2, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(images)).mean((2, 3)))


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[kryptondb.Session]:
    monkeypatch.setattr(calibrate, "measure", lambda _: Rates())
    with kryptondb.connect() as session:
        session.register("wide", Wide().eval(), size=32)
        session.sql("SET memory_limit = '200MB'")
        yield session


IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
CELLS = "occlude(wide, ?, patch => 8, stride => 2, class => ALL)"  # 169 positions

DISTINCT = "count(DISTINCT class * 1000 + row * 13 + col) AS a, count(DISTINCT class * 2000 + row * 13 + col) AS b"


@pytest.mark.parametrize(
    ("select", "holder"),
    [
        (f"SELECT * FROM {CELLS}", "the rows of the result"),
        (f"SELECT drop FROM {CELLS} ORDER BY drop", "the rows to be sorted"),
        (f"SELECT drop FROM {CELLS} ORDER BY drop LIMIT 5000000", "the rows to be sorted"),
        (f"SELECT class, row, col, max(drop) FROM {CELLS} GROUP BY class, row, col", "the groups"),
        (f"SELECT {DISTINCT} FROM {CELLS}", "the groups"),
        ("SELECT ATTRIBUTION FROM occlude(wide, ?, patch => 8, class => ALL)", "the heat maps of one image"),
    ],
)
def test_rows_beyond_the_limit_are_an_error_that_names_copy(db: kryptondb.Session, select: str, holder: str) -> None:
    with pytest.raises(ExecutionError, match=r"memory_limit leaves .* of 200 MB\nCOPY \(") as caught:
        db.sql(select, [IMAGE]).arrow()
    assert caught.value.message.startswith((f"{holder} take more", "the scores of some positions"))


def test_copy_writes_what_does_not_fit(db: kryptondb.Session, tmp_path) -> None:
    path = tmp_path / "cells.parquet"
    db.sql(f"COPY (SELECT class, row, col, y, x, base, score, drop FROM {CELLS}) TO '{path}'", [IMAGE])
    assert pyarrow.parquet.ParquetFile(path).metadata.num_rows == 169 * CLASSES


def test_scores_that_wait_for_their_turn_lie_on_the_disk_where_they_do_not_fit(
    db: kryptondb.Session, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = CELLS.replace("stride => 2", "stride => 1")  # 625 positions: their scores take 200 MB
    query = f"SELECT class, row, col, score FROM {cells}"
    db.sql(f"COPY ({query}) TO '{tmp_path}/disk.parquet'", [IMAGE])
    assert list(tmp_path.iterdir()) == [tmp_path / "disk.parquet"]
    db.sql("SET memory_limit = '4GB'")
    db.sql(f"COPY ({query}) TO '{tmp_path}/memory.parquet'", [IMAGE])
    disk, memory = (pyarrow.parquet.read_table(tmp_path / f"{name}.parquet") for name in ("disk", "memory"))
    assert disk.num_rows == 625 * CLASSES and disk.equals(memory)
    db.sql("SET memory_limit = '200MB'")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(ExecutionError, match="no room for the scores of one image: .*No space left(.|\n)*TMPDIR"):
        db.sql(query, [IMAGE]).arrow()


def test_a_folder_of_parts_holds_the_rows_of_whole_images_within_the_limit(db: kryptondb.Session, tmp_path) -> None:
    with pytest.raises(ExecutionError, match="memory_limit leaves"):
        db.sql(f"COPY (SELECT * FROM {CELLS}) TO '{tmp_path}/cells/' (FORMAT parquet)", [IMAGE])


def test_what_fits_is_answered(db: kryptondb.Session) -> None:
    count = db.sql(f"SELECT count(*) AS n, max(drop) FROM {CELLS}", [IMAGE]).arrow()["n"].to_pylist()
    assert count == [169 * CLASSES]
    assert db.sql(f"SELECT drop FROM {CELLS} ORDER BY drop DESC LIMIT 10", [IMAGE]).arrow().num_rows == 10
    assert sum(batch.num_rows for batch in db.sql(f"SELECT * FROM {CELLS}", [IMAGE]).batches()) == 169 * CLASSES
    assert db.sql("SELECT HEATMAP FROM occlude(wide, ?, patch => 8, class => ALL)", [IMAGE]).arrow().num_rows == CLASSES


def test_holders_share_what_there_is() -> None:
    memory = RowMemory(100)
    memory.hold("the groups", 60)
    memory.hold("the groups", 50)
    memory.hold("the rows of the result", 50)
    with pytest.raises(ExecutionError, match="the groups take"):
        memory.hold("the groups", 51)
    RowMemory().hold("the rows of the result", 1 << 60)


def test_where_the_cells_of_an_image_lie_counts_beside_their_scores() -> None:
    node = occlude("x", grid=(5, 4), runs=((0, 1, 2), (2, 0, 3)), classes=ClassChoice("list", indices=(2, 0, 3)))
    image = ImageAnswer("x", FakeRun("x", node, [], {}), ())
    InOrder(image, node.experiment.grid, node.experiment.runs, memory=RowMemory(2 * 3 * 6 * 8 + 60))
    with pytest.raises(ExecutionError, match="the cells of one image take more"):
        InOrder(image, node.experiment.grid, node.experiment.runs, memory=RowMemory(59))
