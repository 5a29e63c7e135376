"""Answers about networks are kept as long as the networks, and no longer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace

from kryptondb.network import Network
from kryptondb.network.cache import cached_on_network


@dataclass(frozen=True)
class Question:
    network: Network
    number: int


def network() -> Network:
    return Network((), 0, (3, 8, 8), 2, None)


def counting(most: int) -> tuple[Callable[[Network, int], object], list[int]]:
    asked: list[int] = []

    @cached_on_network(most)
    def answer(about: Network, number: int) -> object:
        asked.append(number)
        return about, number

    return answer, asked


def test_what_was_asked_before_is_not_found_out_again() -> None:
    answer, asked = counting(8)
    about = network()
    assert [answer(about, number) for number in (1, 1, 2)] == [(about, 1), (about, 1), (about, 2)]
    assert asked == [1, 2]


def test_the_same_of_another_network_is_another_question() -> None:
    answer, asked = counting(8)
    one, other = network(), network()
    assert answer(one, 1) == (one, 1) and answer(other, 1) == (other, 1)
    assert asked == [1, 1]


def test_a_question_may_hold_its_network() -> None:
    asked: list[Question] = []

    @cached_on_network(8)
    def answer(about: Question) -> int:
        asked.append(about)
        return about.number

    about = network()
    assert [answer(Question(about, number)) for number in (1, 1, 2)] == [1, 1, 2]
    assert len(asked) == 2


def test_functions_do_not_share_answers() -> None:
    about = network()
    (first, _), (second, asked) = counting(8), counting(8)
    first(about, 1)
    second(about, 1)
    assert asked == [1]


def test_what_was_asked_for_longest_ago_goes_where_there_are_too_many_of_all_networks() -> None:
    answer, asked = counting(2)
    one, other = network(), network()
    for about, number in ((one, 1), (other, 2), (one, 1), (one, 3), (one, 1), (other, 2)):
        answer(about, number)
    assert asked == [1, 2, 3, 2]
    assert (len(one.cache), len(other.cache)) == (1, 1)


def test_a_network_goes_though_its_answers_hold_it() -> None:
    answer, _ = counting(8)
    about = network()
    reference = weakref.ref(about)
    answer(about, 1)
    del about
    gc.collect()
    assert reference() is None


def test_a_forgotten_network_goes_at_once_with_those_that_were_made_of_it() -> None:
    answer, _ = counting(8)

    @cached_on_network(8)
    def made_of(about: Network) -> Network:
        return replace(about)

    about = network()
    references = [weakref.ref(about), weakref.ref(made_of(about))]
    answer(about, 1)
    answer(made_of(about), 1)
    gc.disable()
    try:
        about.forget()
        del about
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()
