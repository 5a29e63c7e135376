"""What flows through a running plan: pieces of an image's rows, pulled from the top, so that stopping stops everything.

A `Stage` is a schema, known before anything runs, and a way to start its rows. Rows come in `Piece`s, each of one image
(or of none, once rows of many images are mixed); the last piece of an image says so. Whoever pulls pieces closes their
iterator when done, early or not: that ends the work below at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

#: How many rows of one image are held before they are handed on.
BATCH_ROWS = 65_536


class Scores(Protocol):
    """Cells as an operator computes them: n positions, and their scores for k classes."""

    @property
    def rows(self) -> np.ndarray:
        """Grid rows of the positions, int32 [n]."""

    @property
    def cols(self) -> np.ndarray:
        """Grid columns of the positions, int32 [n]."""

    @property
    def scores(self) -> np.ndarray:
        """float64 [n, k]."""

    @property
    def exact(self) -> bool | np.ndarray:
        """Whether they are computed exactly: of all cells, or boolean [n]."""

    @property
    def computed(self) -> bool:
        """Whether the network ran for them; if not, they are reconstructed from others."""


class ImageRun(Protocol):
    """One image's occlusion experiment: what is known of the image as it is; iterating it yields `Scores` by tiles."""

    prediction: np.ndarray  # float64 [classes], probabilities
    classes: list[int]  # the k classes that are scored
    base: np.ndarray  # float64 [k], their scores with nothing occluded
    unsteady: str | None  # why no cell is exact, where the model has answered the image in two ways

    @property
    def flops(self) -> float:
        """Operations done so far."""

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds so far, by phase (`optimizer.cost.Phase`)."""

    def allot(self, time_left: Callable[[], float]) -> None:
        """Called before it is iterated: seconds that it may still take."""

    def __iter__(self) -> Iterator[Scores]: ...


@dataclass(frozen=True)
class ImageAnswer:
    """What is known of the image that a piece belongs to."""

    name: str
    run: ImageRun
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """Some rows. `image` is None when they belong to no single image; `last` ends one (its batch may be empty)."""

    batch: pa.RecordBatch
    image: ImageAnswer | None = None
    last: bool = False


@dataclass(frozen=True)
class Stage:
    """One step of a plan, ready to run: `start` begins its rows, with nothing done before the first is asked for."""

    schema: pa.Schema
    start: Callable[[], Generator[Piece, None, None]]

    def tables(self, rows: int = BATCH_ROWS) -> Generator[pa.Table, None, None]:
        """The rows as tables: one for each image, more where an image has over `rows` rows; none is empty."""
        held: list[pa.RecordBatch] = []
        count = 0
        with closing(self.start()) as pieces:
            for piece in pieces:
                if piece.batch.num_rows:
                    held.append(piece.batch)
                    count += piece.batch.num_rows
                if held and (piece.last or count >= rows):
                    yield pa.Table.from_batches(held, schema=self.schema)
                    held, count = [], 0
        if held:
            yield pa.Table.from_batches(held, schema=self.schema)


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """A table as one record batch, without copying when it holds one already."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else empty_batch(table.schema)


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """No rows of a schema."""
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
