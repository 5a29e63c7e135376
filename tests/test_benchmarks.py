from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

pytest.importorskip("captum")

from benchmarks import breakdown, cost_model, exact
from benchmarks.batches import largest_tile, of_batches
from benchmarks.contenders import Ours
from benchmarks.exact import choice_of, main
from benchmarks.report import Sheet, command_line, write_section
from benchmarks.rounds import bands_of, plan_rounds
from benchmarks.stopwatch import Stopwatch, watched
from benchmarks.subject import prepare
from kryptondb.executor.kernels.choice import transformable
from kryptondb.executor.operators import Full, Incremental
from kryptondb.network import Grid, Rule
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Workload, mask_of_runs
from tests.executor.recording import Repeater, recorded


@pytest.fixture(scope="module", autouse=True)
def measured_once() -> Iterator[None]:
    """How fast the machine is, and the network, are the same for all tests here: each is measured or traced once."""
    ceiling, subject = cache(exact.measure_ceiling), cache(prepare)
    with pytest.MonkeyPatch.context() as patch:
        for module in (exact, breakdown):
            patch.setattr(module, "measure_ceiling", ceiling)
        for module in (exact, breakdown, cost_model):
            patch.setattr(module, "prepare", subject)
        yield


def run(tmp_path, *arguments: str) -> list[dict]:
    path = tmp_path / "result.json"
    common = ("--model", "squeezenet1_1", "--size", "64", "--threads", "1", "--json", str(path), "--no-calibration")
    assert main([*common, *arguments]) == 0
    return json.loads(path.read_text())["results"]


def measured(tmp_path, *arguments: str) -> dict:
    (result,) = run(tmp_path, *arguments)
    return result


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_cost_model_is_compared_with_what_every_plan_took(tmp_path, capsys):
    path = tmp_path / "result.json"
    common = ("--model", "squeezenet1_1", "--size", "64", "--threads", "1", "--no-calibration", "--json", str(path))
    assert cost_model.main([*common, "--patch", "16", "--stride", "16"]) == 0
    cases = json.loads(path.read_text())["cases"]
    assert [case["operator"] for case in cases] == [
        *("full", "incremental", "thresholded, tau 0.6", "thresholded, tau 0.3", "drill-down, every 2nd cell exact"),
        *("drill-down, every 3rd cell exact, 10% more where least certain", "refined, tau 0.45, every 4th cell exact"),
    ]
    assert all(case["estimated"] > 0 and case["measured"] > 0 for case in cases)
    assert "95th percentile" in capsys.readouterr().out


def test_a_q_error_counts_both_ways():
    case = cost_model.Case("m", 16, 4, "full", "", estimated=2.0, measured=1.0)
    assert case.q_error == replace(case, estimated=1.0, measured=2.0).q_error == 2.0


@pytest.mark.slow
def test_the_share_of_the_ceiling_counts_direct_operations(tmp_path):
    result = measured(tmp_path, "--positions", "8")
    ceiling = max(result["ceiling"].values())
    whole = {
        row["contender"]: row["operations_per_second"] / row["positions_per_second"] for row in result["contenders"]
    }
    assert whole["Captum"] == pytest.approx(whole["plain batches"])
    assert whole["full"] == pytest.approx(whole["Captum"] * (1 + 1 / 13**2))  # its part of the unoccluded inference
    assert whole["Captum"] / whole["incremental"] == pytest.approx(result["redundancy_measured"])
    for row in result["contenders"]:
        assert row["share"] == pytest.approx(row["operations_per_second"] / ceiling)


@pytest.mark.slow
def test_operators_are_measured_over_batch_sizes(tmp_path):
    result = measured(tmp_path, "--positions", "16", "--batches", "4", "16")
    names = [row["contender"] for row in result["contenders"]]
    assert names[-4:] == ["full, batch 4", "incremental, batch 4", "full, batch 16", "incremental, batch 16"]
    rows = {row["contender"]: row for row in result["contenders"]}
    for name in names[-4:]:
        assert rows[name]["positions"] >= 16 and rows[name]["seconds"] > 0
        assert rows[name]["differences"]["incremental"] < 1e-5
    settings = {row["operator"]: row["settings"] for row in result["planner"]}
    assert "tiles 2 x 2" in settings["incremental, batch 4"] and "tiles 4 x 4" in settings["incremental, batch 16"]


def test_on_cuda_incremental_is_measured_with_graphs_and_without():
    subject = prepare("squeezenet1_1", 64, 16, 4, "cpu", 0)
    workload = Workload(subject.network, subject.grid, None, 1, "cuda", 1 << 32)
    contenders = of_batches(subject, workload, Rates(), [16])
    assert [each.name for each in contenders] == [
        "full, batch 16",
        "incremental, batch 16, graphs",
        "incremental, batch 16, no graphs",
    ]
    full, graphed, launched = (each.operator for each in contenders)
    assert full == Full(16)
    assert graphed.graphs and not launched.graphs and graphed.tile == launched.tile == (4, 4)
    assert largest_tile(contenders) == (4, 4)
    # What runs without graphs also runs here, and gives what the processor's own tiles do.
    runs = ((0, 0, 12), (1, 0, 12))
    plain = Ours(subject, Incremental((4, 4)), whole_bands=True).compute(runs).found
    found = contenders[2].compute(runs).found
    assert found.keys() == plain.keys()
    assert max(abs(found[cell] - plain[cell]) for cell in plain) < 1e-5


def test_recording_graphs_is_charged_once_a_query():
    subject = prepare("squeezenet1_1", 64, 16, 8, "cpu", 0)
    plain = Ours(subject, Incremental((2, 2)), whole_bands=True).compute(((0, 0, 6), (1, 0, 6)))
    work = Ours(subject, recorded((2, 2)), whole_bands=True).compute(((0, 0, 6), (1, 0, 6)))
    assert Repeater.recorded > 0 and Repeater.replayed == 2 * 4  # all tiles, in both runs
    assert work.found.keys() == plain.found.keys()
    assert max(abs(work.found[cell] - plain.found[cell]) for cell in plain.found) < 1e-5


@pytest.mark.slow
def test_several_rounds_are_shared_by_all(tmp_path):
    result = measured(tmp_path, "--positions", "128", "--batch", "16")
    assert result["rounds"] == 4
    assert all(len(row["rounds"]) == 4 for row in result["contenders"])


@pytest.mark.slow
def test_a_round_too_small_for_captum_to_take_a_turn_is_still_measured(tmp_path):
    result = measured(tmp_path, "--positions", "81", "--batch", "1", "--patch", "32")
    assert result["rounds"] == 9
    captum = result["contenders"][0]
    assert 0.0 in captum["rounds"] and captum["positions"] > 9 * 4
    assert all(row["ratio"] > 0 and row["median_ratio"] > 0 for row in result["contenders"])


@pytest.mark.slow
def test_captum_goes_on_where_its_last_turn_ended(tmp_path):
    result = measured(tmp_path, "--positions", "100", "--batch", "16", "--captum-one")
    rows = {row["contender"]: row for row in result["contenders"]}
    assert rows["Captum"]["positions"] == 1 + 7 * 13  # the unoccluded image, and every second row of the grid
    assert rows["Captum by one"]["positions"] == 1 + 5 * 5
    assert rows["Captum by one"]["differences"]["Captum"] < 1e-5


@pytest.mark.slow
def test_monai_agrees_too(tmp_path):
    pytest.importorskip("monai")
    rows = measured(tmp_path, "--positions", "8", "--monai")["contenders"]
    monai = next(row for row in rows if row["contender"] == "MONAI")
    assert monai["differences"]["incremental"] < 1e-5


@pytest.mark.slow
def test_a_grid_of_cases_has_a_row_each(tmp_path, capsys):
    markdown = tmp_path / "results.md"
    results = run(tmp_path, "--positions", "8", "--patch", "8", "16", "--stride", "8", "4", "--markdown", str(markdown))
    assert [(result["patch"], result["stride"]) for result in results] == [(8, 8), (8, 4), (16, 8), (16, 4)]
    for result in results:
        choice = result["choice"]
        assert choice["within_10_percent"] == (choice["over_fastest"] <= 1.1)
        assert choice["over_fastest"] >= 1.0
    assert "All cases" in capsys.readouterr().out
    text = markdown.read_text()
    assert text.count("| squeezenet1_1 |") == 4
    assert "## `python -m benchmarks.exact --model squeezenet1_1 --size 64" in text
    assert str(tmp_path) not in text
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.slow
def test_what_winograd_buys_is_visible(tmp_path):
    path = tmp_path / "result.json"
    common = ("--model", "resnet18", "--size", "32", "--threads", "1", "--stride", "16", "--positions", "4")
    assert main([*common, "--direct", "--json", str(path)]) == 0
    (result,) = json.loads(path.read_text())["results"]
    rows = {row["operator"]: row for row in result["planner"]}
    assert result["calibration"] == "layers calibrated" and result["rates"]["layers"]
    if "Winograd" in rows["incremental"]["settings"]:  # the planner of this machine may find that it never pays
        assert "Winograd" not in rows["incremental, direct"]["settings"]
        assert not rows["incremental, direct"]["candidate"]
    else:
        assert "incremental, direct" not in rows


def broken_down(tmp_path, *arguments: str) -> dict:
    path = tmp_path / "result.json"
    common = ("--model", "squeezenet1_1", "--size", "64", "--threads", "1", "--rows", "1", "--runs", "1")
    assert breakdown.main([*common, "--no-calibration", "--json", str(path), *arguments]) == 0
    return json.loads(path.read_text())["result"]


@pytest.mark.slow
def test_a_breakdown_accounts_for_all_of_the_time(tmp_path, capsys):
    result = broken_down(tmp_path, "--markdown", str(tmp_path / "results.md"))
    parts = {part["part"]: part for part in result["parts"]}
    *some, everything = result["parts"]
    for key in ("seconds", "estimated_seconds", "bound_seconds"):
        assert everything[key] == pytest.approx(sum(part[key] for part in some))
    cells = result["grid"][0] * result["grid"][1]
    in_layers = sum(layer["seconds"] for layer in result["layers"]) * cells
    told = parts["layers, tile by tile"]["seconds"] + parts["head, several tiles together"]["seconds"]
    assert told == pytest.approx(in_layers)
    assert all(part["seconds"] > 0 for part in some if part["part"] != "head, several tiles together")
    assert all(layer["seconds"] > 0 for layer in result["layers"] if layer["operator"] == "conv2d")
    assert "features.0" in capsys.readouterr().out
    assert "## `python -m benchmarks.breakdown" in (tmp_path / "results.md").read_text()


@pytest.mark.slow
def test_a_breakdown_bounds_a_layer_by_its_operations_at_the_ceiling(tmp_path):
    result = broken_down(tmp_path, "--direct")
    ceiling = max(result["ceiling"].values())
    for layer in result["layers"]:
        assert layer["bound"] == pytest.approx(layer["operations"] / ceiling)
        assert not layer["algorithm"].startswith("Winograd")


@pytest.mark.slow
def test_a_watched_operator_computes_the_same_cells():
    subject = prepare("resnet18", 32, 8, 8, "cpu", 0)
    index = next(n.index for n in subject.network.nodes if transformable(subject.network, n) is not None)
    plan = Incremental((2, 2), ((index, 2, 2),), head=256)
    stopwatch = Stopwatch("cpu")
    plain = Ours(subject, plan, whole_bands=True).compute(((0, 0, 3), (1, 0, 3)))
    timed = Ours(subject, watched(plan, stopwatch), whole_bands=True).compute(((0, 0, 3), (1, 0, 3)))
    assert timed.found == plain.found
    ran = {n.index for n in subject.network.nodes if n.rule is not Rule.CONSTANT}
    assert ran <= stopwatch.nodes.keys()
    assert sum(stopwatch.nodes.values()) + stopwatch.painting + stopwatch.reading < timed.seconds
    assert len(stopwatch.bases) == 1


def test_uniform_tiles_are_watched_node_by_node():
    subject = prepare("squeezenet1_1", 64, 16, 16, "cpu", 0)
    plan = Incremental((2, 2), head=256, uniform=True, graphs=True)  # graphs are left out: they cannot be told apart
    stopwatch = Stopwatch("cpu")
    Ours(subject, watched(plan, stopwatch), whole_bands=True).compute(((0, 0, 3), (1, 0, 3)))
    assert {n.index for n in subject.network.nodes if n.rule is not Rule.CONSTANT} <= stopwatch.nodes.keys()


def test_a_section_of_results_takes_the_place_of_the_same_commands_before(tmp_path):
    path = tmp_path / "results.md"
    for command, number in (("python -m one", "1"), ("python -m two", "2"), ("python -m one", "3")):
        write_section(path, command, {"torch": "2"}, [Sheet("A title.", ("<a|b", "c"), [("x|y", number)])])
    assert path.read_text() == (
        "# Results\n\nWritten by the benchmarks themselves (`--markdown`), one section per command.\n\n"
        "## `python -m one`\n\ntorch 2.\n\nA title.\n\n| a\\|b | c |\n| --- | ---: |\n| x\\|y | 3 |\n\n"
        "## `python -m two`\n\ntorch 2.\n\nA title.\n\n| a\\|b | c |\n| --- | ---: |\n| x\\|y | 2 |\n"
    )


def test_a_command_is_told_without_where_its_results_went():
    arguments = ["--markdown", "--model", "a", "--json", "/tmp/x y", "--markdown=z", "--patch", "8"]
    assert command_line("benchmarks.exact", arguments) == "python -m benchmarks.exact --model a --patch 8"


def test_the_planner_is_told_what_the_faster_one_took():
    rows = [
        {"operator": "full", "measured_seconds": 2.0, "chosen": True, "candidate": True},
        {"operator": "incremental", "measured_seconds": 1.6, "chosen": False, "candidate": True},
        {"operator": "incremental, direct", "measured_seconds": 1.0, "chosen": False, "candidate": False},
    ]
    assert choice_of(rows) == {"operator": "full", "over_fastest": 1.25, "within_10_percent": False}


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


def test_few_bands_take_several_rounds_each():
    grid = Grid(224, 224, (16, 16), (8, 8))
    rounds = plan_rounds(grid, (24, 24), 320, lambda runs: 1.0 + len(runs))
    assert [part.band[0][0] for part in rounds] == [0, 14, 0, 14, 14]
    assert [len(part.cells) for part in rounds] == [64] * 5


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
