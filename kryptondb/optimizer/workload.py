"""What an operator is asked to do for one image: all that its cost depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np

from kryptondb.network import Grid, Network
from kryptondb.network.fused import Fusion
from kryptondb.optimizer.grid_cells import CellsByKind, GridCells
from kryptondb.options.words import PRECISIONS

if TYPE_CHECKING:
    from kryptondb.optimizer.logical import Context

Runs = tuple[tuple[int, int, int], ...]

#: Bytes of one number in each precision that networks run in, in the order of `options.words.PRECISIONS`.
ELEMENT_BYTES = dict(zip(PRECISIONS, (4, 8, 2, 2), strict=True))
#: The same of the base that rounded differences lie beside.
BASE_BYTES = ELEMENT_BYTES["float32"]
#: A plan holds at most so many runs.
MOST_RUNS = 1 << 16
#: A mask of a large grid is read so many rows at a time.
_ROWS_AT_ONCE = 512
#: Those whose rounding shows in a heat map: answers are approximate.
REDUCED_PRECISIONS = ("bfloat16", "float16")


def runs_of_mask(mask: np.ndarray) -> Runs:
    """A boolean grid [rows, cols] as runs `(row, first column, last column)`, both included, in reading order."""
    runs: list[tuple[int, int, int]] = []
    edge = np.zeros((1, 1), dtype=np.int8)
    for start in range(0, len(mask), _ROWS_AT_ONCE):
        rows = mask[start : start + _ROWS_AT_ONCE].astype(np.int8)
        beside = np.broadcast_to(edge, (len(rows), 1))
        change = np.diff(np.concatenate((beside, rows, beside), axis=1), axis=1)
        row, first = np.nonzero(change == 1)
        _, behind = np.nonzero(change == -1)
        runs += zip((start + row).tolist(), first.tolist(), (behind - 1).tolist(), strict=True)
    return tuple(runs)


def some_cells(mask: np.ndarray) -> Runs | GridCells:
    """The cells of a boolean grid [rows, cols]: as runs, or by kind where these would be too many to hold."""
    runs = np.count_nonzero(mask[:, 0]) + np.count_nonzero(mask[:, 1:] > mask[:, :-1])
    return runs_of_mask(mask) if runs <= MOST_RUNS else CellsByKind.of_mask(mask)


def cells_in(some: Runs | GridCells) -> int:
    """How many cells there are."""
    if isinstance(some, GridCells):
        return some.count
    return sum(last - first + 1 for _, first, last in some)


def mask_of_runs(runs: Runs | GridCells | None, rows: int, cols: int) -> np.ndarray:
    """The inverse of `runs_of_mask`; None is the whole grid. Boolean [rows, cols]."""
    if isinstance(runs, GridCells):
        return runs.mask
    return np.ones((rows, cols), dtype=bool) if runs is None else _drawn(_table(runs), rows, cols)


def cells_of(some: Runs | GridCells | None, grid: Grid) -> GridCells:
    """The cells of a grid that runs hold; None is the whole grid."""
    if isinstance(some, GridCells):
        return some
    if some is None:
        return CellsByKind.all_of((grid.rows, grid.cols))
    runs = _table(some)
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    begins = np.searchsorted(runs[:, 0], np.arange(grid.rows + 1)).tolist()
    kinds: dict[bytes, int] = {}
    examples: list[np.ndarray] = []
    of_rows = np.empty(grid.rows, dtype=np.int64)
    for row, (begin, end) in enumerate(pairwise(begins)):
        kind = of_rows[row] = kinds.setdefault(runs[begin:end, 1:].tobytes(), len(kinds))
        if kind == len(examples):
            examples.append(np.insert(runs[begin:end, 1:], 0, kind, axis=1))
    by_kind = CellsByKind.of_mask(_drawn(np.concatenate(examples), len(examples), grid.cols))
    return replace(by_kind, rows=by_kind.rows[of_rows])


def _table(runs: Iterable[tuple[int, int, int]]) -> np.ndarray:
    """Runs as int64 [runs, 3]."""
    return np.fromiter(chain.from_iterable(runs), dtype=np.int64).reshape(-1, 3)


def _drawn(runs: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """The boolean grid [rows, cols] of a table of runs."""
    row, first, last = runs.T
    change = np.zeros((rows, cols + 1), dtype=np.int8)
    change[row, first] += 1
    change[row, last + 1] -= 1  # where another run begins right behind it, nothing changes
    np.cumsum(change, axis=1, dtype=np.int8, out=change)
    return change[:, :cols].astype(bool)


@dataclass(frozen=True)
class Workload:
    """One image's occlusion experiment.

    Attributes:
        network: the traced network.
        grid: every position of the patch.
        runs: the cells to compute, as runs or as planning looks at them; None for all of them.
        classes: how many classes are scored.
        device: a torch device string.
        memory_limit: bytes that activations may take.
        precision: the torch dtype's name, one of `ELEMENT_BYTES`.
    """

    network: Network
    grid: Grid
    runs: Runs | GridCells | None
    classes: int
    device: str
    memory_limit: int
    precision: str = "float32"

    @cached_property
    def cells(self) -> GridCells:
        """Which cells to compute."""
        return cells_of(self.runs, self.grid)

    @property
    def mask(self) -> np.ndarray:
        """The same, boolean [rows, cols]."""
        return self.cells.mask

    @property
    def positions(self) -> int:
        """How many cells to compute."""
        return self.cells.count

    @property
    def fusions(self) -> Mapping[int, Fusion]:
        """Activations that its network runs inside their convolutions, on its device and in its precision."""
        return self.network.fusions if (self.device, self.precision) == ("cpu", "float32") else {}

    @property
    def element_bytes(self) -> int:
        """Bytes of one activation."""
        return ELEMENT_BYTES[self.precision]


def memory_limit(context: Context, device: str) -> int:
    """Bytes for activations on a torch device.

    With `memory_limit = 'auto'` the amount is rounded down to 1 or 1.5 times a power of two: what is free changes from
    moment to moment, and the same statement should get the same plan.
    """
    limit = context.settings.memory_limit_bytes()
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        limit = min(limit, free * 9 // 10)
    return _rounded_down(limit) if context.settings.get("memory_limit") == "auto" else limit


def _rounded_down(limit: int) -> int:
    power = 1 << max(0, limit.bit_length() - 1)
    return power + power // 2 if limit >= power + power // 2 else power
