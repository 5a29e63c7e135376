"""How a plan is chosen. The first strategy of `STRATEGIES` that applies to a query decides it.

in_time      WITH TIME: what would run anyway, or the best map that the time allows
self_tuning  WITH SSIM, many images, no profile that is large enough: some images decide what runs the others
promised     WITH SSIM: the cheapest plan that keeps it, approximate where a profile shows that it does
exact        all other queries: the cheapest exact operator, or what USING asks for
"""

from __future__ import annotations

from collections.abc import Callable

from kryptondb.optimizer.strategies.exact import exact
from kryptondb.optimizer.strategies.in_time import in_time
from kryptondb.optimizer.strategies.promised import promised
from kryptondb.optimizer.strategies.request import Decision, Request
from kryptondb.optimizer.strategies.self_tuning import self_tuning

#: Each gives None for queries that are left to those behind it.
STRATEGIES: tuple[Callable[[Request], Decision | None], ...] = (in_time, self_tuning, promised, exact)


def decide(request: Request) -> Decision:
    """What the first strategy that applies decides.

    Raises:
        PlanError: a promise or a hint that cannot be kept.
    """
    return next(found for strategy in STRATEGIES if (found := strategy(request)) is not None)
