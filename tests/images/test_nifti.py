"""A slice of a NIfTI volume is the right one, upright, in the levels that its header means."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kryptondb.errors import ImageError
from kryptondb.images import decode, nifti, sample_path
from kryptondb.images.content import Part

nibabel = pytest.importorskip("nibabel")

CANONICAL = np.random.default_rng(0).integers(0, 256, (5, 7, 9), dtype=np.uint8)  # right, front, up
RAS = np.diag([2.0, 2.0, 2.0, 1.0])


def write(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64] = RAS, kind: Any = None, **header: Any) -> Path:
    image = (kind or nibabel.Nifti1Image)(voxels, affine)
    for name, value in header.items():
        image.header[name] = value
    data = image.to_bytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def levels(path: Path, window: tuple[float, float] | None = None, **part: Any) -> NDArray[np.float32]:
    return decode(path, Part(**part), window).pixels[:, :, 0]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
def test_slices_of_each_axis_are_upright(name: str, kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, CANONICAL, kind=getattr(nibabel, kind))
    up, front = slice(None, None, -1), slice(None, None, -1)
    # Rows go down the picture and columns to the right: head or front at the top, the patient's right at the right.
    assert np.array_equal(np.rint(levels(path, slice=3) * 255), CANONICAL[:, front, 3].T)
    assert np.array_equal(np.rint(levels(path, slice=2, axis="coronal") * 255), CANONICAL[:, 2, up].T)
    assert np.array_equal(np.rint(levels(path, slice=1, axis="sagittal") * 255), CANONICAL[1, :, up].T)
    assert decode(path, Part(slice=3)).name == f"{path}#slice=3"


@pytest.mark.parametrize("codes", ["LAS", "RPI", "PIR", "SLA"])
def test_a_slice_is_the_same_whatever_the_order_in_which_voxels_are_stored(codes: str, tmp_path: Path) -> None:
    plain = write(tmp_path / "ras.nii", CANONICAL)
    start = nibabel.orientations.axcodes2ornt("RAS")
    change = nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(codes))
    stored = nibabel.Nifti1Image(CANONICAL, RAS).as_reoriented(change)
    assert nibabel.aff2axcodes(stored.affine) == tuple(codes)
    other = write(tmp_path / "other.nii", np.asarray(stored.dataobj), stored.affine)
    for axis in ("axial", "coronal", "sagittal"):
        assert np.array_equal(levels(plain, slice=1, axis=axis), levels(other, slice=1, axis=axis))


def test_levels_come_from_the_window_the_header_the_type_or_the_whole_volume(tmp_path: Path) -> None:
    voxels = np.linspace(-1000, 2000, 315).reshape(5, 7, 9).astype(np.int16)
    axial = voxels[:, ::-1, 4].T.astype(np.float64)
    plain = write(tmp_path / "a.nii", voxels)
    np.testing.assert_allclose(levels(plain, slice=4), (axial + 1000) / 3000, atol=1e-6)
    np.testing.assert_allclose(levels(plain, (40, 400), slice=4), np.clip((axial - 40) / 400 + 0.5, 0, 1), atol=1e-6)
    shown = write(tmp_path / "b.nii", voxels, cal_min=-500, cal_max=500)
    np.testing.assert_allclose(levels(shown, slice=4), np.clip((axial + 500) / 1000, 0, 1), atol=1e-6)
    scaled = write(tmp_path / "c.nii", voxels, scl_slope=-2, scl_inter=10)
    np.testing.assert_allclose(levels(scaled, slice=4), 1 - (axial + 1000) / 3000, atol=1e-6)
    halves = np.where(voxels > 1999, np.nan, voxels).astype(np.float32)
    assert np.isfinite(levels(write(tmp_path / "d.nii", halves), slice=4)).all()


def test_colors_and_a_series_of_volumes_are_read(tmp_path: Path) -> None:
    colors = np.zeros((5, 7, 9), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colors["G"] = CANONICAL
    pixels = decode(write(tmp_path / "rgb.nii", colors), Part(slice=3)).pixels
    assert np.array_equal(np.rint(pixels[:, :, 1] * 255), CANONICAL[:, ::-1, 3].T)
    assert pixels[:, :, [0, 2]].max() == 0
    series = write(tmp_path / "series.nii.gz", np.stack([CANONICAL, 255 - CANONICAL], axis=-1))
    np.testing.assert_allclose(levels(series, slice=3, volume=1), 1 - levels(series, slice=3), atol=1e-6)
    with pytest.raises(ImageError, match="no volume 2: it has 2, which count from 0"):
        levels(series, slice=3, volume=2)


def test_a_volume_needs_a_slice_and_says_how_many_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", CANONICAL)
    with pytest.raises(ImageError, match=r"no slice of it is named\nIt has 9 axial slices: '.*a\.nii\.gz#slice=4'"):
        decode(path)
    with pytest.raises(ImageError, match="no sagittal slice 5: it has 5"):
        levels(path, slice=5, axis="sagittal")
    assert decode(write(tmp_path / "flat.nii", CANONICAL[:, :, :1])).pixels.shape == (7, 5, 1)


def test_what_a_header_claims_is_bounded_before_anything_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", CANONICAL)
    header = path.read_bytes()
    huge = bytearray(header)
    huge[42:48] = np.array([30000, 30000, 30000], dtype="<i2").tobytes()  # dim[1..3]
    path.write_bytes(huge)
    with pytest.raises(ImageError, match="a volume of 27,000,000,000,000 bytes is more than"):
        levels(path, slice=0)
    far = bytearray(header)
    far[108:112] = np.array([1e12], dtype="<f4").tobytes()  # vox_offset
    path.write_bytes(gzip.compress(far))
    with pytest.raises(ImageError, match="bytes into the file, farther than is read"):
        levels(path, slice=0)


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", CANONICAL)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ImageError, match="truncated NIfTI file: 305 bytes of a volume of 315"):
        levels(path, slice=0)
    path = write(tmp_path / "a.nii.gz", CANONICAL)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ImageError, match=r"a\.nii\.gz: damaged or truncated NIfTI"):
        levels(path, slice=0)
    path.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ImageError, match="not a NIfTI file"):
        levels(path, slice=0)


def test_the_brain_that_nilearn_ships_is_the_one_the_benchmarks_network_looks_at() -> None:
    try:
        path = sample_path("brain")
    except ImageError:
        pytest.skip("nilearn is not installed")
    volume = np.asarray(nibabel.load(path).dataobj)
    for axis, across in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        assert np.array_equal(np.rint(levels(path, slice=60, axis=axis) * 255), np.rot90(volume.take(60, across)))


def test_a_message_names_nibabel_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = write(tmp_path / "a.nii", CANONICAL)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImageError, match=r'needs the package nibabel\npip install "kryptondb\[medical\]"'):
        decode(path, Part(slice=1))
    assert nifti.is_nifti(path.read_bytes())


@pytest.mark.parametrize("kind", ["Nifti1Pair", "Nifti2Pair"])
def test_a_volume_in_two_files_is_refused_with_the_remedy(kind: str, tmp_path: Path) -> None:
    nibabel.save(getattr(nibabel, kind)(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "a.hdr")
    for part in (Part(), Part(slice=1)):
        with pytest.raises(ImageError, match=r"the header of a NIfTI volume in two files(.|\n)*nibabel\.save"):
            decode(tmp_path / "a.hdr", part)
    (tmp_path / "b.hdr.gz").write_bytes(gzip.compress((tmp_path / "a.hdr").read_bytes()))
    with pytest.raises(ImageError, match="in two files"):
        decode(tmp_path / "b.hdr.gz", Part(slice=1))
    with pytest.raises(ImageError, match=r"if these are the voxels of a volume in two files"):
        decode(tmp_path / "a.img")
