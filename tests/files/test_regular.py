"""Only regular files of a bounded size are opened."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from kryptondb.files.regular import NotRegular, check_regular, open_regular, read_regular

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "a pipe"),
        (os.mkdir, "a folder"),
        (_socket, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to("/proc/self/status"), "empty"),
        (lambda path: path.touch(), "empty"),
        (lambda path: (path.touch(), os.truncate(path, 1 << 40)), "larger than 1 MiB"),
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "x"
    make(path)
    for read in (open_regular, read_regular, check_regular):
        with pytest.raises(NotRegular) as caught:
            read(path, 1 << 20)
        assert reason in str(caught.value.strerror) and caught.value.filename == str(path)


def test_a_regular_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"words")
    (tmp_path / "b").symlink_to("a")
    assert read_regular(tmp_path / "b", 5) == b"words" and check_regular(tmp_path / "b", 5) == 5
    with open_regular(tmp_path / "a", 5) as stream:
        assert stream.read() == b"words"


def test_what_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing", 5)
