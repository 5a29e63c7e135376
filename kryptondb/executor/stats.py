"""What a run has done so far: seconds, operations, positions, images, memory, progress, and the images left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from kryptondb.executor.resident import forget_highest, resident


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


class MemoryMeter:
    """The peak of the process's resident memory, and of what a query holds beside what was there when it began."""

    def __init__(self) -> None:
        held = resident()
        self._peak = held.now if held is not None else 0
        self._highest_before = held.highest if held is not None else 0
        self._query_peak = 0
        self._before: int | None = None

    def begin(self) -> None:
        """From here on memory is the query's: pictures and the network are there, its base and its tiles are not."""
        self.sample()
        renewed = forget_highest()
        held = resident()
        if held is not None:
            self._before = held.now - held.files
            self._highest_before = 0 if renewed else held.highest

    def sample(self) -> int | None:
        """Looks once more, and gives the peak of the process in bytes. About 30 microseconds."""
        held = resident()
        if held is None:
            return None
        # A new high of the process is one since the meter was made, even if it came and went between two looks.
        highest = held.highest if held.highest > self._highest_before else held.now
        self._peak = max(self._peak, highest)
        if self._before is not None:
            self._query_peak = max(self._query_peak, highest - held.files - self._before)
        return self._peak

    @property
    def begun(self) -> bool:
        """Whether the query has begun."""
        return self._before is not None

    @property
    def query_peak(self) -> int | None:
        """The most bytes that the query held, seen at the last look; None before it began."""
        return self._query_peak if self._before is not None else None
