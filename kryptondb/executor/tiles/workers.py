"""Tiles side by side: each thread takes one, and gives all its operators a share of the processor's cores.

Two tiles on a core each are faster than one tile on two cores: nothing waits for the slower half of every operator.

Where memory runs out, blocks of work are halved, and the work goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from kryptondb.errors import ExecutionError
from kryptondb.executor.kernels.winograd import Workspace

Work = TypeVar("Work")
Done = TypeVar("Done")


@dataclass(frozen=True, eq=False)
class Workers(Generic[Work, Done]):
    """Threads that do one kind of work; without any, `start` does it at once.

    Attributes:
        task: does the work, in a workspace that no other thread uses.
        pool: the threads, or None.
        own: the workspace of each thread.
    """

    task: Callable[[Work, Workspace], Done]
    pool: ThreadPoolExecutor | None
    own: threading.local

    def start(self, work: Work) -> Callable[[], Done]:
        """Begins some work; calling what comes back waits for it, and raises what it raised."""
        if self.pool is None:
            return lambda: self._do(work)
        future: Future[Done] = self.pool.submit(self._do, work)
        return future.result

    def _do(self, work: Work) -> Done:
        if not hasattr(self.own, "workspace"):
            self.own.workspace = Workspace()
        with torch.inference_mode():  # each thread has a mode of its own
            return self.task(work, self.own.workspace)


@contextmanager
def workers(count: int, task: Callable[[Work, Workspace], Done]) -> Iterator[Workers[Work, Done]]:
    """`count` threads that share torch's threads among them; when left, work that has not begun is dropped."""
    threads = torch.get_num_threads()
    count = min(count, threads)
    if count < 2:
        yield Workers(task, None, threading.local())
        return
    pool = ThreadPoolExecutor(count, "kryptondb-tile", take_threads, (threads // count,))
    ready = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(ready.wait)
        ready.wait()
        torch.set_num_threads(threads)  # what the workers asked for would hold for threads that begin later
        yield Workers(task, pool, threading.local())
    finally:
        ready.abort()  # after an interruption no thread is left waiting for the others
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def take_threads(share: int) -> None:
    """Gives the operators of the calling thread `share` cores."""
    torch.get_num_threads()  # a thread's first question sets its number to the process's: that must come first
    torch.set_num_threads(share)


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
