"""Answers about networks, kept on the networks themselves: they go together."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from kryptondb.network.graph import Network

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, eq=False)
class _Kept:
    network: Network
    question: tuple[Any, ...]
    answer: Any


def kept_with_network(most: int) -> Callable[[Callable[_Arguments, _Answer]], Callable[_Arguments, _Answer]]:
    """Keeps what a function answers, by its arguments, which are hashable; the first is a network or has a `network`.

    A network takes up to gigabytes. A cache beside it would hold it long after its model was dropped; this does not,
    though answers may hold the network.

    Args:
        most: answers of a function that are kept, about all networks; then the one that was asked for longest ago goes.
    """

    def keeping(function: Callable[_Arguments, _Answer]) -> Callable[_Arguments, _Answer]:
        latest: OrderedDict[weakref.ref[_Kept], None] = OrderedDict()
        lock = Lock()

        @wraps(function)
        def answer(*given: _Arguments.args, **named: _Arguments.kwargs) -> _Answer:
            subject: Any = given[0]
            network: Network = subject if isinstance(subject, Network) else subject.network
            question = (function, given, *named.items())
            with lock:
                kept = network.kept.get(question)
                if kept is not None:
                    latest.move_to_end(weakref.ref(kept))
                    found: _Answer = kept.answer
                    return found
            found = function(*given, **named)
            with lock:
                kept = network.kept[question] = _Kept(network, question, found)
                latest[weakref.ref(kept)] = None
                while len(latest) > most:
                    oldest = latest.popitem(last=False)[0]()
                    if oldest is not None:
                        oldest.network.kept.pop(oldest.question, None)
            return found

        return answer

    return keeping
