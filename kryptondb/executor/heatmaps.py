"""HEATMAP and PREDICTION: the cells of one image and class as one row.

A heat map holds the **drop** of each position, `base - score`: how much the predicted score falls when the patch stands
there, so that what matters is high. The paper's map (section 3, `M[x, y] = f(I_xy, C)`) is the score itself:
`base - heatmap`, with `base` beside it in the row. The schema's metadata says so under `kryptondb.heatmap`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import numpy as np
import pyarrow as pa

from kryptondb.executor.cells import labels_of
from kryptondb.executor.pieces import ImageAnswer, Piece, Stage

#: How many classes PREDICTION lists, most probable first.
TOP_CLASSES = 5

PREDICTION = pa.list_(
    pa.struct(
        [
            pa.field("class", pa.int32(), nullable=False),
            pa.field("label", pa.string()),
            pa.field("probability", pa.float32(), nullable=False),
        ]
    )
)


def heatmap_type(rows: int, cols: int) -> pa.DataType:
    """The Arrow type of a heat map: a fixed-shape tensor of float32, grid rows by grid columns."""
    return pa.fixed_shape_tensor(pa.float32(), (rows, cols))


def heat_maps(cells: Stage, rows: int, cols: int, *, prediction: bool) -> Stage:
    """One row for each image and class that was computed; a position without a cell is NaN.

    Rows: image, class, label, base, heatmap [, prediction]. Holds one image's maps at a time: k x rows x cols float32.
    """
    schema = _schema(heatmap_type(rows, cols), prediction)
    row_at, col_at, class_at, drop_at = (cells.schema.get_field_index(name) for name in ("row", "col", "class", "drop"))

    def start() -> Generator[Piece, None, None]:
        maps: np.ndarray | None = None
        with closing(cells.start()) as pieces:
            for piece in pieces:
                image, batch = piece.image, piece.batch
                assert image is not None, "heat maps are made of one image's cells at a time"
                if maps is None:
                    maps = np.full((len(image.run.classes), rows, cols), np.nan, dtype=np.float32)
                if batch.num_rows:
                    index = _positions_of(image.run.classes, batch.column(class_at).to_numpy())
                    maps[index, batch.column(row_at).to_numpy(), batch.column(col_at).to_numpy()] = batch.column(
                        drop_at
                    ).to_numpy()
                if piece.last:
                    yield Piece(_rows(image, schema, maps), image, last=True)
                    maps = None

    return Stage(schema, start)


def predictions(cells: Stage) -> Stage:
    """One row for each image and class: image, class, label, base, prediction. Cells that come in are passed over."""
    schema = _schema(None, prediction=True)

    def start() -> Generator[Piece, None, None]:
        with closing(cells.start()) as pieces:
            for piece in pieces:
                if piece.last:
                    assert piece.image is not None, "predictions are made of one image at a time"
                    yield Piece(_rows(piece.image, schema, None), piece.image, last=True)

    return Stage(schema, start)


def prediction_rows(probabilities: np.ndarray, labels: tuple[str, ...], count: int) -> pa.Array:
    """`count` times the same list: the most probable classes, with their labels and probabilities [classes]."""
    top = _likeliest(probabilities)
    entries = pa.StructArray.from_arrays(
        [
            pa.array(top.astype(np.int32)),
            labels_of(labels, top.tolist()),
            pa.array(probabilities[top].astype(np.float32)),
        ],
        fields=list(PREDICTION.value_type),
    )
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * len(top))
    values = entries.take(pa.array(np.tile(np.arange(len(top)), count)))
    return pa.ListArray.from_arrays(offsets, values, type=PREDICTION)


def likeliest(probabilities: np.ndarray, labels: tuple[str, ...]) -> list[tuple[int, str | None, float]]:
    """The most probable classes with their labels and probabilities [classes], for those who need no Arrow."""
    top = _likeliest(probabilities).tolist()
    return [(index, labels[index] if index < len(labels) else None, float(probabilities[index])) for index in top]


def _likeliest(probabilities: np.ndarray) -> np.ndarray:
    """The indices of the most probable classes."""
    top: np.ndarray = np.argsort(-probabilities, kind="stable")[:TOP_CLASSES]
    return top


def _schema(heatmap: pa.DataType | None, prediction: bool) -> pa.Schema:
    fields = [
        pa.field("image", pa.string(), nullable=False),
        pa.field("class", pa.int32(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("base", pa.float32(), nullable=False),
    ]
    if heatmap is not None:
        fields.append(pa.field("heatmap", heatmap, nullable=False))
    if prediction:
        fields.append(pa.field("prediction", PREDICTION, nullable=False))
    return pa.schema(fields)


def _positions_of(classes: list[int], wanted: np.ndarray) -> np.ndarray:
    """Where each wanted class stands in `classes`."""
    order = np.argsort(classes, kind="stable")
    found: np.ndarray = order[np.searchsorted(np.asarray(classes)[order], wanted)]
    return found


def _rows(image: ImageAnswer, schema: pa.Schema, maps: np.ndarray | None) -> pa.RecordBatch:
    """The image's rows; maps float32 [k, rows, cols] when the schema has a heat map."""
    k = len(image.run.classes)
    columns: list[pa.Array] = [
        pa.repeat(pa.scalar(image.name, pa.string()), k),
        pa.array(image.run.classes, pa.int32()),
        labels_of(image.labels, image.run.classes),
        pa.array(np.asarray(image.run.base).astype(np.float32)),
    ]
    if maps is not None:
        kind = schema.field("heatmap").type
        storage = pa.FixedSizeListArray.from_arrays(pa.array(maps.reshape(-1)), maps.shape[1] * maps.shape[2])
        columns.append(pa.ExtensionArray.from_storage(kind, storage.cast(kind.storage_type)))
    if "prediction" in schema.names:
        columns.append(prediction_rows(np.asarray(image.run.prediction), image.labels, k))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
