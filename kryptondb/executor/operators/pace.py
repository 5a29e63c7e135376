"""How fast cells come, and how many more there is time for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_SHARE = 0.5  # of what there seems to be time for: the next cells may come slower than the last
_ENDING = 2.0  # the last reconstruction may take so many times as long as a look at where the map is least sure


@dataclass(eq=False)
class Pace:
    """Watches one image's run.

    Attributes:
        left: seconds that are left for the image; infinity where nobody waits.
        least: fewer cells than that are not worth beginning with.
    """

    left: Callable[[], float]
    least: int
    _a_cell: float = 0.0  # seconds
    _a_block: float = 0.0
    _handing: float = 0.0  # seconds that whoever takes a cell spends on it
    _ending: float = 0.0

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
        """Whoever took so many cells was busy with them since then."""
        if cells:
            self._handing = max(self._handing, self.since(before) / cells)

    def looked(self, before: float) -> None:
        """To see where the map is least sure took the time since then."""
        self._ending = _ENDING * self.since(before)

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
