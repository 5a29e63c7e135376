"""Incrementally where that is possible and pays, in batches of the function elsewhere: what is tried when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from kryptondb.compat.patience import Patience
from kryptondb.compat.traced import Traced, Tracer
from kryptondb.process.torch_state import leaves_numbers_alone

Found = TypeVar("Found")


@dataclass(frozen=True)
class Refused:
    """Nothing was computed incrementally, and why."""

    why: str


def incrementally(
    forward: Callable[..., Any],
    images: torch.Tensor,
    tracer: Tracer,
    *,
    unfit: str | None,
    total: int,
    once: Callable[[], float],
    evaluate: Callable[[], object],
    batches: Iterator[int],
    occluded: Callable[[], torch.Tensor],
    compute: Callable[[Traced], Found | Refused],
) -> Found | Refused:
    """What `compute` makes of the traced network, or all batches run through, and why.

    A network that is known already is taken at once. Else batches run until they have taken, or will take, so long
    that tracing pays; then it is traced, and they go on only where that is refused.

    Args:
        images: [N, C, H, W] where it is `unfit` for nothing.
        unfit: why the call cannot run incrementally whatever the function, None where it may.
        total: how many windows there are.
        once: tells how many seconds the unoccluded inputs take; asked only where no network is known.
        evaluate: evaluates them again.
        batches: runs one batch after the other, and gives how many windows are done.
        occluded: an image with something hidden, [1, C, H, W], that the traced network is tried on.
    """
    why = unfit
    if why is None and not leaves_numbers_alone():  # the peers compute in them, and so do batches
        why = "autocast or one of torch's modes is on, which the function runs in"
    known = tracer.known(forward, images) if why is None else None
    if isinstance(known, Traced):
        found = compute(known)
        if not isinstance(found, Refused):
            return found
        why = found.why
    elif known is not None:
        why = known
    patience = Patience(total, tracer.spent(forward))
    pays = why is None and patience.has_none(once(), evaluate)
    while True:
        if why is None and pays:
            traced = tracer.trace(forward, images, occluded())
            found = Refused(traced) if isinstance(traced, str) else compute(traced)
            if not isinstance(found, Refused):
                return found
            why = found.why
        done = next(batches, None)
        if done is None:
            return Refused(why or tracer.not_worth(forward, patience.seconds))
        pays = why is None and patience.is_over(done)
