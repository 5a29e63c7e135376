"""The benchmark of start-up measures what it says."""

from __future__ import annotations

import json

import pytest

from benchmarks.startup import main, rows_of


@pytest.mark.slow
def test_every_start_is_measured_beside_torch(tmp_path, capsys):
    path = tmp_path / "result.json"
    assert main(["--model", "squeezenet1_1", "--size", "64", "--runs", "1", "--json", str(path)]) == 0
    rows = {row["start"]: row for row in json.loads(path.read_text())["rows"]}
    assert list(rows) == ["import torch", "kryptondb --version", "first cell, cold", "first cell, warm"]
    assert rows["kryptondb --version"]["seconds"] < rows["first cell, warm"]["seconds"]
    assert rows["first cell, warm"]["seconds"] < rows["first cell, cold"]["seconds"]
    assert "more than import torch" in capsys.readouterr().out


def test_rows_are_medians_and_differences():
    rows = rows_of({"import torch": [1.0, 9.0, 2.0], "other": [5.0, 4.0, 3.0]})
    assert [(row["seconds"], row["more_than_torch"]) for row in rows] == [(2.0, 0.0), (4.0, 2.0)]


def test_no_runs_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--runs", "0"])
    assert "--runs must be at least 1" in capsys.readouterr().err
