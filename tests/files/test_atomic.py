"""Files that appear whole or not at all, and errors that name them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kryptondb.copy.sinks import copy_to
from kryptondb.errors import ExecutionError
from kryptondb.files.atomic import atomic_file, held_folder
from kryptondb.optimizer import physical as p
from tests.fakes import occlude, pictures, start

resource = pytest.importorskip("resource")


@contextmanager
def small_files(most: int = 64) -> Iterator[None]:
    """The system refuses files of more bytes, as it does on a full disk or over a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["a.csv", "a.arrow", "a.parquet", "a.html", "a.png", "maps/", "pictures/"])
def test_what_the_disk_refuses_is_named_whoever_writes_it(tmp_path: Path, name: str) -> None:
    folder = pictures(tmp_path / "in", "a.png")
    target = tmp_path / "out" / name
    (tmp_path / "out").mkdir()
    if not name.endswith("/"):
        target.write_text("precious")
    kind = {"maps/": {"format": "parquet"}, "pictures/": {"format": "png"}}.get(name, {})
    with small_files(), pytest.raises(ExecutionError, match=r"cannot write .*: File too large") as caught:
        copy_to(start(p.HeatMaps(occlude(str(folder)))), f"{tmp_path}/out/{name}", dict(kind))
    assert str(target) in str(caught.value) and "partial" not in str(caught.value)
    left = [path for path in tmp_path.glob("out/**/*") if path.is_file() and path.stat().st_size]
    assert [path.read_text() for path in left] == ["precious"] * (not name.endswith("/"))


def test_the_file_of_dash_o_is_named_as_well(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from kryptondb.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "-c", "SHOW SETTINGS", "--format", "csv", "-o", str(tmp_path / "a.csv")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 1 and f"cannot write {tmp_path / 'a.csv'}: File too large" in run.stderr
    assert "Traceback" not in run.stderr and list(tmp_path.iterdir()) == []


def test_a_refusal_that_a_library_keeps_to_itself_is_still_an_error(tmp_path: Path) -> None:
    with small_files(), pytest.raises(ExecutionError, match=r"cannot write .*a\.bin: File too large"):  # noqa: SIM117
        with atomic_file(tmp_path / "a.bin") as stream:
            with suppress(OSError):
                stream.write(b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_on_a_full_disk_is_still_ctrl_c(tmp_path: Path) -> None:
    with small_files(), pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a.bin") as stream:
        stream.write(b"x" * 1000)  # waits in the buffer
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("x" * 252 + ".csv", lambda path: None),
        ("ü" * 130 + ".csv", lambda path: None),
        ("a.csv", lambda path: path.mkdir()),
        ("file/a.csv", lambda path: path.parent.write_text("")),
        ("a.csv", lambda path: path.symlink_to(path.parent)),
    ],
)
def test_what_no_file_can_be_is_said_before_any_work(tmp_path: Path, name: str, make: Callable[[Path], object]) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(ExecutionError, match="cannot write"), atomic_file(path):
        pytest.fail("the work was begun")


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "ü" * 125 + ".csv", os.fsdecode(b"\xff" * 250) + ".csv"])
def test_names_as_long_as_they_may_be_are_written(tmp_path: Path, name: str) -> None:
    with atomic_file(tmp_path / name) as stream:
        stream.write(b"words")
    with held_folder(tmp_path) as folder, folder.file(name) as stream:
        stream.write(b"other words")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"other words"]


def test_a_file_in_a_held_folder_keeps_its_permissions_and_replaces_links(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "mine").touch(mode=0o640)
    with held_folder(tmp_path) as folder:
        for name in ("link", "mine"):
            with folder.file(name) as stream:
                stream.write(b"new")
        assert sorted(folder.names()) == ["kept", "link", "mine"]
        assert (folder.size("link"), folder.size("nothing")) == (3, None)
        folder.remove("link")
        folder.remove("link")
    assert (tmp_path / "kept").read_text() == "kept" and not (tmp_path / "link").exists()
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o640


def test_a_held_folder_that_is_gone_takes_no_file(tmp_path: Path) -> None:
    with held_folder(tmp_path / "out") as folder:
        folder.check()
        (tmp_path / "out").rmdir()
        (tmp_path / "out").mkdir()
        with pytest.raises(ExecutionError, match=r"cannot write .*out/a"), folder.file("a"):
            pytest.fail("the work was begun")
        with pytest.raises(ExecutionError, match="removed or replaced"):
            folder.check()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_a_pipe_that_nothing_reads_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kryptondb.files.atomic._READER_SECONDS", 0.0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        pytest.raises(ExecutionError, match="pipe: nothing reads this pipe: start its reader first"),
        atomic_file(pipe),
    ):
        raise AssertionError("it is refused before any work")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_file(pipe) as stream:
        stream.write(b"rows")
        assert os.get_blocking(stream.fileno())  # a slow reader is waited for
    assert os.read(reader, 10) == b"rows"
    os.close(reader)
