"""Budgets of time, as people write them."""

from __future__ import annotations

import time

import pytest

from kryptondb.budget import Budget, parse_budget
from kryptondb.errors import BindError, Position


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        *(
            ("10 minutes", 600),
            ("90 seconds", 90),
            ("1 hour", 3600),
            ("1.5 h", 5400),
            (" 2MIN ", 120),
            ("1 day", 86_400),
        ),
        *(("30 s", 30), ("1 second", 1), ("2 hours", 7200), (45, 45), (0.5, 0.5)),
    ],
)
def test_an_amount_of_time_is_read(written: object, seconds: float) -> None:
    assert parse_budget(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "ten minutes", "10", "10 parsecs", "-1 hour", "0 seconds", "1e3 s", "s", "10 minutess"]
    + [0, -3, True, None, float("nan"), float("inf"), [10]],
)
def test_anything_else_is_refused_in_its_place(written: object) -> None:
    place = Position(3, 4, 1, 4)
    with pytest.raises(BindError, match="budget cannot be .*\n.*'10 minutes'") as caught:
        parse_budget(written, place)
    assert caught.value.position == place


def test_a_budget_allows_what_would_be_done_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget, endless = Budget(10), Budget(None)
    now = 104.0
    assert budget.used == 4 and budget.allows(6) and not budget.allows(6.1)
    assert endless.allows(1e12)
