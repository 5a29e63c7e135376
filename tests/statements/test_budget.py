"""Budgets of time."""

from __future__ import annotations

import time

import pytest

from kryptondb.statements.budget import Budget


def test_a_budget_allows_what_would_be_done_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget, endless = Budget(10), Budget(None)
    now = 104.0
    assert budget.used == 4 and budget.allows(6) and not budget.allows(6.1)
    assert endless.allows(1e12)
