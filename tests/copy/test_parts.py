"""COPY to a folder of Parquet files: image by image, and the same command goes on where it stopped."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest
from PIL import Image

import kryptondb
from benchmarks.killed_batch import SOUND, UNHURT, killed
from kryptondb.copy import parts
from kryptondb.copy.manifest import NAME
from kryptondb.executor import calibrate
from kryptondb.optimizer.cost import Rates
from tests.networks import small_network

IMAGES = 7
QUERY = "SELECT HEATMAP FROM occlude(net, $pictures, patch => 8)"
COPY = f"COPY ({QUERY}) TO $maps (FORMAT parquet)"


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(IMAGES):
        picture(seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[kryptondb.Session]:
    monkeypatch.setattr(calibrate, "measure", lambda _: Rates())
    monkeypatch.setattr(parts, "_IMAGES", 2)
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=32, labels=["a", "b", "c"])
        session.sql("SET threads = 1")
        yield session


@pytest.fixture
def copied(db: kryptondb.Session, pictures: Path, tmp_path: Path) -> Callable[[], dict[str, object]]:
    """Runs the command; what it answers."""

    def run() -> dict[str, object]:
        result = db.sql(COPY, {"pictures": str(pictures), "maps": f"{tmp_path}/maps/"})
        return {**result.arrow().to_pylist()[0], "message": result.message, "errors": result.errors}

    return run


def rows(tmp_path: Path) -> list[str]:
    """The images in the folder, as a reader of data sets finds them."""
    table = pyarrow.dataset.dataset(tmp_path / "maps", format="parquet").to_table(columns=["image"])
    return sorted(Path(name).name for name in table["image"].to_pylist())


ALL = [f"{seed}.png" for seed in range(IMAGES)]


@pytest.mark.slow
def test_rows_come_in_parts_that_hold_whole_images(copied, db, pictures, tmp_path: Path) -> None:
    status = copied()
    assert (status["done"], status["failed"], status["skipped"], status["files"]) == (IMAGES, 0, 0, 4)
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        NAME, *(f"part-{number:05}.parquet" for number in range(1, 5)),
    ]  # fmt: skip
    assert rows(tmp_path) == ALL
    table = pyarrow.dataset.dataset(tmp_path / "maps", format="parquet").to_table().sort_by("image")
    expected = db.sql(QUERY, {"pictures": str(pictures)})
    found = table["heatmap"].combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(found, expected.heatmaps())
    metadata = pyarrow.parquet.read_schema(tmp_path / "maps" / "part-00001.parquet").metadata
    assert metadata[b"kryptondb.quality"] == b"exact"


def test_what_was_done_is_said_in_a_sentence(copied, pictures: Path) -> None:
    (pictures / "broken.png").write_bytes(b"nothing")
    first, second = copied()["message"], copied()["message"]
    assert "maps/: 7 new, 1 failed; " in first and "images per second; 4 files, " in first
    assert second.endswith("maps/: 0 new, 7 already done, 1 failed")


def test_run_again_it_explains_only_what_is_new(copied, pictures: Path, tmp_path: Path) -> None:
    copied()
    picture(100).save(pictures / "new.png")
    status = copied()
    assert (status["done"], status["skipped"]) == (1, IMAGES)
    assert rows(tmp_path) == [*ALL, "new.png"]


def test_a_picture_that_could_not_be_read_is_told_and_tried_again(copied, pictures: Path, tmp_path: Path) -> None:
    (pictures / "bad.png").write_bytes(b"nothing")
    status = copied()
    assert status["failed"] == 1 and status["errors"].arrow()["image"].to_pylist() == [str(pictures / "bad.png")]
    assert "not a PNG" in status["errors"].df()["message"][0]
    record = [json.loads(line) for line in (tmp_path / "maps" / NAME).read_text().splitlines()]
    assert [entry["failed"] for entry in record if "failed" in entry] == [str(pictures / "bad.png")]
    picture(100).save(pictures / "bad.png")
    assert copied()["done"] == 1 and rows(tmp_path) == [*ALL, "bad.png"]


def test_a_picture_that_has_changed_is_told_and_keeps_its_rows(copied, pictures: Path, tmp_path: Path) -> None:
    copied()
    picture(100).save(pictures / "3.png")
    os.utime(pictures / "3.png", (1, 1))
    status = copied()
    assert status["skipped"] == IMAGES and rows(tmp_path) == ALL
    (failure,) = status["errors"]
    assert failure.image == str(pictures / "3.png") and "has changed since its rows were written" in failure.message


def test_a_picture_that_vanishes_midway_is_told(copied, pictures: Path, tmp_path: Path, monkeypatch) -> None:
    write = parts._Copy._write

    def vanishing(self) -> None:
        (pictures / "6.png").unlink(missing_ok=True)
        write(self)

    monkeypatch.setattr(parts._Copy, "_write", vanishing)
    status = copied()
    assert rows(tmp_path) == ALL[:-1] and [failure.image for failure in status["errors"]] == [str(pictures / "6.png")]


def test_images_whose_rows_are_all_left_out_are_done_too(db, pictures: Path, tmp_path: Path) -> None:
    statement = COPY.replace("HEATMAP", "image, row").replace("patch => 8)", "patch => 8) WHERE score > 2")
    names = {"pictures": str(pictures), "maps": f"{tmp_path}/maps/"}
    assert db.sql(statement, names).arrow()["done"].to_pylist() == [IMAGES]
    assert db.sql(statement, names).arrow()["skipped"].to_pylist() == [IMAGES]


def test_arrays_are_known_by_what_they_show(db, tmp_path: Path) -> None:
    first, second = (np.asarray(picture(seed)) for seed in (0, 1))
    maps = f"{tmp_path}/maps/"
    db.sql(COPY, {"pictures": [first], "maps": maps})
    result = db.sql(COPY, {"pictures": [second, first], "maps": maps})
    status = result.arrow().to_pylist()[0]
    assert (status["skipped"], status["done"]) == (1, 1)
    assert "has changed since" in result.errors[0].message


def test_cells_go_to_a_folder_without_saying_the_format(db, pictures: Path, tmp_path: Path) -> None:
    db.sql("COPY (SELECT image, drop FROM occlude(net, $pictures, patch => 8)) TO $maps",
           {"pictures": str(pictures), "maps": f"{tmp_path}/maps/"})  # fmt: skip
    assert len(rows(tmp_path)) == IMAGES * 49


# What is refused


@pytest.mark.parametrize("tail", [" ORDER BY base", " LIMIT 2", " GROUP BY image"])
def test_a_query_that_needs_all_images_at_once_is_refused(db, pictures: Path, tmp_path: Path, tail: str) -> None:
    query = "SELECT image, max(drop) FROM occlude(net, $pictures)" if "GROUP" in tail else (
        "SELECT image, base FROM occlude(net, $pictures)"
    )  # fmt: skip
    with pytest.raises(kryptondb.BindError, match="needs all of them"):
        db.sql(f"COPY ({query}{tail}) TO $maps (FORMAT parquet)",
               {"pictures": str(pictures), "maps": f"{tmp_path}/maps/"})  # fmt: skip
    assert not (tmp_path / "maps").exists()


def test_a_folder_belongs_to_one_query(copied, db, pictures: Path, tmp_path: Path) -> None:
    copied()
    names = {"pictures": str(pictures), "maps": f"{tmp_path}/maps/"}
    with pytest.raises(kryptondb.ExecutionError, match=r"holds the rows of another query: SELECT HEATMAP"):
        db.sql(COPY.replace("patch => 8", "patch => 16"), names)
    db.register("net2", small_network(width=5), size=32)
    db.database.models.drop("net", False)
    db.register("net", small_network(width=5), size=32)
    with pytest.raises(kryptondb.ExecutionError, match="of a model that has changed since"):
        copied()


def test_a_folder_belongs_to_the_labels_that_its_rows_have(copied, db, tmp_path: Path) -> None:
    copied()
    db.database.models.drop("net", False)
    db.register("net", small_network(), size=32, labels=["a", "b", "z"])
    with pytest.raises(kryptondb.ExecutionError, match="of a model that has changed since"):
        copied()


def test_a_record_of_an_earlier_version_says_nothing_of_labels_and_is_gone_on_with(copied, tmp_path: Path) -> None:
    copied()
    record = tmp_path / "maps" / NAME
    first, *others = record.read_text().splitlines(keepends=True)
    entry = json.loads(first)
    del entry["query"]["labels"]
    record.write_text("".join([json.dumps(entry) + "\n", *others]))
    assert copied()["skipped"] == IMAGES


def test_a_folder_with_parts_of_somebody_else_is_left_alone(copied, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "part-00001.parquet").write_bytes(b"precious")
    with pytest.raises(kryptondb.ExecutionError, match="holds parts that no"):
        copied()
    assert (tmp_path / "maps" / "part-00001.parquet").read_bytes() == b"precious"


def test_two_queries_do_not_write_into_one_folder(copied, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    copied()
    with (tmp_path / "maps" / NAME).open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(kryptondb.ExecutionError, match="another query writes into"):
            copied()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(copied, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir(mode=0o500)
    with pytest.raises(kryptondb.ExecutionError, match="cannot write .*maps"):
        copied()


# Ends that come early


def test_a_full_disk_leaves_what_is_written_and_says_how_to_go_on(copied, tmp_path: Path, monkeypatch) -> None:
    sync, left = os.fsync, 4

    def full(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            kryptondb.ExecutionError, match=r"No space left on device(.|\n)*to continue with the other images"
        ):
            copied()
    assert 0 < len(rows(tmp_path)) < IMAGES
    copied()
    assert rows(tmp_path) == ALL


def test_ctrl_c_keeps_the_images_that_are_complete(copied, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(parts, "_IMAGES", 100)
    finished, seen = parts._Copy._finished, 0

    def interrupted(self, source) -> None:
        nonlocal seen
        finished(self, source)
        seen += 1
        if seen == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parts._Copy, "_finished", interrupted)
        with pytest.raises(KeyboardInterrupt):
            copied()
    assert rows(tmp_path) == ALL[:3]
    status = copied()
    assert (status["skipped"], status["done"]) == (3, IMAGES - 3) and rows(tmp_path) == ALL


def test_a_record_that_was_cut_off_is_mended(copied, tmp_path: Path) -> None:
    copied()
    record = tmp_path / "maps" / NAME
    whole = record.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    record.write_bytes(whole[: -len(last) // 2])
    (tmp_path / "maps" / ".part-00004.parquet.abc.partial").write_bytes(b"half")
    status = copied()
    assert status["done"] == len(json.loads(last)["images"]) and rows(tmp_path) == ALL
    assert not list((tmp_path / "maps").glob(".*"))


def test_a_record_that_is_damaged_in_the_middle_is_not_guessed_at(copied, tmp_path: Path) -> None:
    copied()
    record = tmp_path / "maps" / NAME
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join([lines[0], b"?\n", *lines[1:]]))
    with pytest.raises(kryptondb.ExecutionError, match="damaged: line 2"):
        copied()


def test_images_of_a_part_that_was_lost_are_explained_again(copied, tmp_path: Path) -> None:
    copied()
    (tmp_path / "maps" / "part-00002.parquet").unlink()
    assert copied()["done"] == 2 and rows(tmp_path) == ALL


@pytest.mark.slow
def test_a_process_that_is_killed_loses_and_repeats_nothing(tmp_path: Path) -> None:
    assert set(killed(2, 1, tmp_path)) <= {SOUND, UNHURT}  # once at a moment, once in the middle of writing


# Folders that change while they are written into

INTRUSIONS = {
    "removed": shutil.rmtree,
    "moved": lambda maps: maps.rename(maps.with_name("elsewhere")),
    "replaced": lambda maps: (shutil.rmtree(maps), maps.mkdir()),
    "replaced by a copy": lambda maps: (
        maps.rename(maps.with_name("old")), shutil.copytree(maps.with_name("old"), maps)
    ),
    "replaced by a link": lambda maps: (maps.rename(maps.with_name("old")), maps.symlink_to("/tmp")),
    "without its record": lambda maps: (maps / NAME).unlink(),
    "with another record": lambda maps: (
        (maps / NAME).rename(maps / "old"), (maps / NAME).write_bytes((maps / "old").read_bytes())
    ),
    "with a record cut short": lambda maps: (maps / NAME).write_bytes(b""),
    "with a longer record": lambda maps: (maps / NAME).open("ab").write(b"{}\n"),
    "with a link as record": lambda maps: (
        (maps / NAME).rename(maps.parent / "old"), (maps / NAME).symlink_to("../old")
    ),
}  # fmt: skip


@pytest.mark.parametrize("part", [1, 2, 4])
@pytest.mark.parametrize("intrusion", INTRUSIONS)
def test_a_folder_that_changes_midway_is_an_error_and_never_done(
    copied, tmp_path: Path, monkeypatch, part: int, intrusion: str
) -> None:
    write, maps, seen = parts._Copy._write, tmp_path / "maps", 0

    def intruding(self) -> None:
        nonlocal seen
        write(self)
        seen += 1
        if seen == part:  # of the last one: only the look at the end can find out
            INTRUSIONS[intrusion](maps)

    with monkeypatch.context() as patch:
        patch.setattr(parts._Copy, "_write", intruding)
        with pytest.raises(
            kryptondb.ExecutionError, match=r"maps/ was removed or replaced while .*\nWhat it had written"
        ):
            copied()
    assert not maps.exists() or not list(maps.glob(f"part-{part + 1:05}*"))


def test_parts_that_are_removed_midway_are_an_error_and_explained_again(copied, tmp_path: Path, monkeypatch) -> None:
    write = parts._Copy._write

    def removing(self) -> None:
        write(self)
        for part in (tmp_path / "maps").glob("part-00001*"):
            part.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(parts._Copy, "_write", removing)
        with pytest.raises(kryptondb.ExecutionError, match="was removed or replaced"):
            copied()
    copied()
    assert rows(tmp_path) == ALL


def test_a_second_run_waits_for_no_folder_that_is_written_into(copied, tmp_path: Path, monkeypatch) -> None:
    write, said = parts._Copy._write, []

    def twice(self) -> None:
        write(self)
        if not said:
            said.append("")
            with pytest.raises(kryptondb.ExecutionError, match="another query writes into .*maps") as caught:
                copied()
            said[0] = str(caught.value)

    monkeypatch.setattr(parts._Copy, "_write", twice)
    assert copied()["done"] == IMAGES and said[0] and rows(tmp_path) == ALL


def test_a_folder_that_is_removed_and_begun_again_gets_the_rows_of_one_run(copied, tmp_path: Path, monkeypatch) -> None:
    write, begun = parts._Copy._write, []

    def again(self) -> None:
        write(self)
        if not begun:
            begun.append(self)
            shutil.rmtree(tmp_path / "maps")
            assert copied()["done"] == IMAGES

    monkeypatch.setattr(parts._Copy, "_write", again)
    with pytest.raises(kryptondb.ExecutionError, match="was removed or replaced"):
        copied()
    assert rows(tmp_path) == ALL
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        NAME, *(f"part-{number:05}.parquet" for number in range(1, 5)),
    ]  # fmt: skip


# Records of somebody else

PART = {"part": "part-00001.parquet", "rows": 1, "bytes": 1, "images": [["a.png", "1:1"]]}


PARTS = (5, "x" * 5000, "part-" + "9" * 5000 + ".parquet", "../part-00001.parquet", "/dev/zero",
         "/tmp/part-00001.parquet", "part-00001.parquet/..",
         "CON", "part-٣٣٣٣٣.parquet", "part-00001.parquet\n")  # fmt: skip
LISTS = ([["x"]], [[["x"], "y"]], {"a": "b"}, [["a", 3]], "ab")
LINES = [
    *(json.dumps({key: value for key, value in PART.items() if key != missing}) for missing in PART),
    *(json.dumps({**PART, key: None}) for key in PART),
    *(json.dumps({**PART, "images": images}) for images in LISTS),
    *(json.dumps({**PART, "part": part}) for part in PARTS),
    *(json.dumps({**PART, "rows": rows}) for rows in (-1, 1.5, True, "1", 10**30)),
    *(json.dumps(entry) for entry in ({**PART, "more": 1}, {"failed": ["a"], "message": "b"}, {"failed": "a"})),
    *('{"part": NaN}', '{"part": "a", "part": "b"}', "[" * 100_000, '{"bytes": 1' + "0" * 5000 + "}"),
    *("{}", "[]", "null", "3", "", '"'),
]


@pytest.mark.parametrize("line", LINES)
def test_a_record_that_says_something_else_is_an_error_that_names_its_line(copied, tmp_path: Path, line: str) -> None:
    copied()
    record = tmp_path / "maps" / NAME
    first, *_ = record.read_bytes().splitlines()
    record.write_bytes(first + b"\n" + line.encode() + b"\n")
    before = record.read_bytes()
    with pytest.raises(
        kryptondb.ExecutionError, match=rf"{NAME} is damaged: line [23]: .*\nName another folder"
    ) as caught:
        copied()
    assert len(str(caught.value)) < 1_000 and record.read_bytes() == before


@pytest.mark.parametrize(
    "data",
    [b"a secret of one line", b"\x00\xff\n", b"{}\n", b"[]\n", '{"kryptondb": "0"}\n'.encode("utf-16"),
     b'{"kryptondb": "0", "query": 3}\n',
     b'{"kryptondb": "0", "query": {"statement": 3}}\n', b'{"kryptondb": 0, "query": {"statement": ""}}\n', b"\n\n"],
)  # fmt: skip
def test_a_file_that_is_no_record_is_left_as_it_is(copied, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / NAME).write_bytes(data)
    with pytest.raises(kryptondb.ExecutionError, match=rf"{NAME} is damaged: line 1"):
        copied()
    assert (tmp_path / "maps" / NAME).read_bytes() == data


def test_a_record_that_names_a_part_twice_is_damaged(copied, tmp_path: Path) -> None:
    copied()
    with (tmp_path / "maps" / NAME).open("a") as record:
        record.write((tmp_path / "maps" / NAME).read_text().splitlines()[1] + "\n")
    with pytest.raises(kryptondb.ExecutionError, match="line 6: part-00001.parquet appears twice"):
        copied()


def test_a_part_that_was_cut_is_not_taken_for_whole(copied, tmp_path: Path) -> None:
    copied()
    os.truncate(tmp_path / "maps" / "part-00002.parquet", 100)
    with pytest.raises(
        kryptondb.ExecutionError, match=r"part-00002\.parquet is not the file .* 100 bytes.*\nDelete it"
    ):
        copied()
    (tmp_path / "maps" / "part-00002.parquet").unlink()
    assert copied()["done"] == 2 and rows(tmp_path) == ALL


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda record: record.symlink_to("../key.txt"), "is a link"),
        (lambda record: record.symlink_to("../nothing"), "is a link"),
        (lambda record: record.symlink_to("/dev/zero"), "is a link"),
        (lambda record: os.mkfifo(record), "a pipe, not a regular file"),
        (lambda record: record.mkdir(), "folder|directory"),
        (lambda record: (record.touch(), os.truncate(record, 1 << 40)), "larger than 1 GiB"),
    ],
)
def test_a_record_that_is_no_file_is_neither_followed_nor_waited_for(copied, tmp_path: Path, make, reason: str) -> None:
    key = tmp_path / "key.txt"
    key.write_text("a secret of one line, without its end")
    (tmp_path / "maps").mkdir()
    make(tmp_path / "maps" / NAME)
    with pytest.raises(kryptondb.ExecutionError, match=reason):
        copied()
    assert key.read_text().startswith("a secret") and not (tmp_path / "nothing").exists()


def test_a_line_that_the_disk_refuses_leaves_no_half_of_it(copied, tmp_path: Path, monkeypatch) -> None:
    write, left = os.write, 2

    def full(descriptor: int, data: bytes) -> int:
        nonlocal left
        left -= 1
        if left == 0:
            return write(descriptor, data[:10])
        if left < 0:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(kryptondb.ExecutionError, match=rf"cannot write .*{NAME}: Disk quota exceeded"):
            copied()
    assert (tmp_path / "maps" / NAME).read_text().count("\n") == 1
    copied()
    assert rows(tmp_path) == ALL
