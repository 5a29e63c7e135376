"""benchmarks.dropin compares the drop-in classes with the installed peers, and fails where they differ."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("captum")
pytest.importorskip("monai")

from benchmarks import dropin
from benchmarks.dropin_cases import Case


@pytest.mark.slow
def test_every_question_has_the_same_answer_on_small_images(tmp_path, capsys):
    path = tmp_path / "RESULTS.md"
    assert dropin.main(["--small", "--markdown", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "19 of 19 agree within 1e-05" in printed
    rows = [line for line in path.read_text().splitlines() if line.startswith(("| Captum", "| MONAI"))]
    assert len(rows) == 19 and not any("DIFFERS" in row for row in rows)


def case(ours: torch.Tensor) -> Case:
    return Case("Captum", "net", "one image", lambda: (torch.ones(2, 2),), lambda: ((ours,), "batches: why"))


@pytest.mark.parametrize(
    ("ours", "agrees"),
    [
        (torch.full((2, 2), 1 + 5e-6), True),
        (torch.full((2, 2), 1 + 5e-5), False),
        (torch.ones(2, 3), False),
        (torch.ones(2, 2, dtype=torch.float64), False),
    ],
)
def test_maps_that_differ_are_told_by_the_exit_status(ours, agrees, monkeypatch, capsys):
    monkeypatch.setattr(dropin, "cases", lambda extent: iter([case(ours)]))
    assert dropin.main([]) == (0 if agrees else 1)
    assert ("DIFFERS" in capsys.readouterr().out) is not agrees


def test_a_large_score_may_differ_in_its_last_digits():
    hundreds = torch.tensor([[300.0, -7.0]])
    assert dropin.largest_difference((hundreds + 1e-3,), (hundreds,)) < dropin.AGREEMENT
