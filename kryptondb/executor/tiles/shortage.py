"""When memory runs out: blocks of work are halved, and the work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from kryptondb.errors import ExecutionError

Work = TypeVar("Work")
Done = TypeVar("Done")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on the GPU or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("not enough memory" in text or "can't allocate memory" in text)


def shrinking(
    blocks: list[Work], compute: Callable[[Work], Done], halves: Callable[[Work], list[Work]]
) -> Iterator[Done]:
    """Computes block after block; where memory runs out, the block and all after it are halved and work goes on.

    Raises:
        ExecutionError: even a single position does not fit.
    """
    pending = list(reversed(blocks))
    while pending:
        block = pending.pop()
        try:
            scores = compute(block)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            if len(halves(block)) < 2:
                raise ExecutionError(
                    "not enough memory for a single position",
                    hint="Free memory, use a smaller input size, or choose another device with SET device.",
                ) from error
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            pending = [half for waiting in pending for half in reversed(halves(waiting))]
            pending.extend(reversed(halves(block)))
            continue
        yield scores
