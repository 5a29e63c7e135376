"""Tiles side by side: each thread takes one, and gives all its operators a share of the processor's cores.

Two tiles on a core each are faster than one tile on two cores: nothing waits for the slower half of every operator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from kryptondb.executor.kernels.workspace import Workspace

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
    """So many threads that share torch's threads among them; when left, what has not begun is dropped."""
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
        ready.abort()  # whoever was interrupted before all were ready leaves nobody waiting
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def take_threads(share: int) -> None:
    """Gives the operators of the thread that calls it so many cores."""
    torch.get_num_threads()  # a thread's first question sets its number to the process's: that must come first
    torch.set_num_threads(share)
