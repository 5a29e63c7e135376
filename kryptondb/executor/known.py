"""An image's answer that was computed before its turn: it waits as one map, and is handed on like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from kryptondb.executor.operators import Scores


@dataclass(eq=False)
class Known:
    """One image's exact answer; `executor.stages.ImageRun`.

    Attributes:
        prediction: probabilities of all classes, float64 [classes].
        classes: the k classes that are scored.
        base: their scores with nothing occluded, float64 [k].
        scores: of every position, float64 [k, rows, cols].
        flops: operations that were done for it.
        spent: nothing, for its turn takes no time.
        unsteady: None: models that answer one picture in two ways are not measured.
    """

    prediction: np.ndarray
    classes: list[int]
    base: np.ndarray
    scores: np.ndarray
    flops: float
    spent: Mapping[str, float] = field(default_factory=dict)
    unsteady: str | None = None

    def allot(self, time_left: Callable[[], float]) -> None:
        """Takes no time."""

    def __iter__(self) -> Iterator[Scores]:
        rows, cols = self.scores.shape[1:]
        across = np.arange(cols, dtype=np.int32)
        for row in range(rows):
            yield Scores(np.full(cols, row, dtype=np.int32), across, self.scores[:, row].T)
