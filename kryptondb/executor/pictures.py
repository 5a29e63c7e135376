"""A run's pictures: each is opened once, the next while the network works on the one before; errors name the picture.

with taking_turns(items, wanted, prepare, ahead=True) as turns:
    while (turn := turns.next()) is not None:
        ready = turn.ready()      # what `prepare` made of turn.item, or raised
        turns.look_ahead()        # from here on the next item is prepared
        ...

Any error of an item is raised when its turn comes. At most one item is prepared beyond the current one, and the items
are advanced by one thread at a time. When the block is left, early or not, no thread is left running.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from kryptondb.errors import Error, ExecutionError, ImageError, one_line

if TYPE_CHECKING:
    from kryptondb.images import Picture
    from kryptondb.images.sources import ImageSource


def load_picture(source: ImageSource) -> Picture:
    """Opens a picture. Raises ImageError where it cannot be read."""
    try:
        return source.load()
    except OSError as error:
        raise ImageError(f"cannot read {source.name}: {error.strerror or error}") from error


class Looks:
    """What the pictures of a run were when they were asked about: nothing is drawn over another one.

    A picture may be replaced while its map is computed. What it shows is compared, for its file may have the same size
    and time; its file is too where what else stands in it matters.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forgets all: a run begins."""
        self._shown: dict[str, str] = {}
        self._files: dict[str, tuple[int, ...] | None] = {}

    def load(self, source: ImageSource) -> Picture:
        """Opens a picture for the first time. Raises ImageError where it cannot be read."""
        file = _status(source)
        picture = load_picture(source)
        self._note(self._shown, source.name, _content(picture))
        self._note(self._files, source.name, file)
        return picture

    def load_again(self, source: ImageSource) -> Picture:
        """Opens it again. Raises ImageError where it cannot be read any more, or is another picture."""
        picture = load_picture(source)
        if self._shown.get(source.name) != _content(picture):
            raise _changed(source)
        return picture

    def file(self, source: ImageSource) -> Path | None:
        """The file that it is in; None for an array. Raises ImageError where it has been written to."""
        if source.file is not None and self._files.get(source.name) != _status(source):
            raise _changed(source)
        return source.file

    @staticmethod
    def _note(known: dict[str, Any], name: str, value: object) -> None:
        """Of a picture that is given twice and has changed in between, neither is known again."""
        known[name] = value if known.setdefault(name, value) == value else None


def _content(picture: Picture) -> str:
    from kryptondb.images.picture import content_hash

    return content_hash(picture)


def _status(source: ImageSource) -> tuple[int, ...] | None:
    """What changes with a file."""
    try:
        status = source.file.stat() if source.file is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _changed(source: ImageSource) -> ImageError:
    return ImageError(
        f"{source.name}: the picture has changed since its map was computed, so the map is not drawn over it",
        hint="Run the statement again.",
    )


@contextmanager
def asking(image: str) -> Iterator[None]:
    """Turns what the network's own code raises (whatever a module's forward may) into an error that names the picture.

    Errors of ours that name no picture pass: they are about the query.
    """
    try:
        yield
    except Error:
        raise
    except Exception as error:
        raise ExecutionError(f"{image}: the network failed: {one_line(error)}") from error


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

    from kryptondb.executor.tiles.workers import take_threads

    pool = ThreadPoolExecutor(1, "kryptondb-ahead", take_threads, (torch.get_num_threads(),))
    pool.submit(torch.get_num_threads).result()  # the number is settled before anyone changes this thread's own
    return pool


def _lacked_memory(error: Exception | None) -> bool:
    """Whether preparing failed for want of memory, which the item in turn may have held."""
    from kryptondb.executor.tiles.workers import ran_out_of_memory

    return error is not None and any(ran_out_of_memory(link) for link in (error, error.__cause__) if link is not None)
