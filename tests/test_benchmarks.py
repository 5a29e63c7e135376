from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("captum")

from benchmarks.exact import main
from benchmarks.rounds import bands_of, plan_rounds
from kryptondb.network import Grid
from kryptondb.optimizer.workload import mask_of_runs


def measured(tmp_path, *arguments: str) -> dict:
    path = tmp_path / "result.json"
    common = ("--model", "squeezenet1_1", "--size", "64", "--threads", "1", "--json", str(path))
    assert main([*common, *arguments]) == 0
    (result,) = json.loads(path.read_text())["results"]
    return result


def test_every_contender_is_measured_and_they_agree(tmp_path, capsys):
    result = measured(tmp_path, "--positions", "8")
    rows = {row["contender"]: row for row in result["contenders"]}
    assert list(rows) == ["Captum", "plain batches", "full", "incremental"]
    assert rows["plain batches"]["positions"] == rows["full"]["positions"] == 8
    assert rows["Captum"]["ratio"] == 1.0
    assert all(row["positions"] > 0 and row["seconds"] > 0 for row in rows.values())
    for name, row in rows.items():
        compared = {other: d for other, d in row["differences"].items() if d is not None}
        assert name == "incremental" or "incremental" in compared
        assert all(difference < 1e-5 for difference in compared.values())
        assert row["error"] < 1e-5
    assert result["largest_drop"] > 1e-3  # else agreement would say nothing
    assert sum(row["chosen"] for row in result["planner"]) == 1
    assert "incremental" in capsys.readouterr().out


def test_several_rounds_are_shared_by_all(tmp_path):
    result = measured(tmp_path, "--positions", "128", "--batch", "16")
    assert result["rounds"] == 4
    assert all(len(row["rounds"]) == 4 for row in result["contenders"])


def test_a_map_too_small_for_captum_to_take_every_turn_is_still_measured(tmp_path):
    result = measured(tmp_path, "--positions", "169", "--batch", "9", "--patch", "32")
    assert result["rounds"] == 3
    assert result["contenders"][0]["rounds"][-1] == 0.0
    assert all(row["ratio"] > 0 and row["median_ratio"] > 0 for row in result["contenders"])


def test_monai_agrees_too(tmp_path):
    pytest.importorskip("monai")
    rows = measured(tmp_path, "--positions", "8", "--monai")["contenders"]
    monai = next(row for row in rows if row["contender"] == "MONAI")
    assert monai["differences"]["incremental"] < 1e-5


def test_bands_are_the_rows_of_tiles_of_the_whole_grid():
    grid = Grid(224, 224, (16, 16), (4, 4))
    bands = bands_of(grid, (8, 8))
    assert [len(band) for band in bands] == [8, 8, 8, 8, 7, 7, 7]
    assert mask_of_runs([run for band in bands for run in band], grid.rows, grid.cols).all()


def test_rounds_take_cheap_and_dear_bands_in_proportion():
    grid = Grid(224, 224, (16, 16), (4, 4))
    rounds = plan_rounds(grid, (8, 8), 256, lambda runs: abs(runs[0][0] - 26))
    assert [len(part.cells) for part in rounds] == [64] * 4
    assert len({part.band for part in rounds}) == 4
    for part in rounds:
        inside = mask_of_runs(part.band, grid.rows, grid.cols)
        assert inside[part.cells[:, 0], part.cells[:, 1]].all()
        assert np.array_equal(np.argwhere(mask_of_runs(part.runs, grid.rows, grid.cols)), part.cells)


def test_a_band_gives_no_more_cells_than_it_has():
    grid = Grid(32, 32, (16, 16), (8, 8))
    rounds = plan_rounds(grid, (2, 2), grid.size, lambda runs: 1.0)
    assert grid.rows <= sum(len(part.cells) for part in rounds) <= grid.size


@pytest.mark.parametrize("arguments", [["--stride", "5"], ["--positions", "0"], ["--patch", "2"]])
def test_what_peers_cannot_do_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "--patch a multiple of --stride" in capsys.readouterr().err
