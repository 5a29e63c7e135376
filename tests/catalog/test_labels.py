"""Class labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from kryptondb.catalog import labels
from kryptondb.catalog.labels import imagenet_labels, read_labels, resolve_labels
from kryptondb.errors import ModelError


def test_a_labels_file_has_one_label_a_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffno finding\r\n pneumonia \nödem\n\n".encode())
    assert read_labels(str(file)) == ("no finding", "pneumonia", "ödem")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "holds no labels"), (b"a\n\nb", "empty line 2"), (b"\xff\xfe", "not UTF-8"), (b"a\0b", "holds no labels")],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_labels(str(file))


def test_a_labels_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nolabels\.txt cannot be read: No such file"):
        read_labels(str(tmp_path / "nolabels.txt"))


def test_a_huge_labels_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    with file.open("wb") as out:
        out.truncate(1 << 40)  # sparse: a terabyte that takes no room
    with pytest.raises(ModelError, match="larger than 8 MiB"):
        read_labels(str(file))


def test_too_many_labels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MAX_CLASSES", 2)
    file = tmp_path / "labels.txt"
    file.write_text("a\nb\nc")
    with pytest.raises(ModelError, match="3 labels, more than 2"):
        read_labels(str(file))


def test_labels_must_be_as_many_as_the_classes(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("a\nb")
    assert resolve_labels(str(file), 2, None) == ("a", "b")
    with pytest.raises(ModelError, match=r"labels\.txt has 2 labels, but the model has 3 classes"):
        resolve_labels(str(file), 3, None)
    with pytest.raises(ModelError, match="labels => has 1 labels"):
        resolve_labels(("a",), 3, None)


def test_without_labels_the_sources_names_or_numbers_are_used() -> None:
    assert resolve_labels(None, 2, ("x", "y")) == ("x", "y")
    assert resolve_labels(None, 3, ("x", "y")) == ("class 0", "class 1", "class 2")


def test_imagenet_has_a_thousand_names() -> None:
    names = imagenet_labels()
    assert len(names) == 1000 and names[285] == "Egyptian cat" and names[0] == "tench"
