"""One image's run of `anytime`: rounds, the clock, and the map of what is known when time is up."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from kryptondb.executor.approximation import Lattice, Round
from kryptondb.executor.operators.context import ImageContext, Scores
from kryptondb.executor.operators.staged import FoundCells
from kryptondb.optimizer.recipe import Recipe

#: Computes some cells and yields them block by block, having put them into what is found.
Compute = Callable[[np.ndarray], Generator[Scores, None, None]]
_CHEAPEST = 0.1  # no guide that is of use takes a smaller share of the time of the exact map
_A_VALUE = 1e-5  # seconds that a look takes for each value of its maps, about, until one was measured
#: The share of them where maps do not settle.
UNSETTLED = 0.03
_TELLING_SHARE = 0.1  # the share of a guide from which its whole time is estimated


@dataclass(eq=False)
class AnytimeRun:
    """What is known so far, and how it goes on.

    Attributes:
        recipe: how maps are reconstructed where there is a guide; and a lattice that rounds go through.
        steps: of the lattices that rounds go through, from the coarsest to 1.
        at_once: whether all cells follow the first of them in one go.
        found: what is computed so far.
        exact: computes cells.
        guide: computes the guide at cells; None where the recipe has none.
        pace: says when time is up.

    To look where a map is least sure, or to reconstruct it, takes long where there are many classes or cells: where it
    would take more of the time than is left for cells, maps do not settle.
    """

    context: ImageContext
    recipe: Recipe
    steps: tuple[int, ...]
    at_once: bool
    found: FoundCells
    exact: Compute
    guide: Compute | None
    pace: Pace
    _round: Round = field(init=False)
    _settles: bool = True

    def cells(self) -> Generator[Scores, None, None]:
        """Computed cells as they come; once time is up, all others."""
        mask = self.context.mask
        self._round = self._next(self.steps[0], self.steps[0])
        yield from self._computed(Lattice(mask, self.steps[0]).cells)
        for step, finer in pairwise(self.steps):
            if (self._round.cells & ~self.found.known).any():
                break
            if self.at_once:
                yield from self._computed(mask & ~self.found.known)
                break
            if step == self.recipe.step and self.guide is not None:
                yield from self._guided(self.guide)
            self._round = self._next(step, finer)
            yield from self._refined()
        yield from self._rest()

    def _next(self, step: int, finer: int) -> Round:
        guided = self.found.guide is not None
        recipe = replace(self.recipe, step=step) if guided else Recipe("drill-down", step=step)
        self._settle_or_not()
        return Round(recipe, finer, self.context.mask, self.context.score, self._settles)

    def _settle_or_not(self) -> None:
        if self._settles and self.pace.is_short_of_looks:
            self._unsettle()

    def _unsettle(self) -> None:
        self._settles = False
        self.pace.expects(UNSETTLED * _A_VALUE * self.found.values.size)

    def _refined(self) -> Generator[Scores, None, None]:
        """The cells of a round, those first where the map is least sure, as long as there is time."""
        before = self.pace.left()
        order = self._round.order(self.found.values, self.found.known, self.found.guide)
        self.pace.looked(before)
        while len(order) and (count := self.pace.allows(self._unknown)):
            chosen = np.zeros_like(self.found.known)
            chosen.flat[order[:count]] = True
            order = order[count:]
            yield from self._computed(chosen)

    def _computed(self, cells: np.ndarray) -> Generator[Scores, None, None]:
        """Some cells; as many of them as there is time for, and at least one block."""
        began = before = self.pace.left()
        count = 0
        with closing(self.exact(cells)) as blocks:
            for scores in blocks:
                self.pace.block_came(before)
                if not self.pace.classes:  # the first of all scores: now it is known how many classes there are
                    self.pace.classes = len(self.found.values)
                    self.pace.expects(_A_VALUE * self.found.values.size)
                    self._settle_or_not()
                count += len(scores.rows)
                before = self.pace.left()
                yield scores
                self.pace.handed_on(len(scores.rows), before)
                if self.pace.asks_alone:
                    before = self.pace.left()
                    yield scores.none()
                    self.pace.handed_on(0, before)
                if self.pace.is_over(self._unknown):
                    break
                before = self.pace.left()
        self.pace.came(count, began)

    def _guided(self, guide: Compute) -> Generator[Scores, None, None]:
        """The guide, unless it turns out that there is no time for all of it."""
        began, total = self.pace.left(), int(self.context.mask.sum())
        if self.pace.takes(_CHEAPEST * total) > self.pace.remaining(self._unknown):
            return
        with closing(guide(self.context.mask)) as blocks:
            for scores in blocks:
                yield scores
                assert self.found.guide is not None
                done = int(np.isfinite(self.found.guide[0]).sum())
                rest = (total - done) * self.pace.since(began) / max(1, done)
                remaining = self.pace.remaining(self._unknown)
                if done < total and (remaining < 0 or (rest > remaining and done > _TELLING_SHARE * total)):
                    self.found.guide = None
                    return

    def _rest(self) -> Generator[Scores, None, None]:
        """Cells that are not computed, reconstructed."""
        found = self.found
        rest = self.context.mask & ~found.known
        if not rest.any():
            return
        if self._settles and self.pace.is_late:
            self._unsettle()
        last = replace(self._round, settles=self._settles)
        maps = last.completed(found.values, found.known, found.guide)
        rows, cols = (index.astype(np.int32) for index in np.nonzero(rest))
        yield Scores(rows, cols, np.ascontiguousarray(maps[:, rest].T), exact=False, computed=False)

    @property
    def _unknown(self) -> int:
        return int((self.context.mask & ~self.found.known).sum())


def endless() -> float:
    """Time that never runs out."""
    return math.inf


_SHARE = 0.5  # of what there seems to be time for: the next cells may come slower than the last
_ENDING = 2.0  # the last reconstruction may take this many times as long as a search for where the map is least sure
_MOMENT = 0.05  # of the time that was given
_TELLING_CELLS = 64  # cells of a block from which the time to hand on a cell is estimated
_A_VALUE_HANDED = 1e-6  # seconds that it usually takes at most for each of the cell's classes
_ALONE = 5  # blocks of no cells, from which the cost of taking a block is estimated


@dataclass(eq=False)
class Pace:
    """Watches one image's run.

    All cells that are not computed are handed on at the end, in one block. What that takes is told by the blocks before
    it, as far as it is their cells' and not each block's own: few cells would pass for slow ones otherwise. Work on the
    next block holds up whoever takes one, so that the quickest tells best. The first is not counted, for much is done
    then for the first time. A block of few cells still tells of little but itself, and may say no more of a cell than
    what one of so many classes usually takes at most.

    Attributes:
        left: seconds that are left for the image; infinity without a limit.
        least: fewer cells than that are not worth beginning with.
        classes: of the scores that are handed on; 0 until they are known.
    """

    left: Callable[[], float]
    least: int
    classes: int = 0
    _given: float = field(init=False)
    _a_cell: float = 0.0  # seconds
    _a_block: float = 0.0
    _ending: float = 0.0
    _alone: list[float] = field(default_factory=list)  # seconds that the reader of a block of no cells spends on it
    _handed: list[tuple[int, float]] = field(default_factory=list)  # cells of a block, and the same of it

    def __post_init__(self) -> None:
        self._given = self.left()

    def since(self, before: float) -> float:
        """Seconds since `before` were left."""
        return before - self.left() if math.isfinite(before) else 0.0

    def came(self, cells: int, before: float) -> None:
        """Notes that `cells` cells took the time since then, with all that goes before the first of them."""
        if cells:
            self._a_cell = self.since(before) / cells

    def block_came(self, before: float) -> None:
        """Notes that one block of cells took the time since then."""
        self._a_block = self.since(before)

    def handed_on(self, cells: int, before: float) -> None:
        """Notes that the reader of a block of `cells` cells was busy with it since then."""
        took = self.since(before)
        if cells:
            self._handed.append((cells, took))
        else:
            self._alone.append(took)

    @property
    def asks_alone(self) -> bool:
        """Whether a block of no cells should be handed on, to tell what a block costs."""
        return len(self._alone) < _ALONE and math.isfinite(self.left())

    @property
    def _handing(self) -> float:
        """Seconds that the reader of a cell spends on it, at most."""
        alone = min(self._alone, default=0.0)
        told = [(cells, max(0.0, took - alone) / cells) for cells, took in self._handed[1:]]
        usual = _A_VALUE_HANDED * self.classes if self.classes else math.inf
        return min((a_cell if cells >= _TELLING_CELLS else min(a_cell, usual) for cells, a_cell in told), default=0.0)

    def expects(self, look: float) -> None:
        """Sets the expected seconds of a search for where the map is least sure, until one was measured."""
        self._ending = _ENDING * look

    def looked(self, before: float) -> None:
        """Notes that a search for where the map is least sure took the time since then."""
        self._ending = _ENDING * self.since(before)

    @property
    def is_short_of_looks(self) -> bool:
        """Whether the looks and the last reconstruction would leave less time for cells than they take."""
        return self._ending > _SHARE * self.left()

    @property
    def is_late(self) -> bool:
        """Whether there is no time for the last reconstruction, and it would take more than a moment."""
        return self._ending > _ENDING * (self.left() + _MOMENT * self._given)

    def remaining(self, unknown: int) -> float:
        """Seconds left to compute cells, if this many are reconstructed and handed on at the end."""
        return self.left() - self._ending - unknown * self._handing

    def takes(self, cells: float) -> float:
        """Seconds that a number of cells takes."""
        return cells * self._a_cell

    def is_over(self, unknown: int) -> bool:
        """Whether another block of cells would end too late."""
        return self.remaining(unknown) < self._a_block

    def allows(self, unknown: int) -> int:
        """How many cells to compute before the next look at the clock; 0 when time is up."""
        remaining = self.remaining(unknown)
        if math.isinf(remaining):
            return unknown
        affordable = remaining / self._a_cell if self._a_cell > 0 else float(unknown)
        return max(self.least, int(_SHARE * affordable)) if affordable >= self.least else 0
