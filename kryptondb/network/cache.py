"""What functions find out about a network, cached on the network itself: both are freed together."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from threading import Lock
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from kryptondb.network.graph import Network

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, eq=False)
class CacheEntry:
    """The answer of a function to one question about a network."""

    network: Network
    question: tuple[Any, ...]
    answer: Any


def cached_on_network(
    most: int | None = None,
) -> Callable[[Callable[_Arguments, _Answer]], Callable[_Arguments, _Answer]]:
    """Caches what a function returns, by its arguments, which are hashable; the first is or has a `network`.

    A network takes up to gigabytes. A cache beside it would keep it alive long after its model was dropped; this one
    does not, although answers may refer to the network.

    Args:
        most: answers of the function to keep, about all networks together; then the least recently used one goes. None
            for a function with few answers per network.
    """

    def caching(function: Callable[_Arguments, _Answer]) -> Callable[_Arguments, _Answer]:
        latest: OrderedDict[weakref.ref[CacheEntry], None] = OrderedDict()
        lock = Lock()

        @wraps(function)
        def answer(*given: _Arguments.args, **named: _Arguments.kwargs) -> _Answer:
            subject: Any = given[0]
            network: Network = getattr(subject, "network", subject)
            question = (function, given, *named.items())
            with lock:
                entry = network.cache.get(question)
                if entry is not None:
                    if most is not None:
                        latest.move_to_end(weakref.ref(entry))
                    known: _Answer = entry.answer
                    return known
            result = function(*given, **named)
            with lock:
                entry = network.cache[question] = CacheEntry(network, question, result)
                if most is not None:
                    latest[weakref.ref(entry)] = None
                    while len(latest) > most:
                        oldest = latest.popitem(last=False)[0]()
                        if oldest is not None:
                            oldest.network.cache.pop(oldest.question, None)
            return result

        return answer

    return caching
