"""benchmarks.deadline says what queries spent beside what they were given."""

from __future__ import annotations

import json

import pytest

from benchmarks import deadline
from kryptondb.executor import calibrate
from kryptondb.optimizer.cost import Rates

SMALL = ("--models", "resnet18", "--size", "32", "--patch", "8", "--stride", "6", "--no-calibration")


@pytest.mark.slow
def test_every_query_has_a_row_with_what_it_was_given_and_what_it_spent(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(calibrate, "measure", lambda _: Rates())
    path = tmp_path / "spent.json"
    arguments = (*SMALL, "--seconds", "600", "--images", "2", "--exact", "--threads", "1", "--json", str(path))
    assert deadline.main(arguments) == 0
    (spent,) = json.loads(path.read_text())
    assert spent["given"] == 600 and 0 < spent["spent"] < 600 and spent["planned"] > 0
    assert spent["exact"] == 1.0 and spent["ssim"] == pytest.approx(1.0)
    assert "1 of 1 queries were done in time" in capsys.readouterr().out


def test_a_time_that_is_not_kept_is_told_by_the_exit_status(monkeypatch):
    late = deadline.Spent("net", "anytime", 10.0, 11.1, 10.0, 0.5, None)
    monkeypatch.setattr(deadline, "measured", lambda name, options: iter([late]))
    assert deadline.main(SMALL) == 1


@pytest.mark.parametrize(
    ("given", "spent", "kept"), [(10, 11, True), (10, 11.1, False), (1, 1.5, True), (1, 1.51, False)]
)
def test_a_tenth_or_half_a_second_more_is_let_pass(given, spent, kept):
    assert deadline.Spent("net", "anytime", given, spent, given, 0.5, None).kept is kept
