"""The contenders: Captum, MONAI, plain batches in torch, and KryptonDB's operators, behind one face."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from benchmarks.clock import now
from benchmarks.rounds import Round, runs_of_cells
from benchmarks.subject import Subject
from kryptondb.catalog.settings import free_memory
from kryptondb.executor.operators import AnyOperator, Incremental
from kryptondb.executor.runner import ModelRunner
from kryptondb.executor.tiles.tilings import tiling_of
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Runs, Workload, cells_of
from kryptondb.process.memory import keeping_freed_memory

BATCH = 16
CHECKED = 8  # cells of each contender that are computed in float64 too
Cells = dict[tuple[int, int], float]  # row and column of the grid -> probability of the class


@dataclass(frozen=True)
class Turn:
    """What one round took a contender.

    Attributes:
        seconds: of its work.
        positions: how many it computed in them.
        operations: that it did for them, convolutions counted as direct ones.
    """

    seconds: float
    positions: int
    operations: float


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
        start = now(self.subject.device)
        found = [self.probabilities(part.cells[at : at + BATCH]) for at in range(0, len(part.cells), BATCH)]
        seconds = now(self.subject.device) - start
        self.found.update(_cells(part.cells, np.concatenate(found)))
        self.turns.append(_inferences(self.subject, seconds, len(part.cells)))

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


@dataclass(frozen=True)
class Work:
    """What one run of an operator did.

    Attributes:
        found: the probabilities of its cells.
        preparing: seconds before the first cell; seconds: from there to the last.
        operations: from the first cell to the last.
    """

    found: Cells
    preparing: float
    seconds: float
    operations: float


@dataclass(eq=False)
class Ours:
    """One of KryptonDB's operators, as a query runs it, which keeps freed memory at hand.

    What it does once per image (the unoccluded inference, and for `incremental` the base) is timed by itself, and each
    turn is charged for it by the turn's part of the whole grid. So is recording CUDA graphs, once per query: a plan
    with graphs runs twice, and the additional time of the first run is that of recording.

    Attributes:
        whole_bands: whether a turn computes every cell of its band.
        variant: what sets it apart from another contender with the same operator.
        precision: what the network runs in.
        preparing: seconds that each turn's preparation took.
    """

    subject: Subject
    operator: AnyOperator
    whole_bands: bool
    variant: str = ""
    precision: str = "float32"
    found: Cells = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    preparing: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.operator.name}, {self.variant}" if self.variant else self.operator.name

    def warm(self) -> None:
        grid = self.subject.grid
        self.compute(((0, 0, min(grid.cols, 7) - 1),))

    def turn(self, part: Round) -> None:
        work = self.compute(part.band if self.whole_bands else part.runs)
        self.preparing.append(work.preparing)
        self.found.update(work.found)
        charged = len(work.found) / self.subject.grid.size
        operations = work.operations + self.subject.network.flops * charged
        self.turns.append(Turn(work.seconds + work.preparing * charged, len(work.found), operations))

    def compute(self, runs: Runs | None) -> Work:
        """Computes some cells of the grid, or all of them."""
        runner = self.runner(runs)
        with keeping_freed_memory():
            work = self._timed(runner)
            if isinstance(self.operator, Incremental) and self.operator.graphs:
                again = self._timed(runner)
                recording = max(0.0, work.seconds - again.seconds) * self._shapes(None) / self._shapes(runs)
                work = replace(again, preparing=again.preparing + recording)
        return work

    def runner(self, runs: Runs | None) -> ModelRunner:
        """What a query of some cells of the grid, or of all of them, sets up."""
        subject = self.subject
        return ModelRunner(
            experiment=subject.experiment(runs),
            model=subject.model,
            network=subject.network,
            operator=self.operator,
            device=subject.device,
            precision=self.precision,
            memory=self._memory,
        )

    @cached_property
    def _memory(self) -> int:
        """Bytes that a query of the whole grid may hold."""
        subject, limit = self.subject, free_memory() // 2
        workload = Workload(subject.network, subject.grid, None, 1, subject.device, limit, self.precision)
        return self.operator.estimate(workload, Rates()).within(limit).memory

    def _timed(self, runner: ModelRunner) -> Work:
        device = self.subject.device
        start = now(device)
        run = runner.run(self.subject.picture)
        prepared = now(device)
        before = run.flops
        blocks = list(run)
        end = now(device)
        found: Cells = {}
        for block in blocks:
            found.update(_cells(np.stack([block.rows, block.cols], axis=1), block.scores[:, 0]))
        return Work(found, prepared - start, end - prepared, run.flops - before)

    def _shapes(self, runs: Runs | None) -> int:
        """How many graphs are recorded for some cells of the grid, or for all."""
        assert isinstance(self.operator, Incremental)
        subject = self.subject
        return tiling_of(
            subject.network, subject.grid, cells_of(runs, subject.grid), self.operator.tile, uniform=True
        ).shapes


class _Enough(Exception):
    """A turn of Captum's is over."""


@dataclass(eq=False)
class Captum:
    """`captum.attr.Occlusion` on the whole image.

    It takes no list of positions. So it computes a map of its own, whose strides are multiples of the grid's and
    give about as many positions as the others compute. Its turns are cut inside the forward function: when a share is
    done, an exception ends the call. The next turn calls again, gets at once what was computed before, and its
    clock starts where the last one stopped. Every inference counts, also of the unoccluded image and of windows that
    stick out of the image.

    Attributes:
        rounds: how many turns it will get.
        positions: about how many it computes in them; a map with more of them stays unfinished.
        batch: its `perturbations_per_eval`.
        variant: what sets it apart from another contender of this class.
    """

    subject: Subject
    rounds: int
    positions: int
    batch: int = BATCH
    variant: str = ""
    found: Cells = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    MODULE: ClassVar[str] = "captum"

    def __post_init__(self) -> None:
        self._strides = self._chosen_strides()
        self._total = 1 + min(self.positions, self._windows(0, self._strides[0]) * self._windows(1, self._strides[1]))
        self._answers: list[torch.Tensor] = []  # of all calls of the forward function
        self._done = 0

    @property
    def name(self) -> str:
        return f"Captum {self.variant}" if self.variant else "Captum"

    def warm(self) -> None:
        with torch.no_grad():
            self.subject.module(self.subject.image.repeat(self.batch, 1, 1, 1))

    def turn(self, part: Round) -> None:
        from captum.attr import Occlusion  # type: ignore[import-untyped]

        subject, before, calls = self.subject, self._done, 0
        goal = self._total * (len(self.turns) + 1) / self.rounds
        if before >= goal:  # batches were larger than shares
            self.turns.append(Turn(0.0, 0, 0.0))
            return
        start = None if before else now(subject.device)

        def forward(images: torch.Tensor) -> torch.Tensor:
            nonlocal calls, start
            calls += 1
            if calls <= len(self._answers):
                return self._answers[calls - 1]
            if start is None:
                start = now(subject.device)
            if self._done >= goal:
                raise _Enough
            self._answers.append(torch.softmax(subject.module(images), dim=1)[:, subject.target])
            self._done += len(images)
            return self._answers[-1]

        with contextlib.suppress(_Enough):
            Occlusion(forward).attribute(
                subject.image,
                sliding_window_shapes=(subject.image.shape[1], *subject.grid.patch),
                strides=(subject.image.shape[1], *self._strides),
                baselines=subject.painted,
                perturbations_per_eval=self.batch,
            )
        assert start is not None  # the goal was ahead, so there was something to compute
        self.turns.append(_inferences(subject, now(subject.device) - start, self._done - before))
        self._remember(torch.cat(self._answers)[1:].double().cpu().numpy())

    def _remember(self, probabilities: np.ndarray) -> None:
        """Puts the probabilities of the first windows where they belong; Captum goes through them column by column."""
        grid, down = self.subject.grid, self._windows(0, self._strides[0])
        for number, probability in enumerate(probabilities.tolist()):
            row = number % down * self._strides[0] // grid.stride[0]
            col = number // down * self._strides[1] // grid.stride[1]
            if row < grid.rows and col < grid.cols:
                self.found[row, col] = probability

    def _windows(self, axis: int, stride: int) -> int:
        grid = self.subject.grid
        return -(-((grid.height, grid.width)[axis] - grid.patch[axis]) // stride) + 1

    def _chosen_strides(self) -> tuple[int, int]:
        patch, stride = self.subject.grid.patch, self.subject.grid.stride
        per_axis = [range(stride[axis], patch[axis] + 1, stride[axis]) for axis in (0, 1)]
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
        start = now(self.subject.device)
        scores = self._map(int(grid.ys[row]), down)
        seconds = now(self.subject.device) - start
        per_row, per_col = grid.patch[0] // grid.stride[0], grid.patch[1] // grid.stride[1]
        for i in range(down):
            for j in range(across):
                # The first row and column of what comes back are the middles of the first windows.
                self.found[row + i * per_row, j * per_col] = float(scores[i * grid.patch[0], j * grid.patch[1]])
        self.turns.append(_inferences(self.subject, seconds, down * across))

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


def _inferences(subject: Subject, seconds: float, positions: int) -> Turn:
    """A turn in which every position was one inference."""
    return Turn(seconds, positions, positions * subject.network.flops)


def race(contenders: Sequence[Contender], rounds: Sequence[Round]) -> None:
    """Lets everyone take one turn a round; who begins moves on from round to round."""
    for number, part in enumerate(rounds):
        for place in range(len(contenders)):
            contenders[(place + number) % len(contenders)].turn(part)


def complete(incremental: Ours, others: Sequence[Contender]) -> None:
    """Lets `incremental` compute, untimed, what others did outside its bands, so that all have cells to compare."""
    missing = sorted({cell for other in others for cell in other.found} - set(incremental.found))
    if missing:
        cells = np.array(missing, dtype=np.int64)
        incremental.found.update(incremental.compute(runs_of_cells(incremental.subject.grid, cells)).found)


def reference(subject: Subject, others: Sequence[Contender]) -> Cells:
    """Float64 inference of a few cells of each contender, to tell rounding from a wrong answer."""
    wanted: set[tuple[int, int]] = set()
    for other in others:
        cells = sorted(other.found)
        wanted.update(cells[:: -(-len(cells) // CHECKED)])
    cells = sorted(wanted)
    exact = Plain(subject, dtype=torch.float64)
    parts = [np.array(cells[at : at + BATCH], dtype=np.int64) for at in range(0, len(cells), BATCH)]
    return {cell: p for part in parts for cell, p in _cells(part, exact.probabilities(part)).items()}
