"""COPY to PNG: heat maps over their pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kryptondb.copy.sinks import CopyReport, copy_to
from kryptondb.errors import BindError, ExecutionError, ImageError
from kryptondb.executor import Progress
from kryptondb.executor.pictures import Looks
from kryptondb.images.render import Level, Look
from kryptondb.optimizer import physical as p
from tests.fakes import FakeExperiment, limit, occlude, order, pictures, select, start, where

TOP_2 = p.ClassChoice("top", 2)


def copied(root: p.PlanNode, path: str | Path, experiment: FakeExperiment | None = None, **options: Any) -> CopyReport:
    return copy_to(start(root, experiment), str(path), options)


def test_one_heat_map_becomes_one_picture_that_says_how_it_was_made(picture: str, tmp_path: Path) -> None:
    path = tmp_path / "out" / "map.png"
    report = copied(p.HeatMaps(occlude(picture)), path)
    assert report == CopyReport(str(path), "png", 1, path.stat().st_size)
    with Image.open(path) as image:
        image.load()
        assert min(image.size) > 100
        assert image.text["kryptondb.model"] == "net"
        assert image.text["kryptondb.heatmap"] == "drop"
    assert [entry.name for entry in path.parent.iterdir()] == ["map.png"]


def test_a_folder_gets_a_picture_for_each_image_and_class(folder: Path, tmp_path: Path) -> None:
    report = copied(p.HeatMaps(occlude(str(folder), classes=TOP_2)), f"{tmp_path / 'maps'}/")
    names = sorted(entry.name for entry in (tmp_path / "maps").iterdir())
    assert names == ["a-0.png", "a-1.png", "b-0.png", "b-1.png", "c-0.png", "c-1.png"]
    assert report.rows == 6
    assert report.bytes == sum((tmp_path / "maps" / name).stat().st_size for name in names)


def test_run_again_it_replaces_its_own_pictures_and_nobody_elses(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "maps"
    for _ in range(2):
        assert copied(p.HeatMaps(occlude(str(folder))), f"{target}/").rows == 3
    Image.new("RGB", (4, 4)).save(target / "b-0.png")
    photograph = (target / "b-0.png").read_bytes()
    with pytest.raises(ExecutionError, match=r"cannot write .*b-0\.png: it already exists(.|\n)*another folder"):
        copied(p.HeatMaps(occlude(str(folder))), f"{target}/")
    assert (target / "b-0.png").read_bytes() == photograph
    (target / "b-0.png").write_text("notes")
    with pytest.raises(ExecutionError, match=r"cannot write .*b-0\.png"):
        copied(p.HeatMaps(occlude(str(folder))), f"{target}/")


def test_a_folder_that_is_there_needs_no_separator_and_no_format(picture: str, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    copied(p.HeatMaps(occlude(picture)), tmp_path / "maps")
    assert [entry.name for entry in (tmp_path / "maps").iterdir()] == ["a-0.png"]


def test_pictures_of_one_name_in_two_folders_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for name in ("x", "y"):
        pictures(tmp_path / "in" / name, "scan 1.png", "scan*1.png" if name == "x" else "Scan 1.png")
    copied(p.HeatMaps(occlude(str(tmp_path / "in"))), f"{tmp_path}/out/")
    names = sorted(entry.name for entry in (tmp_path / "out").iterdir())
    assert [name.casefold() for name in names] == [
        "scan-1-0-2.png",
        "scan-1-0-3.png",
        "scan-1-0-4.png",
        "scan-1-0.png",
    ] or (len({name.casefold() for name in names}) == 4)


def test_arrays_that_are_bound_are_drawn(tmp_path: Path) -> None:
    arrays = [np.full((20, 30, 3), shade, dtype=np.uint8) for shade in (0, 255)]
    run = start(p.HeatMaps(occlude(binding="0")), bindings={"0": arrays})
    copy_to(run, f"{tmp_path}/out/", {})
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_several_maps_do_not_go_into_one_file_and_that_is_known_before_any_work(folder: Path, tmp_path: Path) -> None:
    experiment = FakeExperiment()
    for root in (
        p.HeatMaps(occlude(str(folder), count=3)),
        order(p.HeatMaps(occlude(str(folder / "a.png"), classes=TOP_2)), "base"),
    ):
        with pytest.raises(ExecutionError, match="more than one heat map") as caught:
            copied(root, tmp_path / "out" / "map.png", experiment)
        assert "out/map/'" in str(caught.value)
    assert experiment.log == [] and not (tmp_path / "out").exists()


def test_several_maps_that_only_the_run_tells_stop_at_the_second(folder: Path, tmp_path: Path) -> None:
    experiment = FakeExperiment()
    with pytest.raises(ExecutionError, match="more than one heat map"):
        copied(p.HeatMaps(occlude(str(folder))), tmp_path / "map.png", experiment)
    assert "open c.png" not in experiment.log
    assert not (tmp_path / "map.png").exists()
    copied(limit(p.HeatMaps(occlude(str(folder), count=3, classes=TOP_2)), 1), tmp_path / "map.png")
    assert (tmp_path / "map.png").exists()


def test_no_map_is_no_picture(folder: Path, tmp_path: Path) -> None:
    nothing = where(p.HeatMaps(occlude(str(folder))), "label = 'fox'")
    with pytest.raises(ExecutionError, match="returns no heat map"):
        copied(nothing, tmp_path / "map.png")
    assert copied(nothing, f"{tmp_path}/out/").rows == 0


def test_a_query_without_a_heat_map_cannot_be_drawn(picture: str, tmp_path: Path) -> None:
    experiment = FakeExperiment()
    with pytest.raises(BindError, match="this query has none"):
        copied(occlude(picture), tmp_path / "map.png", experiment)
    with pytest.raises(BindError, match="needs the columns class, label, base"):
        copied(select(p.HeatMaps(occlude(picture)), image="image", heatmap="heatmap"), tmp_path / "map.png", experiment)
    assert experiment.log == [] and not (tmp_path / "map.png").exists()


def test_options_reach_the_drawing(picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def draw(photograph: Any, preprocess: Any, heatmap: np.ndarray, **options: Any) -> Image.Image:
        calls.append({"heatmap": heatmap, "picture": photograph.name, **options})
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr("kryptondb.images.render.overlay", draw)
    root = p.HeatMaps(occlude(picture))
    copied(root, tmp_path / "a.png")
    copied(
        root, tmp_path / "b.png", values="score", opacity=0.25, scale=[0, 1], colormap="RDBU_r", size=300,
        colorbar="false", title=False, contours=[0.5, "25 %"], side_by_side=True,
    )  # fmt: skip
    copied(root, tmp_path / "c.png", contours=0.01)
    drop, score, contour = calls
    assert drop.pop("heatmap")[2] == pytest.approx([0.02, 0.021, 0.022, 0.023])
    assert score.pop("heatmap")[2] == pytest.approx([0.88, 0.879, 0.878, 0.877])
    same = {"picture": picture, "patch": (8, 4), "stride": (2, 4), "title": f"tabby  0.900\n{picture}   model net"}
    assert drop == {**same, "look": Look(opacity=0.6)}
    assert score == {
        **same,
        "look": Look(
            values="score", opacity=0.25, scale=(0.0, 1.0), colormap="RdBu_r", size=300, colorbar=False, title=False,
            contours=(Level(0.5), Level(25, percent=True)), side_by_side=True,
        ),
    }  # fmt: skip
    assert contour["look"].contours == (Level(0.01),)


def test_pictures_that_were_finished_stay_when_the_query_is_stopped(folder: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.image_number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_to(start(p.HeatMaps(occlude(str(folder))), progress=interrupt), f"{tmp_path}/out/", {})
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["a-0.png"]


def test_a_picture_is_opened_once_for_all_its_classes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(p.HeatMaps(occlude(str(folder), classes=p.ClassChoice("all"))))
    opened: list[str] = []
    again = Looks.load_again
    monkeypatch.setattr(Looks, "load_again", lambda self, source: (opened.append(source.name), again(self, source))[1])
    monkeypatch.setattr("kryptondb.images.render.overlay", lambda *_, **__: Image.new("RGB", (4, 4)))
    copy_to(run, f"{tmp_path}/out/", {})
    assert opened == [str(folder / f"{name}.png") for name in "abc"]


def test_a_folder_that_cannot_be_made_is_said_before_any_work(folder: Path, tmp_path: Path) -> None:
    experiment = FakeExperiment()
    (tmp_path / "file").write_text("")
    with pytest.raises(ExecutionError, match="cannot write"):
        copied(p.HeatMaps(occlude(str(folder))), f"{tmp_path}/file/out/", experiment)
    assert experiment.log == []


def test_a_picture_that_vanishes_midway_is_left_out_once_and_the_others_are_drawn(folder: Path, tmp_path: Path) -> None:
    def remove(progress: Progress) -> None:
        if progress.image_number == 3:
            (folder / "b.png").unlink(missing_ok=True)

    root = order(p.HeatMaps(occlude(str(folder), classes=TOP_2)), "label")  # nothing is drawn before all is computed
    run = start(root, progress=remove)
    assert copy_to(run, f"{tmp_path}/out/", {}).rows == 4
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["a-0.png", "a-1.png", "c-0.png", "c-1.png"]
    assert [(Path(failure.image).name, failure.message) for failure in run.errors] == [
        ("b.png", f"{folder / 'b.png'}: no such file")
    ]
    assert (run.stats.images, run.stats.failed) == (2, 1)


def test_a_picture_that_vanishes_stops_the_query_where_errors_do(folder: Path, tmp_path: Path) -> None:
    def remove(progress: Progress) -> None:
        (folder / "c.png").unlink(missing_ok=True) if progress.image_number == 3 else None

    run = start(order(p.HeatMaps(occlude(str(folder))), "image"), progress=remove, on_error="stop")
    with pytest.raises(ImageError, match=r"c\.png: no such file"):
        copy_to(run, f"{tmp_path}/out/", {})


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize(
    "intrusion",
    [
        shutil.rmtree,
        lambda out: out.rename(out.with_name("elsewhere")),
        lambda out: (shutil.rmtree(out), out.mkdir()),
        lambda out: (out / "a-0.png").unlink(),
        lambda out: (out / "a-0.png").write_bytes(b""),
    ],
)
def test_a_folder_that_changes_midway_is_an_error_and_never_done(
    folder: Path, tmp_path: Path, number: int, intrusion: Callable[[Path], object]
) -> None:
    changed: list[int] = []

    def intrude(progress: Progress) -> None:
        if progress.image_number == number and not changed:
            changed.append(number)
            intrusion(tmp_path / "out")

    run = start(p.HeatMaps(occlude(str(folder))), progress=intrude)
    with pytest.raises(ExecutionError, match=r"out/ was removed or replaced .*\nWhat it had written"):
        copy_to(run, f"{tmp_path}/out/", {})


def test_two_queries_do_not_draw_into_one_folder(folder: Path, tmp_path: Path) -> None:
    def second(progress: Progress) -> None:
        with pytest.raises(ExecutionError, match="another query writes into .*out"):
            copied(p.HeatMaps(occlude(str(folder))), f"{tmp_path}/out/")

    assert copy_to(start(p.HeatMaps(occlude(str(folder))), progress=second), f"{tmp_path}/out/", {}).rows == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("nothing")])
def test_only_pictures_are_replaced_by_pictures(folder: Path, tmp_path: Path, make: Callable[[Path], object]) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out" / "b-0.png")
    with pytest.raises(ExecutionError, match=r"cannot write .*out/b-0\.png"):
        copied(p.HeatMaps(occlude(str(folder))), f"{tmp_path}/out/")
