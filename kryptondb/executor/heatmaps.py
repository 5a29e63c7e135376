"""HEATMAP, ATTRIBUTION and PREDICTION: the cells of one image and class as one row.

A heat map holds the **drop** of each position, `base - score`: how much the predicted score falls when the patch stands
there, so that what matters is high. The paper's map (section 3, `M[x, y] = f(I_xy, C)`) is the score itself:
`base - heatmap`, with `base` beside it in the row. The schema's metadata says so under `kryptondb.heatmap`.

An attribution is the same at the resolution of the model's input: each pixel has the mean drop over the cells whose
patch covers it, as Captum's `Occlusion` gives it for all channels together.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing

import numpy as np
import pyarrow as pa

from kryptondb.executor.cells import labels_of
from kryptondb.executor.resources import RowMemory
from kryptondb.executor.stages import ImageAnswer, Piece, Stage
from kryptondb.network import Grid
from kryptondb.optimizer.nodes import MAP_COLUMNS

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


def map_type(height: int, width: int) -> pa.DataType:
    """The Arrow type of a heat map or an attribution: a fixed-shape tensor of float32."""
    return pa.fixed_shape_tensor(pa.float32(), (height, width))


def heat_maps(cells: Stage, grid: Grid, columns: Sequence[str], memory: RowMemory | None = None) -> Stage:
    """One row for each image and class that was computed; a position without a cell is NaN.

    Args:
        columns: image, class, label, base, then any of heatmap (grid rows x grid columns), attribution (one value a
            pixel of the model's input, NaN where no computed cell covers it) and prediction.

    Holds one image's maps at a time: k x rows x cols float32, and k x height x width of attributions.
    """
    schema = _schema(grid, columns)
    map_types = [field.type for field in schema if isinstance(field.type, pa.FixedShapeTensorType)]
    map_bytes = sum(4 * math.prod(kind.shape) for kind in map_types)
    row_at, col_at, class_at, drop_at = (cells.schema.get_field_index(name) for name in ("row", "col", "class", "drop"))

    def start() -> Generator[Piece, None, None]:
        maps: np.ndarray | None = None
        with closing(cells.start()) as pieces:
            for piece in pieces:
                image, batch = piece.image, piece.batch
                assert image is not None, "heat maps are made of one image's cells at a time"
                if maps is None:
                    if memory is not None:
                        memory.hold("the heat maps of one image", len(image.run.classes) * map_bytes)
                    maps = np.full((len(image.run.classes), grid.rows, grid.cols), np.nan, dtype=np.float32)
                if batch.num_rows:
                    index = _positions_of(image.run.classes, batch.column(class_at).to_numpy())
                    maps[index, batch.column(row_at).to_numpy(), batch.column(col_at).to_numpy()] = batch.column(
                        drop_at
                    ).to_numpy()
                if piece.last:
                    tensors = {"heatmap": maps}
                    if "attribution" in columns:
                        tensors["attribution"] = attributions(maps, grid)
                    rows = _rows(image, schema, tensors)
                    del tensors, maps
                    maps = None
                    if memory is not None:  # the reader counts what it keeps of them
                        memory.hold("the heat maps of one image", 0)
                    yield Piece(rows, image, last=True)

    return Stage(schema, start)


def predictions(cells: Stage) -> Stage:
    """One row for each image and class: image, class, label, base, prediction. Cells that come in are passed over."""
    schema = _schema(None, (*MAP_COLUMNS, "prediction"))

    def start() -> Generator[Piece, None, None]:
        with closing(cells.start()) as pieces:
            for piece in pieces:
                if piece.last:
                    assert piece.image is not None, "predictions are made of one image at a time"
                    yield Piece(_rows(piece.image, schema, {}), piece.image, last=True)

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


def attributions(maps: np.ndarray, grid: Grid) -> np.ndarray:
    """Drops of cells [k, rows, cols], NaN where there is none -> of pixels, float32 [k, height, width].

    Source: Captum's `Occlusion`: the mean, over the windows that hold a pixel, of what the score falls under each.
    """
    coverages = [
        coverage(grid.height, grid.tops, grid.patch[0]),
        coverage(grid.width, grid.lefts, grid.patch[1]),
    ]
    if not len(maps) or np.isfinite(maps).all():
        return averaged(maps, coverages)
    # a predicate on drops leaves out other cells for each class
    return np.concatenate([averaged(class_map[None], coverages, np.isfinite(class_map)) for class_map in maps])


def _schema(grid: Grid | None, columns: Sequence[str]) -> pa.Schema:
    types = {"image": pa.string(), "class": pa.int32(), "label": pa.string(), "base": pa.float32()}
    if grid is not None:
        types |= {"heatmap": map_type(grid.rows, grid.cols), "attribution": map_type(grid.height, grid.width)}
    types["prediction"] = PREDICTION
    return pa.schema([pa.field(name, types[name], nullable=name == "label") for name in columns])


def _positions_of(classes: list[int], wanted: np.ndarray) -> np.ndarray:
    """Where each wanted class stands in `classes`."""
    order = np.argsort(classes, kind="stable")
    found: np.ndarray = order[np.searchsorted(np.asarray(classes)[order], wanted)]
    return found


def _rows(image: ImageAnswer, schema: pa.Schema, tensors: Mapping[str, np.ndarray]) -> pa.RecordBatch:
    """The image's rows; tensors float32 [k, height, width] by the names of their columns."""
    k = len(image.run.classes)
    columns: list[pa.Array] = [
        pa.repeat(pa.scalar(image.name, pa.string()), k),
        pa.array(image.run.classes, pa.int32()),
        labels_of(image.labels, image.run.classes),
        pa.array(np.asarray(image.run.base).astype(np.float32)),
    ]
    for name, maps in tensors.items():
        if name in schema.names:
            kind = schema.field(name).type
            storage = pa.FixedSizeListArray.from_arrays(pa.array(maps.reshape(-1)), maps.shape[1] * maps.shape[2])
            columns.append(pa.ExtensionArray.from_storage(kind, storage.cast(kind.storage_type)))
    if "prediction" in schema.names:
        columns.append(prediction_rows(np.asarray(image.run.prediction), image.labels, k))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def coverage(size: int, starts: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
    """Which pixels of an axis each window covers, float64 [size, windows]; what reaches beyond the axis is cut."""
    pixels = np.arange(size)[:, None]
    first = np.asarray(starts, dtype=np.int64)[None, :]
    covered: np.ndarray = ((pixels >= first) & (pixels < first + length)).astype(np.float64)
    return covered


def averaged(values: np.ndarray, coverages: Sequence[np.ndarray], known: np.ndarray | None = None) -> np.ndarray:
    """The mean of each pixel's windows, summed in float64; NaN where no known window covers it.

    Args:
        values: one a window and map, [maps, windows down, windows across, ...].
        coverages: for each axis of windows, `coverage`: [size, windows].
        known: which windows count, boolean [windows down, windows across, ...]; None for all of them.

    Returns:
        float32 [maps, size, size, ...].
    """
    counted = np.ones(values.shape[1:]) if known is None else known.astype(np.float64)
    counts = _spread(counted, coverages)
    maps = np.empty((len(values), *counts.shape), dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        for number, class_values in enumerate(values):
            filled = class_values if known is None else np.where(known, class_values, 0.0)
            maps[number] = _spread(filled.astype(np.float64), coverages) / counts
    return maps


def _spread(values: np.ndarray, coverages: Sequence[np.ndarray]) -> np.ndarray:
    """The sum over each pixel's windows: one matrix an axis, for a window is a product of spans."""
    for axis, cover in enumerate(coverages):
        values = np.moveaxis(np.tensordot(cover, values, axes=(1, axis)), 0, axis)
    return values
