"""What an images argument may name: found in order, decoded late, wrong in one way only."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kryptondb.errors import ImageError
from kryptondb.images import find_images, folders, is_single, sample_path, sources


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """scans/: b.png, a.JPG, notes.txt, .hidden.png, raw.img, deep/{c.tif,deeper/d.png,empty/}, .git/e.png."""
    root = tmp_path / "scans"
    for name in (
        "b.png",
        "a.JPG",
        "notes.txt",
        ".hidden.png",
        "raw.img",
        "deep/c.tif",
        "deep/deeper/d.png",
        ".git/e.png",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2), 77).save(path, format="PNG")
    (root / "deep" / "empty").mkdir()
    return root


def _names(spec: object, root: Path) -> list[str]:
    return [Path(source.name).relative_to(root).as_posix() for source in find_images(spec)]


def test_a_path_is_one_picture_named_as_it_was_given(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scans)
    (source,) = find_images("deep/c.tif")
    assert source.name == str(Path("deep", "c.tif"))
    assert source.load().name == source.name
    assert source.load().pixels.shape == (2, 3, 1)
    assert [s.name for s in find_images(Path("b.png"))] == ["b.png"]


def test_a_folder_gives_its_pictures_at_all_depths_in_name_order(scans: Path) -> None:
    assert _names(str(scans), scans) == ["a.JPG", "b.png", "deep/c.tif", "deep/deeper/d.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["b.png"]),
        ("*", ["a.JPG", "b.png"]),
        ("*.*", ["a.JPG", "b.png"]),
        ("*.img", ["raw.img"]),
        ("[ab].*", ["a.JPG", "b.png"]),
        ("?.png", ["b.png"]),
        (".h*.png", [".hidden.png"]),
        ("**/*.png", ["b.png", "deep/deeper/d.png"]),
        ("**", ["a.JPG", "b.png", "deep/c.tif", "deep/deeper/d.png"]),
        ("**/deeper/*", ["deep/deeper/d.png"]),
        ("**/d.png", ["deep/deeper/d.png"]),
        ("d*/*.tif", ["deep/c.tif"]),
        ("**/**/deep/**/*.png", ["deep/deeper/d.png"]),
    ],
)
def test_a_glob_matches_as_in_a_shell(pattern: str, expected: list[str], scans: Path) -> None:
    assert _names(str(scans / pattern), scans) == expected


def test_two_double_stars_give_each_file_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "b" / "c.png"
    path.parent.mkdir(parents=True)
    path.touch()
    assert _names(str(tmp_path / "**" / "b" / "**" / "*.png"), tmp_path) == ["a/b/b/c.png"]


def test_a_relative_glob_gives_relative_names(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scans)
    assert [source.name for source in find_images("**/*.tif")] == [str(Path("deep", "c.tif"))]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(scans: Path) -> None:
    odd = scans / "slice[1].png"
    (scans / "b.png").rename(odd)
    assert _names(str(odd), scans) == ["slice[1].png"]
    assert is_single(str(odd))


def test_links_that_go_round_in_circles_are_walked_once(scans: Path) -> None:
    try:
        (scans / "deep" / "loop").symlink_to(scans, target_is_directory=True)
        (scans / "self").symlink_to(scans / "self")
    except OSError:
        pytest.skip("no symbolic links here")
    expected = ["a.JPG", "b.png", "deep/c.tif", "deep/deeper/d.png"]
    assert _names(str(scans), scans) == expected
    assert sorted(_names(str(scans / "**" / "*"), scans)) == expected
    assert _names(str(scans / "**" / "b.png"), scans) == ["b.png"]


def test_nothing_is_decoded_or_walked_before_its_turn(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[str] = []
    entries = folders._entries

    def watched(folder: Path, above: folders.Ancestors) -> object:
        walked.append(folder.name)
        return entries(folder, above)

    monkeypatch.setattr(folders, "_entries", watched)
    monkeypatch.setattr(sources, "decode", lambda path, *_: pytest.fail(f"decoded {path}"))
    found = find_images(str(scans))
    next(found)
    assert walked == ["scans"]
    assert len(list(found)) == 3
    assert walked == ["scans", "deep", "deeper", "empty"]


def test_a_sample_is_named_without_its_prefix() -> None:
    (source,) = find_images("sample:cat")
    assert source.name == "cat"
    assert source.load().name == "cat"
    assert source.load().pixels.shape == (300, 451, 3)


def test_a_source_says_which_file_it_is_in(scans: Path) -> None:
    sample, array, *files = find_images(["sample:cat", np.zeros((2, 2)), str(scans / "b.png")])
    assert sample.file == sample_path("sample:cat") and array.file is None
    assert [source.file for source in files] == [scans / "b.png"]


def test_arrays_and_pil_images_alone_and_in_lists_get_names_of_their_own(scans: Path) -> None:
    array = np.full((4, 5), 255, dtype=np.uint8)
    (single,) = find_images(array)
    assert (single.name, single.load().name) == ("image", "image")
    with Image.open(scans / "b.png") as opened:
        found = list(
            find_images([array, Image.new("RGB", (2, 2)), opened, "sample:coffee", str(scans / "deep" / "*.tif")])
        )
        names = [source.name for source in found]
        assert names == ["image[0]", "image[1]", str(scans / "b.png"), "coffee", str(scans / "deep" / "c.tif")]
        assert [source.load().name for source in found] == names


def test_one_wrong_entry_of_a_list_fails_alone(scans: Path) -> None:
    missing = str(scans / "missing.png")
    found = list(find_images([missing, str(scans / "*.gif"), 7, str(scans / "b.png")]))
    for source, message in zip(found, ["missing.png: no such file", "no file matches", "type int"], strict=False):
        with pytest.raises(ImageError, match=message):
            source.load()
    assert found[0].name == missing
    assert found[3].load().pixels.shape == (2, 3, 1)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_fails_alone(scans: Path) -> None:
    closed = scans / "deep"
    closed.chmod(0)
    try:
        found = list(find_images(str(scans)))
        assert len(found) == 3
        with pytest.raises(ImageError, match="deep: permission denied"):
            found[2].load()
    finally:
        closed.chmod(0o700)


def test_what_cannot_be_found_is_said_at_once(scans: Path) -> None:
    (scans / "deep" / "deeper" / "d.png").unlink()
    for spec, message in (
        (str(scans / "bb.png"), r'bb\.png: no such file\nDid you mean "b\.png"'),
        (str(scans / "nowhere" / "b.png"), "no such file"),
        (str(scans / "*.gif"), r"\*\.gif: no file matches"),
        (str(scans / "deep" / "empty"), "no pictures in this folder"),
        ("sample:kat", 'Did you mean "cat"'),
        ([], "empty"),
        ("", "empty"),
        ("a\0b", "no such file"),
        ("x" * 5000, "no such file"),
        (None, "type NoneType"),
        (3, "type int"),
    ):
        with pytest.raises(ImageError, match=message):
            find_images(spec)


def test_is_single_tells_one_picture_from_many(scans: Path) -> None:
    single = [str(scans / "b.png"), str(scans / "missing.png"), "sample:cat", np.zeros((2, 2)), Image.new("L", (1, 1))]
    assert all(is_single(spec) for spec in single)
    several: list[object] = [str(scans), str(scans / "*.png"), [str(scans / "b.png"), "sample:cat"], []]
    for spec in several:
        assert not is_single(spec)


def test_the_address_of_a_file_of_this_machine_is_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    Image.new("L", (3, 2)).save(folder / "c.png")
    Image.new("L", (3, 2)).save(folder / "d.png")
    for address, names in (
        (f"{folder.as_uri()}/c.png", ["c.png"]),
        (f"file://localhost{folder}/c.png", ["c.png"]),
        (folder.as_uri(), ["c.png", "d.png"]),
        (f"file://{folder}/*.png", ["c.png", "d.png"]),
    ):
        found = list(find_images(address))
        assert [source.name for source in found] == [str(folder / name) for name in names]
        assert found[0].load().pixels.shape == (2, 3, 1)
    with pytest.raises(ImageError, match="cannot be fetched from file://"):
        next(find_images("file://elsewhere/c.png")).load()
