"""What a strategy is asked, and what it decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kryptondb.errors import Position
from kryptondb.optimizer.workload import REDUCED_PRECISIONS, Workload
from kryptondb.text.units import seconds_text

if TYPE_CHECKING:
    from kryptondb.grammar.statements import Option, Promise
    from kryptondb.optimizer.cost import Rates
    from kryptondb.optimizer.logical import Hints
    from kryptondb.optimizer.operator import Candidate, Operator
    from kryptondb.optimizer.physical import Quality, Rejected
    from kryptondb.optimizer.promise import Profile
    from kryptondb.optimizer.self_tuning import SelfTuning

#: The operator that gives the best map it can in whatever time there is.
STOPPABLE = "anytime"
#: Plans that cannot stop run only where they are estimated to be done this many times sooner: 19 of 20 plans take less
#: than this many times their estimate (`python -m benchmarks.cost_model`).
MARGIN = 2.0
#: One that can stop computes every cell in one go where it is estimated to be done this many times sooner.
ENOUGH = 1.25


@dataclass(frozen=True)
class SsimPromise:
    """`WITH SSIM >= ssim CONFIDENCE confidence`, and the profile by which an approximate plan may keep it, if any."""

    ssim: float
    confidence: float
    profile: Profile | None

    def __str__(self) -> str:
        return f"SSIM >= {self.ssim:g}"


@dataclass(frozen=True)
class TimeLimit:
    """`WITH TIME <= seconds SECONDS`, and which plans are sure enough to keep it.

    Attributes:
        seconds: for all images together.
        images: how many there are; None where only the run finds out.
    """

    seconds: float
    images: int | None

    def __str__(self) -> str:
        return f"TIME <= {self.seconds:g} SECONDS"

    @property
    def per_image(self) -> float:
        """Seconds for each image, of one where their number is unknown."""
        return self.seconds / max(1, self.images or 1)

    def holds(self, seconds: float) -> bool:
        """Whether a plan that is estimated to take `seconds` per image, and cannot stop, runs."""
        return self.images is not None and MARGIN * seconds <= self.per_image

    def is_enough(self, seconds: float) -> bool:
        """Whether a plan that is estimated to take `seconds` per image, and can stop, is expected to be done."""
        return self.images is not None and ENOUGH * seconds <= self.per_image

    def text(self, seconds: float) -> str:
        """What a plan is estimated to take that takes `seconds` per image, for readers."""
        return f"{seconds_text(seconds)}{'' if self.images in (None, 1) else ' per image'}"

    def possible(self, seconds: float) -> str:
        """The promise that such a plan could keep."""
        total = MARGIN * seconds * max(1, self.images or 1)
        digits = 0 if total >= 10 else 1 if total >= 1 else 2
        return f"TIME <= {math.ceil(total * 10**digits) / 10**digits:g} SECONDS"


@dataclass(frozen=True)
class Request:
    """What a plan is chosen for, and what it is chosen from.

    Attributes:
        workload: the experiment on one image, as operators are costed by it.
        rates: of the device.
        operators: that there are.
        hints, hint_options: what USING asks for, and the same as written.
        promise: what WITH asks for; ssim, time_limit: its parts, None for what it does not ask for.
        profile: what is known of the SSIM of recipes; None where nothing is, or nothing is promised.
        may_tune: whether the setting lets a batch tune itself.
        limited: whether the query may end after a few images.
        single: whether there is one image; image_count: finds out how many, at least where a folder holds very many,
            and gives None where only the run finds out.
    """

    workload: Workload
    rates: Rates
    operators: Sequence[type[Operator]]
    hints: Hints
    hint_options: Sequence[Option] = ()
    promise: Promise | None = None
    ssim: SsimPromise | None = None
    time_limit: TimeLimit | None = None
    profile: Profile | None = None
    may_tune: bool = True
    limited: bool = False
    single: bool = True
    image_count: Callable[[], int | None] = lambda: 1

    @property
    def operator_position(self) -> Position | None:
        """Where USING asks for an operator."""
        return next((option.position for option in self.hint_options if option.name == "operator"), None)

    def is_exact(self, candidate: Candidate) -> bool:
        """Whether a candidate's answers are exact, in the precision that the query asks for."""
        return candidate.operator.exact and self.workload.precision not in REDUCED_PRECISIONS


@dataclass(frozen=True)
class Decision:
    """What runs, what does not, and why.

    Attributes:
        chosen: what runs.
        rejected: what was costed beside it.
        reason: why it was chosen, in a sentence.
        seconds: the time for all images together; None where nothing has to stop.
        tuning: how the batch tunes itself, where it does.
    """

    chosen: Candidate
    rejected: tuple[Rejected, ...]
    reason: str
    quality: Quality
    seconds: float | None = None
    tuning: SelfTuning | None = None
