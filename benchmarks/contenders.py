"""The contenders: Captum, MONAI, plain batches in torch, and KryptonDB's operators, behind one face."""

from __future__ import annotations

import copy
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from benchmarks.rounds import Round, runs_of_cells
from benchmarks.subject import Subject
from kryptondb.executor.experiment import Experiment
from kryptondb.executor.operators import Full, Incremental
from kryptondb.optimizer.physical import ClassChoice
from kryptondb.optimizer.workload import Runs

BATCH = 16
CHECKED = 8  # cells of each contender that are computed in float64 too
Cells = dict[tuple[int, int], float]  # row and column of the grid -> probability of the class


@dataclass(frozen=True)
class Turn:
    """What one round took a contender: seconds, and how many positions it computed in them."""

    seconds: float
    positions: int


class Contender(Protocol):
    """Something that makes occlusion maps, a turn at a time.

    Attributes:
        found: the probabilities that it computed.
        turns: what it did in each round.
    """

    found: Cells
    turns: list[Turn]

    @property
    def name(self) -> str:
        """As the table shows it."""

    def warm(self) -> None:
        """Runs what only the first call pays."""

    def turn(self, part: Round) -> None:
        """Computes its share of a round."""


def _clock(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass(eq=False)
class Plain:
    """What a careful user writes: inference mode, channels last, batches of occluded images."""

    subject: Subject
    name: str = "plain batches"
    found: Cells = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        module = copy.deepcopy(self.subject.module).to(self.dtype)
        self._module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._image = self.subject.image.to(self.dtype)

    def warm(self) -> None:
        self.probabilities(np.zeros((BATCH, 2), dtype=np.int64))

    def turn(self, part: Round) -> None:
        start = _clock(self.subject.device)
        found = [self.probabilities(part.cells[at : at + BATCH]) for at in range(0, len(part.cells), BATCH)]
        seconds = _clock(self.subject.device) - start
        self.found.update(_cells(part.cells, np.concatenate(found)))
        self.turns.append(Turn(seconds, len(part.cells)))

    @torch.inference_mode()
    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        """Of the class, with the patch at each cell [n, 2] of row and column."""
        subject = self.subject
        height, width = subject.grid.patch
        images = self._image.repeat(len(cells), 1, 1, 1).contiguous(memory_format=torch.channels_last)
        for image, (row, col) in zip(images, cells.tolist(), strict=True):
            y, x = int(subject.grid.ys[row]), int(subject.grid.xs[col])
            image[:, y : y + height, x : x + width] = subject.painted
        probabilities: np.ndarray = torch.softmax(self._module(images), dim=1)[:, subject.target].cpu().numpy()
        return probabilities


@dataclass(eq=False)
class Ours:
    """One of KryptonDB's operators, as a query runs it.

    What it does once an image (the unoccluded inference, and for `incremental` the base) is timed by itself, and each
    turn is charged for it by the turn's part of the whole grid.

    Attributes:
        whole_bands: whether a turn computes every cell of its band.
        preparing: seconds that each turn's preparation took.
    """

    subject: Subject
    operator: Full | Incremental
    whole_bands: bool
    found: Cells = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    preparing: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.operator.name

    def warm(self) -> None:
        grid = self.subject.grid
        self.compute(((0, 0, min(grid.cols, 7) - 1),))

    def turn(self, part: Round) -> None:
        found, preparing, seconds = self.compute(part.band if self.whole_bands else part.runs)
        self.preparing.append(preparing)
        self.found.update(found)
        charged = preparing * len(found) / self.subject.grid.size
        self.turns.append(Turn(seconds + charged, len(found)))

    def compute(self, runs: Runs) -> tuple[Cells, float, float]:
        """Cells, seconds before the first, and seconds from there to the last."""
        subject = self.subject
        experiment = Experiment(
            model=subject.model,
            network=subject.network,
            grid=subject.grid,
            runs=runs,
            fill=subject.fill,
            classes=ClassChoice("list", indices=(subject.target,)),
            score="probability",
            operator=self.operator,
            device=subject.device,
        )
        start = _clock(subject.device)
        run = experiment.run(subject.picture)
        prepared = _clock(subject.device)
        blocks = list(run)
        end = _clock(subject.device)
        found: Cells = {}
        for block in blocks:
            found.update(_cells(np.stack([block.rows, block.cols], axis=1), block.scores[:, 0]))
        return found, prepared - start, end - prepared


@dataclass(eq=False)
class Captum:
    """`captum.attr.Occlusion` over the whole image.

    It takes no list of positions, and no stride beyond the window's size. So it is asked once, for a map of its own
    whose strides are multiples of the grid's and give about as many positions as the others compute. Its turns are cut
    inside the forward function: when a share is done, the clock stops and the others take their turns first.
    (A thread of its own would do as well, but OpenMP then keeps two pools of workers, which slows everyone down.)
    Every inference counts, also of the unoccluded image and of windows that stick out of the image.

    A window further than half its size from its neighbours has a pixel in the middle that no other covers: there the
    attribution is that position's drop.
    """

    subject: Subject
    rounds: int
    positions: int
    name: str = "Captum"
    found: Cells = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    MODULE: ClassVar[str] = "captum"

    def __post_init__(self) -> None:
        self._strides = self._chosen_strides()
        self._total = 1 + self._windows(0, self._strides[0]) * self._windows(1, self._strides[1])
        self._done = 0  # of this turn
        self._start = 0.0

    def warm(self) -> None:
        with torch.no_grad():
            self.subject.module(self.subject.image.repeat(BATCH, 1, 1, 1))

    def run(self, pause: Callable[[], None]) -> None:
        """Makes the map; `pause` lets the others run between two turns."""
        from captum.attr import Occlusion

        subject, grid = self.subject, self.subject.grid
        share = self._total / self.rounds

        def forward(images: torch.Tensor) -> torch.Tensor:
            done = self._done + sum(turn.positions for turn in self.turns)
            if done >= share * (len(self.turns) + 1) and len(self.turns) < self.rounds - 1:
                self._end_turn()
                pause()
                self._start = _clock(subject.device)
            self._done += len(images)
            return torch.softmax(subject.module(images), dim=1)[:, subject.target]

        self._start = _clock(subject.device)
        attributions = Occlusion(forward).attribute(
            subject.image,
            sliding_window_shapes=(subject.image.shape[1], *grid.patch),
            strides=(subject.image.shape[1], *self._strides),
            baselines=subject.painted,
            perturbations_per_eval=BATCH,
        )
        self._end_turn()
        self.turns.extend([Turn(0.0, 0)] * (self.rounds - len(self.turns)))  # a map too small for so many turns
        drops = attributions[0, 0].double().cpu().numpy()
        middle_y, middle_x = grid.patch[0] // 2, grid.patch[1] // 2
        for y in range(0, grid.height - grid.patch[0] + 1, self._strides[0]):
            for x in range(0, grid.width - grid.patch[1] + 1, self._strides[1]):
                cell = (y // grid.stride[0], x // grid.stride[1])
                self.found[cell] = subject.base - float(drops[y + middle_y, x + middle_x])

    def _end_turn(self) -> None:
        self.turns.append(Turn(_clock(self.subject.device) - self._start, self._done))
        self._done = 0

    def _windows(self, axis: int, stride: int) -> int:
        grid = self.subject.grid
        return -(-((grid.height, grid.width)[axis] - grid.patch[axis]) // stride) + 1

    def _chosen_strides(self) -> tuple[int, int]:
        patch, stride = self.subject.grid.patch, self.subject.grid.stride
        per_axis = [[s for s in range(stride[a], patch[a] + 1, stride[a]) if s > patch[a] // 2] for a in (0, 1)]
        pairs = [(y, x) for y in per_axis[0] for x in per_axis[1]]
        return min(pairs, key=lambda pair: abs(self._windows(0, pair[0]) * self._windows(1, pair[1]) - self.positions))


@dataclass(eq=False)
class Monai:
    """`monai.visualize.OcclusionSensitivity`, in a box of whole windows side by side, a few rows of them a turn."""

    subject: Subject
    name: str = "MONAI"
    found: Cells = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    MODULE: ClassVar[str] = "monai"

    def __post_init__(self) -> None:
        from monai.visualize.occlusion_sensitivity import OcclusionSensitivity

        self._sensitivity: Any = OcclusionSensitivity(
            self.subject.module,
            mask_size=self.subject.grid.patch,
            n_batch=BATCH,
            verbose=False,
            mode=self.subject.painted,
            overlap=0.0,
        )

    def warm(self) -> None:
        # MONAI indexes with lists; torch says so at every call. It is nothing that a reader of the table can mend.
        warnings.filterwarnings("ignore", message="Using a non-tuple sequence", category=UserWarning)
        self._map(0, 1)

    def turn(self, part: Round) -> None:
        grid = self.subject.grid
        across = grid.width // grid.patch[1]
        down = min(max(1, round(len(part.cells) / across)), grid.height // grid.patch[0])
        row = min(part.band[0][0], (grid.height - down * grid.patch[0]) // grid.stride[0])
        start = _clock(self.subject.device)
        scores = self._map(int(grid.ys[row]), down)
        seconds = _clock(self.subject.device) - start
        per_row, per_col = grid.patch[0] // grid.stride[0], grid.patch[1] // grid.stride[1]
        for i in range(down):
            for j in range(across):
                # The first row and column of what comes back are the middles of the first windows.
                self.found[row + i * per_row, j * per_col] = float(scores[i * grid.patch[0], j * grid.patch[1]])
        self.turns.append(Turn(seconds, down * across))

    def _map(self, y: int, down: int) -> np.ndarray:
        """Probabilities by pixel for `down` rows of windows from `y` on, from the first's middle to the last's."""
        grid = self.subject.grid
        edges = [(side - 1) // 2 for side in grid.patch]  # MONAI adds this to the box on every side
        bottom, right = y + down * grid.patch[0], grid.width // grid.patch[1] * grid.patch[1]
        box = [y + edges[0], bottom - edges[0], edges[1], right - edges[1]]
        with torch.no_grad():
            found, _ = self._sensitivity(self.subject.image, b_box=box)
        scores: np.ndarray = found[0, self.subject.target].double().cpu().numpy()
        return scores


def _cells(cells: np.ndarray, probabilities: np.ndarray) -> Cells:
    return {
        (int(row), int(col)): float(p) for (row, col), p in zip(cells.tolist(), probabilities.tolist(), strict=True)
    }


def race(contenders: Sequence[Contender], host: Captum | None, rounds: Sequence[Round]) -> None:
    """Lets everyone take one turn a round; who begins moves on from round to round.

    Args:
        contenders: all but Captum, which can only be interrupted and so hosts the others' turns.
    """
    everyone: list[Contender | Captum] = [*([host] if host else []), *contenders]
    schedule = deque(
        (everyone[(place + number) % len(everyone)], part)
        for number, part in enumerate(rounds)
        for place in range(len(everyone))
    )

    def until_host() -> None:
        while schedule:
            contender, part = schedule.popleft()
            if isinstance(contender, Captum):
                return
            contender.turn(part)

    until_host()
    if host is not None:
        host.run(until_host)
        while schedule:
            until_host()


def complete(incremental: Ours, others: Sequence[Contender | Captum]) -> None:
    """Lets `incremental` compute, untimed, what others did outside its bands, so that all have cells to compare."""
    missing = sorted({cell for other in others for cell in other.found} - set(incremental.found))
    if missing:
        cells = np.array(missing, dtype=np.int64)
        incremental.found.update(incremental.compute(runs_of_cells(incremental.subject.grid, cells))[0])


def reference(subject: Subject, others: Sequence[Contender | Captum]) -> Cells:
    """Float64 inference of a few cells of each contender, to tell rounding from a wrong answer."""
    wanted: set[tuple[int, int]] = set()
    for other in others:
        cells = sorted(other.found)
        wanted.update(cells[:: -(-len(cells) // CHECKED)])
    cells = sorted(wanted)
    exact = Plain(subject, dtype=torch.float64)
    parts = [np.array(cells[at : at + BATCH], dtype=np.int64) for at in range(0, len(cells), BATCH)]
    return {cell: p for part in parts for cell, p in _cells(part, exact.probabilities(part)).items()}
