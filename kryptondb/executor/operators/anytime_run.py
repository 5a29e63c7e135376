"""One image's run of `anytime`: rounds, the clock, and the map of what is there when the time is over."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from kryptondb.executor.approximation import Lattice, Round
from kryptondb.executor.operators.context import Context, Scores
from kryptondb.executor.operators.pace import Pace
from kryptondb.executor.operators.staged import Found
from kryptondb.optimizer.recipe import Recipe

#: Computes some cells and yields them block by block, having put them into what is found.
Compute = Callable[[np.ndarray], Generator[Scores, None, None]]
_CHEAPEST = 0.1  # no guide that is of use takes a smaller share of the time of the exact map
_A_VALUE = 1e-5  # seconds that a look takes for each value of its maps, about, as long as nobody has looked
#: The share of them where maps do not settle.
UNSETTLED = 0.03
_TELLING = 0.1  # the share of a guide that tells how long all of it takes


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
        pace: tells when the time is over.

    To look where a map is least sure, or to reconstruct it, takes long where there are many classes or cells: where it
    would take more of the time than is left for cells, maps do not settle.
    """

    context: Context
    recipe: Recipe
    steps: tuple[int, ...]
    at_once: bool
    found: Found
    exact: Compute
    guide: Compute | None
    pace: Pace
    _round: Round = field(init=False)
    _settles: bool = True

    def cells(self) -> Generator[Scores, None, None]:
        """Computed cells as they come; once the time is over, all others."""
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
                if done < total and (remaining < 0 or (rest > remaining and done > _TELLING * total)):
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
