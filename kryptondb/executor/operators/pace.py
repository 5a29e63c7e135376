"""How fast cells come, and how many more there is time for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

_SHARE = 0.5  # of what there seems to be time for: the next cells may come slower than the last
_ENDING = 2.0  # the last reconstruction may take so many times as long as a look at where the map is least sure
_MOMENT = 0.05  # of the time that was given
_TELLING = 64  # cells of a block that tells what handing on a cell takes
_A_VALUE_HANDED = 1e-6  # seconds that it usually takes at most for each of the cell's classes
_ALONE = 5  # blocks of no cells that tell what a block costs whoever takes it


@dataclass(eq=False)
class Pace:
    """Watches one image's run.

    All cells that are not computed are handed on at the end, in one block. What that takes is told by the blocks before
    it, as far as it is their cells' and not each block's own: few cells would pass for slow ones otherwise. Work on the
    next block holds up whoever takes one, so that the quickest tells best. The first is not counted, for much is done
    then for the first time. A block of few cells still tells of little but itself, and may say no more of a cell than
    what one of so many classes usually takes at most.

    Attributes:
        left: seconds that are left for the image; infinity where nobody waits.
        least: fewer cells than that are not worth beginning with.
        classes: of the scores that are handed on; 0 as long as nobody knows.
    """

    left: Callable[[], float]
    least: int
    classes: int = 0
    _given: float = field(init=False)
    _a_cell: float = 0.0  # seconds
    _a_block: float = 0.0
    _ending: float = 0.0
    _alone: list[float] = field(default_factory=list)  # seconds that whoever takes a block of no cells spends on it
    _handed: list[tuple[int, float]] = field(default_factory=list)  # cells of a block, and the same of it

    def __post_init__(self) -> None:
        self._given = self.left()

    def since(self, before: float) -> float:
        """Seconds since so many were left."""
        return before - self.left() if math.isfinite(before) else 0.0

    def came(self, cells: int, before: float) -> None:
        """So many cells took the time since then, with all that goes before the first of them."""
        if cells:
            self._a_cell = self.since(before) / cells

    def block_came(self, before: float) -> None:
        """One block of cells took the time since then."""
        self._a_block = self.since(before)

    def handed_on(self, cells: int, before: float) -> None:
        """Whoever took a block of so many cells was busy with it since then."""
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
        """Seconds that whoever takes a cell spends on it, at most."""
        alone = min(self._alone, default=0.0)
        told = [(cells, max(0.0, took - alone) / cells) for cells, took in self._handed[1:]]
        usual = _A_VALUE_HANDED * self.classes if self.classes else math.inf
        return min((a_cell if cells >= _TELLING else min(a_cell, usual) for cells, a_cell in told), default=0.0)

    def expects(self, look: float) -> None:
        """To see where the map is least sure is expected to take so many seconds, as long as nobody has looked."""
        self._ending = _ENDING * look

    def looked(self, before: float) -> None:
        """To see where the map is least sure took the time since then."""
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
        """Seconds to compute cells in, where so many would be reconstructed and handed on at the end."""
        return self.left() - self._ending - unknown * self._handing

    def takes(self, cells: float) -> float:
        """Seconds that so many cells take."""
        return cells * self._a_cell

    def is_over(self, unknown: int) -> bool:
        """Whether another block of cells would end too late."""
        return self.remaining(unknown) < self._a_block

    def allows(self, unknown: int) -> int:
        """How many cells to compute before the next look at the clock; 0 when the time is over."""
        remaining = self.remaining(unknown)
        if math.isinf(remaining):
            return unknown
        affordable = remaining / self._a_cell if self._a_cell > 0 else float(unknown)
        return max(self.least, int(_SHARE * affordable)) if affordable >= self.least else 0
