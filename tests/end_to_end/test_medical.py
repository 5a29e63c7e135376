"""DICOM files, volumes and tables of pictures, from a query to its answer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import kryptondb
from kryptondb.cli import main
from tests.end_to_end.conftest import picture
from tests.images.dicoms import PATIENT, write_dicom
from tests.networks import small_network

CT = np.add.outer(np.linspace(-1200, 1200, 32), np.linspace(-300, 300, 32)).astype(np.int16)


@pytest.fixture
def db(work: Path) -> Iterator[kryptondb.Session]:
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=32, labels=["a", "b", "c"])
        yield session


def heatmap(db: kryptondb.Session, images: object, options: str = "") -> np.ndarray:
    return db.sql(f"SELECT HEATMAP FROM occlude(net, ?, patch => 8, class => 'a' {options})", [images]).heatmaps()[0]


def test_a_dicom_file_answers_as_the_picture_that_a_viewer_shows(db: kryptondb.Session, work: Path) -> None:
    write_dicom(work / "ct.dcm", CT, WindowCenter=40, WindowWidth=400, RescaleSlope=1, RescaleIntercept=0)
    for window, options in (((40, 400), ""), ((-600, 1500), ", window => (-600, 1500)")):
        low = window[0] - 0.5 - (window[1] - 1) / 2
        shown = np.clip((CT - low) / (window[1] - 1), 0, 1).astype(np.float32)
        np.testing.assert_allclose(heatmap(db, "ct.dcm", options), heatmap(db, shown), atol=1e-6)
    assert np.abs(heatmap(db, "ct.dcm") - heatmap(db, "ct.dcm", ", window => (-600, 1500)")).max() > 1e-4


@pytest.mark.slow
def test_an_array_of_hounsfield_units_answers_through_a_window(db: kryptondb.Session) -> None:
    shown = np.clip((CT - 40) / 400 + 0.5, 0, 1).astype(np.float32)
    found = heatmap(db, CT, ", window => (40, 400)")
    np.testing.assert_allclose(found, heatmap(db, shown), atol=1e-6)


@pytest.mark.slow
def test_frames_of_a_study_are_pictures_with_names_and_overlays_of_their_own(db: kryptondb.Session, work: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    write_dicom(work / "study.dcm", frames, frames=3)
    query = "SELECT HEATMAP FROM occlude(net, ('study.dcm#frame=3', 'study.dcm#frame=1'), patch => 8)"
    assert db.sql(query).arrow()["image"].to_pylist() == ["study.dcm#frame=3", "study.dcm#frame=1"]
    db.sql(f"COPY ({query}) TO 'out/'")
    names = sorted(path.name.rpartition("-")[0] for path in Path("out").iterdir())
    assert names == ["study-frame-1", "study-frame-3"]


def test_what_a_file_says_of_a_patient_reaches_no_answer_and_no_error(
    db: kryptondb.Session, work: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_dicom(work / "good.dcm", CT)
    path = write_dicom(work / "bad.dcm", CT)
    path.write_bytes(path.read_bytes()[:-100])
    query = "SELECT HEATMAP, PREDICTION FROM occlude(net, ('good.dcm', 'bad.dcm'), patch => 8)"
    with caplog.at_level("DEBUG"):
        result = db.sql(query)
        db.sql(f"COPY ({query}) TO 'out.arrow'")
        db.sql("COPY (SELECT HEATMAP FROM occlude(net, 'good.dcm', patch => 8)) TO 'out.png'")
        result.show()
    assert [error.image for error in result.errors] == ["bad.dcm"]
    assert result.errors[0].message == "bad.dcm: damaged DICOM file: its pixels cannot be decoded"
    said = [str(result.errors), str(result.arrow().schema.metadata), caplog.text, *capfd.readouterr()]
    said += [Path(name).read_bytes().decode("latin-1") for name in ("out.arrow", "out.png")]
    for text in said:
        assert PATIENT not in text and "4711" not in text


def test_a_folder_that_a_pacs_exported_is_read_whatever_its_files_are_called(db: kryptondb.Session, work: Path) -> None:
    folder = work / "export" / "ST1"
    folder.mkdir(parents=True)
    for name in ("IM0001", "1.2.840.113619.2.55", "plain.dcm"):
        write_dicom(folder / name, CT)
    (folder / "README").write_text("no picture")
    (work / "export" / "DICOMDIR").write_bytes((folder / "IM0001").read_bytes())
    found = db.sql("SELECT image, max(drop) AS most FROM occlude(net, 'export', patch => 16) GROUP BY image").arrow()
    assert [Path(name).name for name in found["image"].to_pylist()] == ["1.2.840.113619.2.55", "IM0001", "plain.dcm"]


def test_a_slice_of_every_volume_of_a_folder(db: kryptondb.Session, work: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    voxels = np.random.default_rng(0).integers(0, 256, (32, 32, 5), dtype=np.uint8)
    for name in ("a.nii.gz", "b.nii"):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), work / name)
    found = db.sql("SELECT HEATMAP FROM occlude(net, '*.nii*#slice=2', patch => 8, class => 'a')")
    assert found.arrow()["image"].to_pylist() == ["a.nii.gz#slice=2", "b.nii#slice=2"]
    expected = heatmap(db, np.rot90(voxels[:, :, 2]))
    for each in found.heatmaps():
        np.testing.assert_allclose(each, expected, atol=1e-6)


@pytest.mark.slow
def test_a_table_of_pictures_answers_as_a_list_of_them(db: kryptondb.Session, work: Path) -> None:
    pictures = []
    for number in range(5):
        stream = io.BytesIO()
        picture(number).save(stream, "PNG")
        pictures.append(stream.getvalue())
    pq.write_table(pa.table({"scan": [*pictures, b"no picture"], "age": range(6)}), work / "scans.parquet")
    query = "SELECT HEATMAP FROM occlude(net, {}, patch => 8, class => 'a')"
    found = db.sql(query.format("images => parquet('scans.parquet', column => 'scan')"))
    assert found.arrow()["image"].to_pylist() == [f"scans.parquet#row={number}" for number in range(5)]
    assert [error.image for error in found.errors] == ["scans.parquet#row=5"]
    expected = db.sql(query.format("?"), [[picture(number) for number in range(5)]])
    np.testing.assert_allclose(found.heatmaps(), expected.heatmaps(), atol=1e-6)
    db.sql(f"COPY ({query.format('parquet($path, column => $column)')}) TO 'out/'", {"path": "scans.parquet", "column": "scan"})  # fmt: skip # noqa: E501
    assert len(list(Path("out").glob("scans-row-*.png"))) == 5


def test_the_command_line_is_silent_about_oddities_in_files(work: Path, exported: Path, capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip # noqa: E501
    import tifffile

    tifffile.imwrite(work / "odd.tif", np.asarray(picture(0)), photometric="rgb", extratags=[(256, "H", 2, (32, 32), True)])  # fmt: skip # noqa: E501
    Image.open(work / "odd.tif").close()
    write_dicom(work / "odd.dcm", CT, WindowCenter=40, WindowWidth=400, PhotometricInterpretation="monochrome 2")
    create = f"CREATE MODEL net FROM '{exported}'"
    assert (
        main(["-c", create, "-c", "SELECT y, drop FROM occlude(net, ('odd.tif', 'odd.dcm'), patch => 16) LIMIT 1"]) == 0
    )
    assert capfd.readouterr().err == ""
