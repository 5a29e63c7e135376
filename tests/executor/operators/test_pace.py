"""How many cells there is time for is told by how long the last ones took, and never more than part of them at once."""

from __future__ import annotations

import math

from kryptondb.executor.operators.anytime_run import Pace


class Left:
    """Seconds that are left, until a test spends them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def watched(seconds: float, least: int = 2) -> tuple[Left, Pace]:
    """A pace of 10 cells a second."""
    left = Left(seconds + 1.0)
    pace = Pace(left, least)
    left.seconds = seconds
    pace.came(10, seconds + 1.0)
    return left, pace


def test_half_of_what_there_is_time_for_comes_next() -> None:
    _, pace = watched(10.0)
    assert pace.allows(1000) == 50


def test_with_less_time_than_the_least_cells_take_nothing_is_begun() -> None:
    left, pace = watched(10.0, least=4)
    left.seconds = 0.5
    assert pace.allows(1000) == 4
    left.seconds = 0.39
    assert pace.allows(1000) == 0


def test_the_end_is_provided_for() -> None:
    left, pace = watched(10.0)
    pace.looked(10.5)  # half a second: twice that is kept
    assert pace.remaining(1000) == 9.0
    pace.handed_on(1, 15.0)  # the first block, with all that is done for the first time
    assert pace.remaining(1000) == 9.0
    pace.handed_on(100, 10.1)  # a millisecond a cell
    assert math.isclose(pace.remaining(1000), 8.0)
    left.seconds = 1.5
    assert pace.allows(1000) == 0 and pace.allows(100) == 2


def test_what_a_block_costs_that_has_no_cells_is_not_taken_for_its_cells() -> None:
    _, pace = watched(10.0)
    for cells in (5, 4, 4):
        pace.handed_on(cells, 10.02)
        assert pace.asks_alone
        pace.handed_on(0, 10.02)
    assert math.isclose(pace.remaining(2800), 10.0)
    for _ in range(2):
        pace.handed_on(0, 10.02)
    assert not pace.asks_alone


def test_a_few_cells_are_not_believed_to_be_slower_than_cells_usually_are() -> None:
    _, pace = watched(10.0)
    pace.classes = 2
    for cells in (4, 4):
        pace.handed_on(cells, 10.0 + 4e-4)  # a tenth of a millisecond a cell, most of it the block's own
    assert math.isclose(pace.remaining(50_000), 9.9)
    pace.handed_on(100, 10.0 + 0.01)  # as many tell
    assert math.isclose(pace.remaining(50_000), 9.9)
    _, slow = watched(10.0)
    slow.classes = 2
    for cells in (4, 100):
        slow.handed_on(cells, 10.0 + cells * 1e-4)
    assert math.isclose(slow.remaining(50_000), 5.0)


def test_looks_that_would_take_most_of_the_time_are_noticed_before_the_first() -> None:
    left, pace = watched(10.0)
    pace.expects(2.4)
    assert not pace.is_short_of_looks and not pace.is_late and math.isclose(pace.remaining(0), 5.2)
    left.seconds = 9.0
    assert pace.is_short_of_looks and not pace.is_late
    left.seconds = 2.0  # 0.4 s too late, and 11 s were given
    assert not pace.is_late
    left.seconds = 1.8
    assert pace.is_late


def test_the_quickest_block_tells_what_cells_cost_whoever_takes_them() -> None:
    _, pace = watched(10.0)
    pace.handed_on(5, 10.0)
    pace.handed_on(0, 10.02)
    for cells, seconds in ((4, 0.06), (400, 0.42), (40, 0.5)):
        pace.handed_on(cells, 10.0 + seconds)
    assert math.isclose(pace.remaining(1000), 9.0)  # a millisecond a cell


def test_a_block_that_would_end_too_late_is_not_waited_for() -> None:
    left, pace = watched(10.0)
    pace.block_came(10.4)
    assert not pace.is_over(0)
    left.seconds = 0.39
    assert pace.is_over(0)


def test_where_nobody_waits_everything_comes_at_once() -> None:
    pace = Pace(lambda: math.inf, 2)
    pace.came(10, math.inf)
    pace.block_came(math.inf)
    assert pace.allows(77) == 77 and not pace.is_over(77)
