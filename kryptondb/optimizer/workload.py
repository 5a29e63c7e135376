"""What an operator is asked to do for one image: all that its cost depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kryptondb.network import Grid, Network
from kryptondb.network.fused import Fusion

Runs = tuple[tuple[int, int, int], ...]

#: Bytes of one number in each precision that networks run in.
ELEMENT_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
#: The same of the base that rounded differences lie beside.
BASE_BYTES = ELEMENT_BYTES["float32"]
#: Those whose rounding shows in a heat map: answers are approximate.
REDUCED_PRECISIONS = ("bfloat16", "float16")


def runs_of_mask(mask: np.ndarray) -> Runs:
    """A boolean grid [rows, cols] as runs `(row, first column, last column)`, both included, in reading order."""
    runs: list[tuple[int, int, int]] = []
    for row in np.flatnonzero(mask.any(axis=1)):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], mask[row].astype(np.int8), [0]))))
        runs.extend((int(row), int(first), int(last) - 1) for first, last in zip(edges[::2], edges[1::2], strict=True))
    return tuple(runs)


def cells_in(runs: Iterable[tuple[int, int, int]]) -> int:
    """How many cells runs have together."""
    return sum(last - first + 1 for _, first, last in runs)


def mask_of_runs(runs: Iterable[tuple[int, int, int]] | None, rows: int, cols: int) -> np.ndarray:
    """The inverse of `runs_of_mask`; None is the whole grid. Boolean [rows, cols]."""
    if runs is None:
        return np.ones((rows, cols), dtype=bool)
    mask = np.zeros((rows, cols), dtype=bool)
    for row, first, last in runs:
        mask[row, first : last + 1] = True
    return mask


@dataclass(frozen=True)
class Workload:
    """One image's occlusion experiment.

    Attributes:
        network: the traced network.
        grid: every position of the patch.
        runs: the cells to compute, None for all of them.
        classes: how many classes are scored.
        device: a torch device string.
        memory_limit: bytes that activations may take.
        precision: the torch dtype's name, one of `ELEMENT_BYTES`.
    """

    network: Network
    grid: Grid
    runs: Runs | None
    classes: int
    device: str
    memory_limit: int
    precision: str = "float32"

    @cached_property
    def mask(self) -> np.ndarray:
        """Which cells to compute, boolean [rows, cols]."""
        return mask_of_runs(self.runs, self.grid.rows, self.grid.cols)

    @cached_property
    def positions(self) -> int:
        """How many cells to compute."""
        return self.grid.size if self.runs is None else cells_in(self.runs)

    @property
    def fusions(self) -> Mapping[int, Fusion]:
        """Activations that its network runs inside their convolutions, on its device and in its precision."""
        return self.network.fusions if (self.device, self.precision) == ("cpu", "float32") else {}

    @property
    def element_bytes(self) -> int:
        """Bytes of one activation."""
        return ELEMENT_BYTES[self.precision]
