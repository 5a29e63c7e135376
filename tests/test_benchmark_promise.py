"""benchmarks.promise asks a trained network about images that its tuning never saw."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("captum")

from benchmarks import promise
from benchmarks.networks.real_network import RealNetwork
from benchmarks.promise import Kept
from kryptondb.executor.profiling import Profiler
from tests.networks import small_network


def small() -> RealNetwork:
    pictures = [np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8) for seed in range(14)]
    return RealNetwork(
        name="small", module=small_network().requires_grad_(False), side=32, mean=0.5, std=0.5, scale=1.0,
        labels=("a", "b", "c"), channels="RGB", tuning=pictures[:11], unseen=pictures[11:], accuracy=1.0,
    )  # fmt: skip


@pytest.mark.slow
def test_every_target_has_a_row_for_the_unseen_images(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(promise.NETWORKS, "small", small)
    path = tmp_path / "kept.json"
    arguments = ["--network", "small", "--patch", "8", "--stride", "8", "--target", "0.2", "0.9"]
    assert promise.main([*arguments, "--confidence", "0.8", "--no-calibration", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [(row["network"], row["target"], row["images"]) for row in rows] == [("small", 0.2, 3), ("small", 0.9, 3)]
    for row in rows:
        assert row["worst"] <= row["median"] <= 1 and row["over_captum"] > 0
        assert row["kind"] in ("exact", "approximate")
        assert row["kept"] == 1.0 or row["kind"] == "approximate"
    assert "at most 20 images to tune on" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_goes_on_with_the_profiles_that_it_kept(tmp_path, monkeypatch):
    measured = []
    measure = Profiler.measure

    def counted(*arguments):
        measured.append(arguments)
        return measure(*arguments)

    monkeypatch.setitem(promise.NETWORKS, "small", small)
    monkeypatch.setattr(Profiler, "measure", counted)
    arguments = ["--network", "small", "--patch", "8", "--stride", "8", "--target", "0.9", "--no-calibration"]
    kept_in = ["--profiles", str(tmp_path / "small.krypton"), "--unseen", "1"]
    for tuning in ("2", "11", "11"):
        assert promise.main([*arguments, *kept_in, "--tuning", tuning]) == 0
    assert len(measured) == 11


def kept(kind: str, share: float) -> Kept:
    return Kept("net", 0.9, "plan", kind, 20, share, 0.95, 0.8, 1.0, 2.0, 3.0)


def test_all_approximate_rows_are_told_together():
    rows = [kept("approximate", 0.85), kept("exact", 1.0), kept("approximate", 1.0)]
    assert promise.together(rows) == "Of all 40 approximate maps 37 kept what was promised: 0.925."
    assert promise.together([kept("exact", 1.0)]) == ""
