"""How much memory the rows take that a run keeps: a result that is collected, groups, rows to be sorted, maps."""

from __future__ import annotations

from kryptondb.errors import ExecutionError
from kryptondb.optimizer.physical import PhysicalPlan
from kryptondb.text.units import bytes_text

#: The part of the limit that rows may have at least: a plan's own memory gives way by as much, or more.
_LEAST = 4


class RowMemory:
    """What `memory_limit` leaves for rows, and what holds some of it.

    Attributes:
        most: bytes for all rows together; None for no limit.
    """

    def __init__(self, limit: int | None = None, plan: PhysicalPlan | None = None) -> None:
        """
        Args:
            limit: `memory_limit` in bytes.
            plan: what runs; on a processor its own memory is a part of the limit.
        """
        self.limit, self.most = limit, limit
        self._held: dict[str, int] = {}
        occlude = plan.occlude if plan is not None else None
        if limit is not None and occlude is not None and occlude.cost is not None and occlude.device == "cpu":
            self.most = max(limit - occlude.cost.memory, limit // _LEAST)

    def fits(self, holder: str, size: int) -> bool:
        """Notes rows that could lie elsewhere, where they leave as much room as they take; says whether they did."""
        others = sum(held for other, held in self._held.items() if other != holder)
        there = self.most is None or others + 2 * size <= self.most
        self._held[holder] = size if there else 0
        return there

    def hold(self, holder: str, size: int) -> None:
        """Notes that a holder has rows of so many bytes now, instead of what it had before.

        Args:
            holder: what the rows are, in words: 'the rows of the result'.

        Raises:
            ExecutionError: all holders together have more than there is room for.
        """
        self._held[holder] = size
        total = sum(self._held.values())
        if self.most is not None and total > self.most:
            raise ExecutionError(
                f"{holder} take more than there is room for: {bytes_text(total)} so far, and memory_limit leaves"
                f" {bytes_text(self.most)} of {bytes_text(self.limit or 0)}",
                hint="COPY (SELECT ...) TO 'file.parquet' writes cells as they come, without ORDER BY, GROUP BY or"
                " HEATMAP; or ask for fewer rows or classes, or SET memory_limit to more.",
            )
