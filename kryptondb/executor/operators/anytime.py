"""`anytime`: rounds of ever finer lattices until time is up, interpolation elsewhere. Approximate."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import tee
from typing import Any, ClassVar, TypeVar

import numpy as np

from kryptondb.executor.approximation import StageCells, lattice_cells, steps_of
from kryptondb.executor.operators.anytime_run import UNSETTLED, AnytimeRun, Pace, endless
from kryptondb.executor.operators.context import ImageContext, Scores
from kryptondb.executor.operators.full import Full
from kryptondb.executor.operators.incremental import Incremental
from kryptondb.executor.operators.staged import FoundCells, Stage, Staged, part_of, reconstructing
from kryptondb.executor.tiles.costs import whole_seconds
from kryptondb.optimizer.cost import Cost, Rates
from kryptondb.optimizer.grid_cells import CellsByKind, GridCells
from kryptondb.optimizer.operator import Reach
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Workload

#: Of the lattice that rounds go through where no profile names one: to it by its multiples, from it to 1 by its parts.
STEP = 4
_BEFORE_ALL = 8  # the lattice that comes before all cells in one go: a 64th of them
_BLOCKS = 4  # that cells are computed in at least, for a run can stop only between two
_BLOCK = 4  # cells; fewer at once are slow
_GUIDE_BLOCK = 64
Tiled = TypeVar("Tiled", bound="Full | Incremental")


@dataclass(frozen=True)
class Anytime(Staged):
    """An anytime algorithm: a coarse map at once, a better one the longer it may run, and in the end the exact one.

    The cells of a coarse lattice come first. Then its step is halved round after round, and in each round the cells
    where the map is least sure come first. Where the recipe has a cap, a `thresholded` map of every cell follows the
    recipe's own lattice and guides from then on. Once time is up, what is missing is reconstructed.

    Attributes:
        at_once: whether all cells follow the recipe's lattice in one go, tile by tile: for a time that is expected to
            be enough for them. That is faster than rounds, and a poorer map where it is not enough.
    """

    name: ClassVar[str] = "anytime"
    at_once: bool = False

    @classmethod
    def recipe_of(cls, hints: Mapping[str, Any]) -> Recipe:
        return Recipe("drill-down", step=STEP)

    @classmethod
    def _shares(cls, cells: StageCells) -> tuple[GridCells, GridCells | None]:
        # There may be time for every cell; where there is not, blocks are smaller than what is planned.
        return cells.asked, cells.asked if cells.recipe.capped else None

    @classmethod
    def planned(cls, recipe: Recipe, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[Anytime]:
        """The cheapest operator for a recipe; it records no passes, for cells lie differently in each picture."""
        return [operator._unrecorded() for operator in super().planned(recipe, workload, rates, hints)]

    def for_enough_time(self) -> Anytime:
        """What computes every cell as fast as it can, and still has a map should the time not be enough for it."""
        return replace(self, recipe=replace(self.recipe, step=_BEFORE_ALL), at_once=True)

    def reach(self, workload: Workload, rates: Rates, seconds: float) -> Reach:
        """How far a run is estimated to come in `seconds` per image; the network must be a traced one."""
        costs, again = tee(self._costs(workload, rates))
        base = whole_seconds(workload.network, 1, rates, workload.element_bytes)
        nothing = Reach(step=0, guided=False, positions=0, seconds=base, flops=workload.network.flops, least=base)
        reached = _reached(costs, nothing, seconds)
        if reached.step == 1:
            return reached
        ending = reconstructing(workload, rates)
        least = reached.least + UNSETTLED * ending
        return replace(_reached(again, nothing, seconds - ending), seconds=max(seconds, least), least=least)

    def _costs(self, workload: Workload, rates: Rates) -> Iterator[tuple[_Round, Cost]]:
        """The rounds, each with what it costs, the base included."""
        for lattice_round in self._rounds(workload.cells.by_kind):
            yield lattice_round, lattice_round.stage.operator.estimate(part_of(workload, lattice_round.cells), rates)

    def describe(self, workload: Workload) -> str:
        """For EXPLAIN: the rounds, and what computes them."""
        *coarse, _ = self._steps(workload.cells.shape)
        every = ", ".join(str(step) for step in coarse)
        what = f"step {every}, then all others" if self.at_once else f"steps {every} and 1"
        how = f"{what} by {self.accurate.name} ({self.accurate.describe(workload)})"
        if self.cheap is not None:
            how += f"; after step {self.recipe.step} a guide by {self.cheap.name} ({self.cheap.describe(workload)})"
        return how

    def run(self, context: ImageContext) -> Iterator[Scores]:
        """Yields computed cells as they come and, once time is up, all others; `prepare` comes first."""
        if not context.mask.any():
            return
        found, accurate, cheap = FoundCells(context.mask.shape), self.accurate, self.cheap

        def exact(cells: np.ndarray) -> Generator[Scores, None, None]:
            block = max(_BLOCK, int(cells.sum()) // _BLOCKS)
            return self._run(Stage("exact", _in_blocks(accurate, block)), cells, context, found)

        def guide(cells: np.ndarray) -> Generator[Scores, None, None]:
            assert cheap is not None
            guide = _in_blocks(cheap, _GUIDE_BLOCK)
            return self._run(Stage("guide", guide, guides=True), cells, context, found)

        pace = Pace(context.time_left or endless, _BLOCK)
        rounds = AnytimeRun(
            context=context,
            recipe=self.recipe,
            steps=self._steps(context.mask.shape),
            at_once=self.at_once,
            found=found,
            exact=exact,
            guide=guide if cheap is not None else None,
            pace=pace,
        )
        yield from rounds.cells()

    def _first(self, cells: StageCells) -> Sequence[tuple[Stage, GridCells]]:
        return [(lattice_round.stage, lattice_round.cells) for lattice_round in self._rounds(cells.asked)]

    def _rounds(self, asked: CellsByKind) -> Iterator[_Round]:
        """All stages."""
        for step, cells in _cells_of_steps(asked, self._steps(asked.shape)):
            if cells.count:
                yield _Round(step, Stage(f"step {step}", self.accurate), cells)
            if self.cheap is not None and step == self.recipe.step:
                yield _Round(step, Stage("guide", self.cheap, guides=True), asked)

    def _steps(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of the lattices of a grid, the coarsest first."""
        return (self.recipe.step, 1) if self.at_once else steps_of(self.recipe.step, shape)

    def _unrecorded(self) -> Anytime:
        if isinstance(self.accurate, Full):
            return self
        return replace(self, accurate=replace(self.accurate, graphs=False))


@dataclass(frozen=True)
class _Round:
    """A stage, its cells, and the step of the finest lattice that is complete when it is done."""

    step: int
    stage: Stage
    cells: CellsByKind


@lru_cache(maxsize=4)  # a plan asks several times what its rounds cost
def _cells_of_steps(asked: CellsByKind, steps: tuple[int, ...]) -> tuple[tuple[int, CellsByKind], ...]:
    """For each step the cells of its lattice that no lattice before it has."""
    known, found = asked - asked, []
    for step in steps:
        cells = lattice_cells(asked, step) - known
        found.append((step, cells))
        known |= cells
    return tuple(found)


def _reached(rounds: Iterable[tuple[_Round, Cost]], nothing: Reach, seconds: float) -> Reach:
    """How far rounds come in `seconds`, without the time to reconstruct the map."""
    reached = nothing
    for lattice_round, cost in rounds:
        took, flops = cost.seconds - nothing.seconds, cost.flops - nothing.flops
        first = not reached.positions
        share = 1.0 if first or took <= 0 else min(1.0, (seconds - reached.seconds) / took)
        done = replace(
            reached,
            positions=reached.positions + (0 if lattice_round.stage.guides else int(share * lattice_round.cells.count)),
            seconds=reached.seconds + share * took,
            flops=reached.flops + share * flops,
            least=reached.seconds + took if first else reached.least,
        )
        if share < 1.0:
            return done if share > 0 else reached
        reached = replace(done, step=lattice_round.step, guided=reached.guided or lattice_round.stage.guides)
    return replace(reached, step=1)  # a grid of a few cells has them all before its rounds come to that


def _in_blocks(operator: Tiled, cells: int) -> Tiled:
    """The same operator with at most `cells` cells at once, in the tiles of all workers or under one head."""
    if isinstance(operator, Full):
        return replace(operator, batch=min(operator.batch, cells))
    rows, cols = operator.tile
    area = max(1, min(rows * cols, cells // operator.workers))
    rows = min(rows, max(1, math.isqrt(area)))
    return replace(operator, tile=(rows, area // rows), head=min(operator.head, cells))
