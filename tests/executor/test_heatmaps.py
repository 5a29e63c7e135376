"""HEATMAP, PREDICTION and cells: values, types, and what is NULL or NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.executor.cells import CELLS, InOrder, cell_batches
from kryptondb.executor.heatmaps import PREDICTION, prediction_rows
from kryptondb.executor.stages import ImageAnswer
from kryptondb.network import Grid
from kryptondb.optimizer import physical as p
from kryptondb.optimizer.workload import mask_of_runs
from tests.fakes import (
    LABELS,
    FakeExperiment,
    FakeModel,
    FakeModels,
    FakeRun,
    Tile,
    base_of,
    occlude,
    rows,
    start,
    table,
    where,
)

TOP_2 = p.ClassChoice("top", 2)


def test_cells_have_the_columns_of_the_language_in_their_order_and_types(picture: str) -> None:
    found = table(occlude(picture))
    assert tuple(found.schema.names) == p.CELL_COLUMNS
    assert found.schema.remove_metadata() == CELLS
    kinds = {field.name: str(field.type) for field in CELLS}
    assert kinds == {
        **dict.fromkeys(("image", "label"), "string"),
        **dict.fromkeys(("class", "row", "col", "y", "x", "height", "width"), "int32"),
        **dict.fromkeys(("base", "score", "drop"), "float"),
        "exact": "bool",
    }
    assert [field.name for field in CELLS if field.nullable] == ["label"]


def test_a_cell_says_where_it_is_and_how_far_the_score_falls(picture: str) -> None:
    cell = rows(where(occlude(picture, classes=TOP_2), "row = 2 AND col = 3 AND class = 1"))
    assert cell == [
        {
            **{"image": picture, "class": 1, "label": "tiger", "row": 2, "col": 3, "y": 4, "x": 12},
            **{"height": 8, "width": 4, "base": pytest.approx(0.8), "score": pytest.approx(0.777)},
            **{"drop": pytest.approx(0.023), "exact": True},
        }
    ]


def test_a_drop_is_subtracted_before_rounding(picture: str) -> None:
    tiny = 1e-9
    experiment = FakeExperiment(scores={(0, 0, 0): base_of(0) - tiny})
    cell = rows(where(occlude(picture), "row = 0 AND col = 0"), experiment)[0]
    assert cell["drop"] == pytest.approx(tiny, rel=1e-3)
    assert cell["base"] == cell["score"]


def test_every_class_has_every_position(picture: str) -> None:
    found = table(occlude(picture, classes=p.ClassChoice("all")))
    assert found.num_rows == 4 * 12
    assert set(zip(found["class"].to_pylist(), found["label"].to_pylist(), strict=True)) == {
        (0, "tabby"),
        (1, "tiger"),
        (2, "lynx"),
        (3, "fox"),
    }


def test_a_large_tile_comes_in_small_batches_that_are_the_same_cells() -> None:
    node = occlude("x", classes=p.ClassChoice("all"))
    image = ImageAnswer("x", FakeRun("x", node, [], {}), ("tabby",))
    scores = np.arange(40, dtype=np.float64).reshape(10, 4)
    tile = Tile(np.arange(10, dtype=np.int32), np.zeros(10, dtype=np.int32), scores)
    grid = Grid(26, 4, (8, 4), (2, 4))
    (whole,) = cell_batches(image, tile, grid)
    parts = list(cell_batches(image, tile, grid, rows=13))
    assert [part.num_rows for part in parts] == [12, 12, 12, 4]
    keys = [("class", "ascending"), ("row", "ascending")]
    assert pa.Table.from_batches(parts).sort_by(keys).equals(pa.Table.from_batches([whole]).sort_by(keys))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), some=st.booleans(), k=st.integers(0, 3), rows=st.integers(1, 30))
def test_tiles_in_any_order_come_out_by_class_row_and_column(
    data: st.DataObject, some: bool, k: int, rows: int
) -> None:
    runs = ((0, 1, 2), (2, 0, 3), (4, 2, 2)) if some else None
    node = occlude("x", grid=(5, 4), runs=runs, classes=p.ClassChoice("list", indices=(2, 0, 3)[:k]))
    image = ImageAnswer("x", FakeRun("x", node, [], {}), LABELS)
    places = np.argwhere(mask_of_runs(runs, 5, 4)).astype(np.int32)
    shuffled = places[data.draw(st.permutations(range(len(places))))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(places)), max_size=4)))
    left_out = data.draw(st.sampled_from([0, 0, 1, 3]))
    ordered = InOrder(image, node.experiment.grid, runs, rows=rows)
    found: list[pa.RecordBatch] = []
    taken = shuffled[: len(places) - left_out]
    for part in np.split(taken, [cut for cut in cuts if cut <= len(taken)]):
        at = part[:, :1] * 10 + part[:, 1:]
        scores = at + 100.0 * np.array([image.run.classes], dtype=float).reshape(1, k)
        found += ordered.add(Tile(part[:, 0], part[:, 1], scores, exact=part[:, 1] % 2 == 0))
    found += ordered.rest()
    cells = pa.Table.from_batches(found, schema=CELLS)
    expected = [(c, row, col) for c in image.run.classes for row, col in sorted(map(tuple, taken.tolist()))]
    assert list(zip(*(cells[name].to_pylist() for name in ("class", "row", "col")), strict=True)) == expected
    assert cells["score"].to_pylist() == [row * 10 + col + 100 * c for c, row, col in expected]
    assert cells["exact"].to_pylist() == [col % 2 == 0 for _, _, col in expected]
    assert all(batch.num_rows <= rows for batch in found)


def test_what_comes_first_in_order_does_not_wait_for_the_rest() -> None:
    node = occlude("x", classes=p.ClassChoice("all"))
    ordered = InOrder(ImageAnswer("x", FakeRun("x", node, [], {}), LABELS), node.experiment.grid, None)
    counts = [sum(batch.num_rows for batch in ordered.add(tile)) for tile in FakeRun("x", node, [], {})]
    assert counts == [4, 4, 4]
    assert sum(batch.num_rows for batch in ordered.rest()) == 36


def test_a_class_without_a_label_has_a_null_one(picture: str) -> None:
    models = FakeModels(FakeModel(labels=("tabby",)))
    assert [row["label"] for row in rows(p.HeatMaps(occlude(picture, classes=TOP_2)), models=models)] == ["tabby", None]


def test_a_heat_map_holds_the_drop_of_each_position(picture: str) -> None:
    found = table(p.HeatMaps(occlude(picture)))
    assert found.schema.names == ["image", "class", "label", "base", "heatmap"]
    assert found.schema.field("heatmap").type == pa.fixed_shape_tensor(pa.float32(), (3, 4))
    assert found.schema.metadata[b"kryptondb.heatmap"] == b"drop"
    (heatmap,) = found["heatmap"].chunk(0).to_numpy_ndarray()
    assert heatmap == pytest.approx(np.array([[0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]]) / 1000, abs=1e-7)


def test_positions_that_were_not_computed_or_left_out_are_nan(picture: str) -> None:
    some = where(occlude(picture, runs=((0, 1, 2), (2, 0, 0))), "x <> 8")
    (heatmap,) = table(p.HeatMaps(some))["heatmap"].chunk(0).to_numpy_ndarray()
    assert np.argwhere(~np.isnan(heatmap)).tolist() == [[0, 1], [2, 0]]


def test_a_class_without_any_cell_still_has_its_map(picture: str) -> None:
    found = table(p.HeatMaps(where(occlude(picture, classes=TOP_2), "y < 0")))
    assert found["class"].to_pylist() == [0, 1]
    assert np.isnan(found["heatmap"].chunk(0).to_numpy_ndarray()).all()


def test_each_image_and_class_has_one_map_in_any_order_of_classes(folder: Path) -> None:
    choice = p.ClassChoice("list", indices=(3, 1))
    found = table(p.HeatMaps(occlude(str(folder), classes=choice)))
    assert found["class"].to_pylist() == [3, 1] * 3
    assert found["label"].to_pylist() == ["fox", "tiger"] * 3
    assert found["base"].to_pylist() == pytest.approx([0.6, 0.8] * 3)
    maps = np.concatenate([chunk.to_numpy_ndarray() for chunk in found["heatmap"].chunks])
    assert maps.shape == (6, 3, 4) and np.ptp(maps, axis=0).max() < 1e-6


def test_a_prediction_lists_the_most_probable_classes(picture: str) -> None:
    found = rows(p.HeatMaps(occlude(picture), prediction=True))[0]["prediction"]
    assert [(entry["class"], entry["label"]) for entry in found] == [
        (0, "tabby"),
        (2, "lynx"),
        (1, "tiger"),
        (3, "fox"),
    ]
    assert [entry["probability"] for entry in found] == pytest.approx([0.5, 0.3, 0.1, 0.1])


def test_a_prediction_has_at_most_five_classes() -> None:
    found = prediction_rows(np.arange(10) / 45, (), 2)
    assert found.type == PREDICTION
    assert [[entry["class"] for entry in row] for row in found.to_pylist()] == [[9, 8, 7, 6, 5]] * 2


def test_a_prediction_alone_has_no_heat_map(picture: str) -> None:
    run = start(p.Predictions(occlude(picture, runs=())))
    (batch,) = run.batches()
    assert batch.schema.names == ["image", "class", "label", "base", "prediction"]
    assert b"kryptondb.heatmap" not in batch.schema.metadata
    assert run.stats.positions == 0
