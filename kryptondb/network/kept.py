"""Answers about networks, kept on the networks themselves: they go together."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from threading import Lock
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from kryptondb.network.graph import Network


class AboutNetwork(Protocol):
    """What a question may be about, beside a network itself."""

    @property
    def network(self) -> Network:
        """The network that it is a question about."""


_Subject = TypeVar("_Subject", Network, AboutNetwork)
_Others = ParamSpec("_Others")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, eq=False)
class _Kept:
    network: Network
    question: tuple[Any, ...]
    answer: Any


def kept_with_network(
    most: int,
) -> Callable[[Callable[Concatenate[_Subject, _Others], _Answer]], Callable[Concatenate[_Subject, _Others], _Answer]]:
    """Keeps what a function answers, by its arguments, which are hashable; the first is a network or about one.

    A network takes up to gigabytes. A cache beside it would hold it long after its model was dropped; this does not,
    though answers may hold the network.

    Args:
        most: answers of a function that are kept, about all networks; then the one that was asked for longest ago goes.
    """

    def keeping(
        function: Callable[Concatenate[_Subject, _Others], _Answer],
    ) -> Callable[Concatenate[_Subject, _Others], _Answer]:
        latest: OrderedDict[weakref.ref[_Kept], None] = OrderedDict()
        lock = Lock()

        @wraps(function)
        def answer(subject: _Subject, *others: _Others.args, **named: _Others.kwargs) -> _Answer:
            network = subject if isinstance(subject, Network) else subject.network
            question = (function, subject, others, *named.items())
            with lock:
                kept = network.kept.get(question)
                if kept is not None:
                    latest.move_to_end(weakref.ref(kept))
                    found: _Answer = kept.answer
                    return found
            found = function(subject, *others, **named)
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
