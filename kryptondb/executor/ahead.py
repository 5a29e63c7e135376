"""One item ahead: while the work on one goes on, a thread finds and prepares the next.

with taking_turns(items, wanted, prepare, ahead=True) as turns:
    while (turn := turns.next()) is not None:
        ready = turn.ready()      # what `prepare` made of turn.item, or raised
        turns.look_ahead()        # from here on the next item is prepared
        ...

Whatever goes wrong with an item is raised when its turn comes. At most one item is prepared beyond the one in turn, and
the items are advanced by one thread at a time. When the block is left, early or not, no thread is left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

Item = TypeVar("Item")
Ready = TypeVar("Ready")


@dataclass(frozen=True, eq=False)
class Turn(Generic[Item, Ready]):
    """An item whose turn has come, and what was made of it or raised."""

    item: Item
    made: Ready | None
    error: Exception | None = None

    def ready(self) -> Ready:
        """What was made of it. Raises what preparing it raised."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                del self  # the error's traceback holds this frame: together they would outlive their turn
        return cast(Ready, self.made)


class Turns(Generic[Item, Ready]):
    """Items in their order, one after the other; see `taking_turns`."""

    def __init__(
        self, items: Iterator[Item], wanted: Callable[[Item], bool], prepare: Callable[[Item], Ready], ahead: bool
    ) -> None:
        self._items, self._wanted, self._prepare, self._ahead = items, wanted, prepare, ahead
        self._pool: ThreadPoolExecutor | None = None
        self._coming: Future[Turn[Item, Ready] | None] | None = None
        self._stopped = threading.Event()

    def next(self) -> Turn[Item, Ready] | None:
        """The next wanted item, prepared; None after the last. Raises what `items` and `wanted` raise."""
        if self._coming is None:
            return self._find()
        coming, self._coming = self._coming, None
        turn = coming.result()
        if turn is not None and _lacked_memory(turn.error):  # now it has the place to itself
            return self._prepared(turn.item)
        return turn

    def look_ahead(self) -> None:
        """Begins with the next item; does nothing where `ahead` is False."""
        if self._ahead and self._coming is None:
            if self._pool is None:
                self._pool = _one_thread()
            self._coming = self._pool.submit(self._find)

    def stop(self) -> None:
        """Waits for what has begun, and ends the thread."""
        self._stopped.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _find(self) -> Turn[Item, Ready] | None:
        for item in self._items:
            if self._stopped.is_set():
                break
            if self._wanted(item):
                return self._prepared(item)
        return None

    def _prepared(self, item: Item) -> Turn[Item, Ready]:
        try:
            return Turn(item, self._prepare(item))
        except Exception as error:
            return Turn(item, None, error)


@contextmanager
def taking_turns(
    items: Iterator[Item], wanted: Callable[[Item], bool], prepare: Callable[[Item], Ready], *, ahead: bool
) -> Iterator[Turns[Item, Ready]]:
    """Prepares the wanted items in their order; with `ahead`, each while the one before it is in turn."""
    turns = Turns(items, wanted, prepare, ahead)
    try:
        yield turns
    finally:
        turns.stop()


def _one_thread() -> ThreadPoolExecutor:
    """A thread that gives operators as many cores as this one does: some round differently with fewer."""
    import torch

    from kryptondb.executor.operators.workers import take_threads

    pool = ThreadPoolExecutor(1, "kryptondb-ahead", take_threads, (torch.get_num_threads(),))
    pool.submit(torch.get_num_threads).result()  # the number is settled before anyone changes this thread's own
    return pool


def _lacked_memory(error: Exception | None) -> bool:
    """Whether preparing failed for want of memory, which the item in turn may have held."""
    from kryptondb.executor.operators.shortage import ran_out_of_memory

    return error is not None and any(ran_out_of_memory(each) for each in (error, error.__cause__) if each is not None)
