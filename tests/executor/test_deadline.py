"""A deadline counts the time that rows take to make, and divides what is left fairly among images."""

from __future__ import annotations

import pytest

from kryptondb.executor.resources import Deadline


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_only_the_time_in_which_rows_are_made_counts() -> None:
    clock = Clock()
    deadline = Deadline(10.0, clock)
    for _ in range(2):
        clock.now += 50.0  # the reader's
        with deadline.running():
            clock.now += 2.0
            assert deadline.spent % 2.0 == 0
    assert deadline.spent == 4.0


def test_images_get_equal_shares_of_what_is_left() -> None:
    clock = Clock()
    deadline = Deadline(9.0, clock)
    with deadline.running():
        with deadline.share(3) as left:
            assert left() == 3.0
            clock.now += 1.0
            assert left() == 2.0
        with deadline.share(2) as left:
            assert left() == 4.0
            clock.now += 5.0
            assert left() == -1.0
        with deadline.share(1) as left:
            assert left() == 3.0


def test_what_passes_between_two_images_is_kept_for_those_that_follow() -> None:
    clock = Clock()
    deadline = Deadline(40.0, clock)
    shares = []
    with deadline.running():
        for images in (4, 3, 2, 1):
            clock.now += 2.0  # a picture is opened and its base made
            with deadline.share(images) as left:
                shares.append(left())
                clock.now += left()
    assert deadline.spent == pytest.approx(40.0)
    assert max(shares[1:]) - min(shares[1:]) < 1e-9 and shares[1] > 7.0


def test_a_share_is_told_when_an_image_fails_and_time_stops_with_it() -> None:
    clock = Clock()
    deadline = Deadline(10.0, clock)
    with pytest.raises(KeyboardInterrupt), deadline.running(), deadline.share(1):
        clock.now += 1.0
        raise KeyboardInterrupt
    clock.now += 60.0
    assert deadline.spent == 1.0
