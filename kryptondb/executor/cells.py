"""Cells: an experiment's scores as Arrow record batches, one row a position, class and image.

`drop` is `base - score`, subtracted in float64 and then rounded to float32 like its two parts, so it can differ from
the difference of the rounded columns in the last digit; it is the more accurate of the two.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kryptondb.errors import ExecutionError
from kryptondb.executor.resources import RowMemory
from kryptondb.executor.stages import BATCH_ROWS, ImageAnswer
from kryptondb.network import Grid
from kryptondb.optimizer.grid_cells import GridCells
from kryptondb.optimizer.workload import Runs, mask_of_runs
from kryptondb.text.units import bytes_text

if TYPE_CHECKING:
    from kryptondb.executor.operators import Scores

_SCORES, _CELLS = "the scores of one image", "the cells of one image"
_BLOCK = 1 << 24  # bytes
_AHEAD = 4096  # positions that are looked at together for the next in order

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
        n = len(scores.rows[part])
        row, col = np.tile(scores.rows[part], k), np.tile(scores.cols[part], k)
        values = np.asarray(scores.scores[part], dtype=np.float64).T.ravel()
        yield _cells(image, np.repeat(np.arange(k), n), row, col, values, np.tile(exact[part], k), grid)


class InOrder:
    """The cells of one image by class, in the order the classes were asked for, then row, then column.

    Tiles come in any order. Holds the scores until their turn, 8 bytes for each position and class: in memory, or in a
    temporary file where there is no room for them.
    """

    def __init__(
        self,
        image: ImageAnswer,
        grid: Grid,
        runs: Runs | GridCells | None,
        rows: int = BATCH_ROWS,
        memory: RowMemory | None = None,
    ) -> None:
        """
        Args:
            runs: the grid's cells that are computed, None for all.
            rows: the most of a batch.
            memory: what there is for the scores, None for enough.

        Raises:
            ExecutionError: they fit neither in memory nor on the disk, or there is no room to say which cells they are.
        """
        self._image, self._grid, self._rows = image, grid, rows
        self._positions = None if runs is None else np.flatnonzero(mask_of_runs(runs, grid.rows, grid.cols))
        n = grid.size if self._positions is None else len(self._positions)
        shape = len(image.run.classes), n
        if memory is not None:  # which cells they are, known and exact: 8 bytes and two times one
            memory.hold(_CELLS, n * (2 if self._positions is None else 10))
        self._scores = (
            np.empty(shape) if memory is None or memory.fits(_SCORES, 8 * math.prod(shape)) else _on_disk(shape)
        )
        self._exact, self._known = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        self._ready = self._given = 0

    def add(self, tile: Scores) -> Iterator[pa.RecordBatch]:
        """Takes in some cells; those of the first class that are next in order come out."""
        if not len(self._scores):
            return
        at = tile.rows.astype(np.int64) * self._grid.cols + tile.cols
        if self._positions is not None:
            at = np.searchsorted(self._positions, at)
        self._scores[:, at], self._exact[at], self._known[at] = tile.scores.T, tile.exact, True
        while self._ready < len(self._known):
            ahead = self._known[self._ready : self._ready + _AHEAD]
            whole = bool(ahead.all())
            self._ready += len(ahead) if whole else int(ahead.argmin())
            if not whole:
                break
        yield from self._batches(self._ready)

    def rest(self) -> Iterator[pa.RecordBatch]:
        """All other cells that were taken in, once no more come."""
        yield from self._batches(self._scores.size)

    def _batches(self, end: int) -> Iterator[pa.RecordBatch]:
        """The cells from the last one given up to one, numbered class by class."""
        n = len(self._known)
        while self._given < end:
            number = np.arange(self._given, min(end, self._given + self._rows))
            self._given += len(number)
            kind, at = number // n, number % n
            if self._ready < n:  # a run that ended early
                kind, at = kind[self._known[at]], at[self._known[at]]
            row, col = np.divmod(at if self._positions is None else self._positions[at], self._grid.cols)
            yield _cells(self._image, kind, row, col, self._scores[kind, at], self._exact[at], self._grid)


def _cells(
    image: ImageAnswer,
    kind: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    scores: np.ndarray,
    exact: np.ndarray,
    grid: Grid,
) -> pa.RecordBatch:
    """One batch of n rows, from the place of each one's class, its row and column, score and exactness, all [n]."""
    classes = np.asarray(image.run.classes, dtype=np.int32)
    base = np.asarray(image.run.base, dtype=np.float64)
    row, col = rows.astype(np.int32), cols.astype(np.int32)
    labels = labels_of(image.labels, image.run.classes)
    columns = [
        pa.repeat(pa.scalar(image.name, pa.string()), len(kind)),
        pa.array(classes[kind]),
        labels.take(pa.array(kind)),
        pa.array(row),
        pa.array(col),
        pa.array(grid.tops.astype(np.int32)[row]),
        pa.array(grid.lefts.astype(np.int32)[col]),
        pa.array(grid.heights.astype(np.int32)[row]),
        pa.array(grid.widths.astype(np.int32)[col]),
        pa.array(base.astype(np.float32)[kind]),
        pa.array(scores.astype(np.float32)),
        pa.array((base[kind] - scores).astype(np.float32)),
        pa.array(exact),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=CELLS)


def _on_disk(shape: tuple[int, int]) -> np.ndarray:
    """float64 of this shape in a file that goes away with it."""
    size = 8 * math.prod(shape)
    try:
        with tempfile.TemporaryFile(prefix="kryptondb-") as file:
            # Now, so that a full disk is an error here: later it would be the end of the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for start in range(0, size, _BLOCK):
                    file.write(bytes(min(_BLOCK, size - start)))
                file.flush()
            return np.memmap(file, np.float64, "r+", shape=shape)
    except OSError as error:
        raise ExecutionError(
            f"no room for the scores of one image: {bytes_text(size)} fit neither in memory_limit nor in"
            f" {tempfile.gettempdir()}: {error.strerror or error}",
            hint="Ask for fewer classes or positions, SET memory_limit to more, or set TMPDIR to a larger disk.",
        ) from error


def labels_of(labels: Sequence[str], classes: Sequence[int]) -> pa.Array:
    """The label of each class, NULL where the model has none."""
    return pa.array([labels[index] if 0 <= index < len(labels) else None for index in classes], pa.string())
