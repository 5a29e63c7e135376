"""COPY to DICOM: a secondary capture for each map, one series for each source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kryptondb.copy.sinks import CopyReport, copy_to
from kryptondb.errors import ExecutionError, ImageError
from kryptondb.images import Picture, sources
from kryptondb.optimizer import physical as p
from tests.fakes import FakeExperiment, occlude, start
from tests.images.test_secondary_capture import source

pydicom = pytest.importorskip("pydicom")
TOP_2 = p.ClassChoice("top", 2)


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Two DICOM files, whose pixels the test makes up: it is about what is written."""
    pixels = np.full((40, 30, 1), 0.5, dtype=np.float32)
    monkeypatch.setattr(sources, "decode", lambda path, part, window: Picture(str(path), pixels))
    (tmp_path / "in").mkdir()
    yield [
        str(source(tmp_path / "in" / f"{name}.dcm", SOPInstanceUID=f"1.2.3.4.{name}", PatientName=f"Doe^{name}"))
        for name in ("1", "2")
    ]


def copied(images: Any, path: str, classes: p.ClassChoice = TOP_2, **options: Any) -> tuple[CopyReport, Any]:
    run = start(p.HeatMaps(occlude(images, classes=classes)))
    return copy_to(run, path, options), run


def test_one_map_becomes_one_capture_that_says_how_it_was_made(scans: list[str], tmp_path: Path) -> None:
    path = tmp_path / "out" / "map.dcm"
    report, _ = copied(scans[0], str(path), p.ClassChoice("top", 1))
    assert report == CopyReport(str(path), "dicom", 1, path.stat().st_size)
    assert report.unit == "picture"
    made = pydicom.dcmread(path)
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"
    assert made.pixel_array.shape[2] == 3 and min(made.pixel_array.shape[:2]) > 100
    assert made.ImageComments.startswith(
        "Occlusion heat map of class 0 (tabby), probability 0.9000; shown: drop; model"
    )
    assert made.SeriesDescription == "Occlusion heat map, net"


def test_the_classes_of_a_source_share_a_series_and_are_numbered(scans: list[str], tmp_path: Path) -> None:
    report, _ = copied(scans, f"{tmp_path}/out/", format="dicom")
    assert report.rows == 4
    made = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1-0.dcm", "1-1.dcm", "2-0.dcm", "2-1.dcm"]
    assert [capture.InstanceNumber for capture in made] == [1, 2, 1, 2]
    series = [capture.SeriesInstanceUID for capture in made]
    assert series[0] == series[1] != series[2] == series[3]
    assert [str(capture.PatientName) for capture in made] == ["Doe^1", "Doe^1", "Doe^2", "Doe^2"]


def test_a_capture_of_its_own_is_replaced_and_a_scan_is_not(scans: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        assert copied(scans, f"{tmp_path}/out/", format="dicom")[0].rows == 4
    scan = source(tmp_path / "out" / "2-0.dcm", Manufacturer="Siemens").read_bytes()
    with pytest.raises(ExecutionError, match=r"cannot write .*2-0\.dcm: it already exists"):
        copied(scans, f"{tmp_path}/out/", format="dicom")
    assert (tmp_path / "out" / "2-0.dcm").read_bytes() == scan


def test_the_options_are_those_of_a_picture(scans: list[str], tmp_path: Path) -> None:
    copied(scans[0], str(tmp_path / "map.dcm"), p.ClassChoice("top", 1), size=90, title=False, colorbar=False)
    assert pydicom.dcmread(tmp_path / "map.dcm").pixel_array.shape == (90, 68, 3)


def test_the_figure_does_not_name_the_file(scans: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are often named after patients, and what is drawn into pixels no one can take out again."""
    from kryptondb.images import render

    titles: list[str] = []
    drawn = render.overlay

    def draw(*arguments: Any, **options: Any) -> Any:
        titles.append(options["title"])
        return drawn(*arguments, **options)

    monkeypatch.setattr(render, "overlay", draw)
    copied(scans[0], str(tmp_path / "map.dcm"), p.ClassChoice("top", 1))
    assert titles == ["tabby  0.900\nmodel net"]


def test_in_a_folder_pictures_that_are_no_dicom_files_are_left_out(
    scans: list[str], picture: str, tmp_path: Path
) -> None:
    report, run = copied([scans[0], picture], f"{tmp_path}/out/", format="dicom")
    assert report.rows == 2
    assert [failure.image for failure in run.errors] == [picture]
    assert "is not a DICOM file" in run.errors[0].message


def test_a_single_picture_that_is_no_dicom_file_is_an_error(picture: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not a DICOM file"):
        copied(picture, str(tmp_path / "map.dcm"), p.ClassChoice("top", 1))
    assert not (tmp_path / "map.dcm").exists()


def test_options_are_checked_before_any_work(scans: list[str], tmp_path: Path) -> None:
    experiment = FakeExperiment()
    with pytest.raises(Exception, match='no dicom option named "quality"'):
        copy_to(start(p.HeatMaps(occlude(scans)), experiment), str(tmp_path / "map.dcm"), {"quality": 3})
    assert experiment.log == []
