"""Cells: an experiment's scores as Arrow record batches, one row a position, class and image.

`drop` is `base - score`, subtracted in float64 and then rounded to float32 like its two parts, so it can differ from
the difference of the rounded columns in the last digit; it is the more accurate of the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from kryptondb.executor.pieces import BATCH_ROWS, ImageAnswer, Scores
from kryptondb.network import Grid

#: LANGUAGE.md's columns. `label` is NULL where the model has no label for the class; nothing else can be.
CELLS = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("class", pa.int32(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("col", pa.int32(), nullable=False),
        pa.field("y", pa.int32(), nullable=False),
        pa.field("x", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("base", pa.float32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("drop", pa.float32(), nullable=False),
        pa.field("exact", pa.bool_(), nullable=False),
    ]
)


def cell_batches(
    image: ImageAnswer,
    scores: Scores,
    grid: Grid,
    *,
    rows: int = BATCH_ROWS,
) -> Iterator[pa.RecordBatch]:
    """The cells of n positions and k classes as batches of at most `rows` rows (or k, if that is more).

    Within a batch the classes come one after the other, each with its positions in the order they were computed.
    """
    k = len(image.run.classes)
    if k == 0:
        return
    step = max(1, rows // k)
    exact = np.broadcast_to(scores.exact, scores.rows.shape)
    for first in range(0, len(scores.rows), step):
        part = slice(first, first + step)
        yield _cells(image, scores.rows[part], scores.cols[part], scores.scores[part], exact[part], grid)


def _cells(
    image: ImageAnswer,
    rows: np.ndarray,
    cols: np.ndarray,
    scores: np.ndarray,
    exact: np.ndarray,
    grid: Grid,
) -> pa.RecordBatch:
    """One batch: rows and cols int32 [n], scores float64 [n, k], exact boolean [n] -> n * k rows."""
    n, k = scores.shape
    classes = np.asarray(image.run.classes, dtype=np.int32)
    base = np.asarray(image.run.base, dtype=np.float64)
    by_class = np.ascontiguousarray(np.asarray(scores, dtype=np.float64).T)  # [k, n]
    row, col = np.tile(rows.astype(np.int32), k), np.tile(cols.astype(np.int32), k)
    labels = labels_of(image.labels, image.run.classes)
    columns = [
        pa.repeat(pa.scalar(image.name, pa.string()), n * k),
        pa.array(np.repeat(classes, n)),
        labels.take(pa.array(np.repeat(np.arange(k), n))),
        pa.array(row),
        pa.array(col),
        pa.array(grid.tops.astype(np.int32)[row]),
        pa.array(grid.lefts.astype(np.int32)[col]),
        pa.array(grid.heights.astype(np.int32)[row]),
        pa.array(grid.widths.astype(np.int32)[col]),
        pa.array(np.repeat(base.astype(np.float32), n)),
        pa.array(by_class.astype(np.float32).ravel()),
        pa.array((base[:, None] - by_class).astype(np.float32).ravel()),
        pa.array(np.tile(exact, k)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=CELLS)


def labels_of(labels: Sequence[str], classes: Sequence[int]) -> pa.Array:
    """The label of each class, NULL where the model has none."""
    return pa.array([labels[index] if 0 <= index < len(labels) else None for index in classes], pa.string())
