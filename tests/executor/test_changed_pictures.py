"""A picture that is another one when its map is drawn: nothing is drawn over it, and the error names it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kryptondb.copy.sinks import copy_to
from kryptondb.errors import ImageError
from kryptondb.executor import Progress
from kryptondb.optimizer import physical as p
from tests.fakes import occlude, order, start

SIZE = (40, 30)


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", SIZE, (level, level, level)).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def replaced(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(png(200))
    other.replace(path)


def rewritten_with_its_size_and_time(path: Path) -> None:
    status = path.stat()
    path.write_bytes(png(200))
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def drawn(spec: Any, target: str, change: Callable[[], None], **more: Any) -> Any:
    """A COPY during whose work the picture changes."""

    def progress(_: Progress) -> None:
        change()

    binding = {} if isinstance(spec, (str, tuple)) else {"binding": "0"}
    root = p.HeatMaps(occlude(None if binding else spec, **binding))
    run = start(order(root, "image"), progress=progress, bindings={"0": spec}, **more)
    return copy_to(run, target, {}), run


@pytest.mark.parametrize("target", ["map.png", "page.html", "maps/"])
@pytest.mark.parametrize("change", [replaced, rewritten_with_its_size_and_time])
def test_a_file_that_changes_while_its_map_is_computed(
    target: str, change: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(png(10))
    with pytest.raises(ImageError, match=r"scan\.png: the picture has changed since its map was computed"):
        drawn(str(path), str(tmp_path / target) + "/" * target.endswith("/"), lambda: change(path), on_error="stop")
    assert not (tmp_path / target).is_file()
    if target == "maps/":
        path.write_bytes(png(10))
        report, run = drawn(str(path), f"{tmp_path}/maps/", lambda: change(path))
        assert report.rows == 0
        assert [failure.image for failure in run.errors] == [str(path)]


def test_a_picture_that_is_touched_or_written_again_as_it_was_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(png(10))
    report, run = drawn(str(path), str(tmp_path / "map.png"), lambda: bool(path.write_bytes(png(10))) and None)
    assert (report.rows, run.errors) == (1, [])


def test_an_array_that_changes(tmp_path: Path) -> None:
    array = np.full((*SIZE[::-1], 3), 10, np.uint8)
    with pytest.raises(ImageError, match="image: the picture has changed"):
        drawn(array, str(tmp_path / "map.png"), lambda: array.fill(200), on_error="stop")


def test_a_row_of_a_table_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "scans.parquet"
    rows = pa.table({"image": [png(10), png(20)]})
    pq.write_table(rows, path, row_group_size=1, compression="none", use_dictionary=False)

    def change() -> None:
        data = path.read_bytes()
        with path.open("r+b") as stream:  # in place: the reader has it open
            stream.write(data.replace(png(10), png(200)))

    report, run = drawn(str(path), f"{tmp_path}/maps/", change)
    assert report.rows == 1
    assert [failure.image for failure in run.errors] == [f"{path}#row=0"]


def test_a_picture_that_is_given_twice_and_changes_in_between_is_drawn_for_neither(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(png(10))
    report, run = drawn((str(path), str(path)), f"{tmp_path}/maps/", lambda: replaced(path))
    assert report.rows == 0
    assert {failure.image for failure in run.errors} == {str(path)}


def test_the_header_of_a_dicom_file_is_its_pictures_too(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.images.dicoms import write_dicom

    same = {"StudyInstanceUID": "1.2.3", "PatientName": "Doe^Jane"}
    path = write_dicom(tmp_path / "scan.dcm", np.full(SIZE[::-1], 10, np.uint8), **same)

    def change() -> None:
        write_dicom(path, np.full(SIZE[::-1], 10, np.uint8), **{**same, "PatientName": "Roe^Richard"})

    with pytest.raises(ImageError, match=r"scan\.dcm: the picture has changed"):
        drawn(str(path), str(tmp_path / "map.dcm"), change, on_error="stop")


def test_a_notebook_says_that_a_picture_has_changed_since(tmp_path: Path) -> None:
    import kryptondb
    from tests.end_to_end.test_names import Brightness

    path = tmp_path / "scan.png"
    path.write_bytes(png(10))
    with kryptondb.connect() as session:
        session.register("m", Brightness(), size=(16, 16))
        result = session.sql("SELECT HEATMAP FROM occlude(m, ?, patch => 8, stride => 8)", [str(path)])
        result.arrow()
        assert "data:image/png" in result._repr_html_()
        replaced(path)
        page = result._repr_html_()
        assert "data:image/png" not in page
        assert "the picture has changed since its map was computed" in page
        again = session.sql("SELECT HEATMAP FROM occlude(m, ?, patch => 8, stride => 8)", [str(path)])
        assert "data:image/png" in again._repr_html_()
