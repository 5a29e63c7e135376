"""benchmarks.rounding compares maps in which what changes is rounded with those in which everything is."""

from __future__ import annotations

import json

from benchmarks import rounding
from tests.test_benchmark_promise import small


def test_every_network_has_a_row(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(rounding.NETWORKS, "small", small)
    path = tmp_path / "rounded.json"
    arguments = ["--network", "small", "--patch", "8", "--stride", "4", "--pictures", "2", "--no-calibration"]
    assert rounding.main([*arguments, "--json", str(path)]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert row["network"] == "small" and row["pictures"] == 2
    (median, worst), (all_median, all_worst) = row["differences"], row["everything"]
    assert worst <= median <= 1 and all_worst <= all_median < 1
    assert worst > 0.99 and 1 - median < (1 - all_median) / 4
    assert "where what the patch changes is rounded" in capsys.readouterr().out
