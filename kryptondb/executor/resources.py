"""What a run may use (time, memory for rows) and what it has used and done so far (`Stats`, `Progress`, failures)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kryptondb.errors import ExecutionError
from kryptondb.optimizer.physical import PhysicalPlan
from kryptondb.text.units import bytes_text


@dataclass
class Stats:
    """Counts that grow while a query runs.

    Attributes:
        seconds: time spent making rows; what the reader of the rows does between them is not counted.
        flops: floating point operations, two a multiply-add.
        positions: patch positions computed, over all images; what is reconstructed from others does not count. One
            position serves all classes.
        images: pictures that were opened and asked about.
        failed: pictures that were left out.
        peak_memory: the most bytes of main memory the process held, weights and libraries included; None where the
            system does not tell, and before the first picture. When the query did not need more than the process had
            held before it, this is the most seen between two tiles.
        query_memory: the most bytes of main memory held beyond those held when the first picture was about to be
            asked about, the network's weights among them; pages of files are not counted. What a plan's estimate is of.
        rows: rows of the result.
        phases: seconds of each phase of the images' plans (`optimizer.cost.Phase`), over all images; where the next
            image's base is made meanwhile, its time is counted beside the others'.
    """

    seconds: float = 0.0
    flops: float = 0.0
    positions: int = 0
    images: int = 0
    failed: int = 0
    peak_memory: int | None = None
    query_memory: int | None = None
    rows: int = 0
    phases: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far a query is; one for each tile.

    `done` of `total` positions of the picture `image`, which is number `image_number` (from 1) of `images`, when that
    number is known.
    """

    image: str
    done: int
    total: int
    image_number: int
    images: int | None


@dataclass(frozen=True)
class ImageFailure:
    """A picture that was left out, and why.

    Attributes:
        before: how many pictures had been asked about by then; None where that is not known.
    """

    image: str
    message: str
    before: int | None = None


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
        """Notes that a holder now has rows of `size` bytes, instead of what it had before.

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


class Deadline:
    """Counts the time that a query spends on making rows; what their reader does between them is the reader's.

    Attributes:
        seconds: how much there is, for all images together.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._spent = 0.0
        self._since: float | None = None
        self._done_at: float | None = None  # seconds spent when the last image was done

    @property
    def spent(self) -> float:
        """Seconds spent so far."""
        return self._spent + (self._clock() - self._since if self._since is not None else 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time counts inside."""
        self._since = self._clock()
        try:
            yield
        finally:
            self._spent, self._since = self.spent, None

    @contextmanager
    def share(self, images: int) -> Iterator[Callable[[], float]]:
        """An equal share for the cells of one of `images` images left; gives a function of the seconds left of it.

        What passed between the image before and this one (opening it, making its base) will pass before the others too:
        that much is kept for each of them.
        """
        began = self.spent
        between = began - self._done_at if self._done_at is not None else 0.0
        until = began + (self.seconds - began - (images - 1) * between) / max(1, images)
        yield lambda: until - self.spent
        self._done_at = self.spent
