"""Pictures at addresses: fetched in their turn, within bounds; what is missing is named."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kryptondb.errors import ImageError
from kryptondb.images import find_images, is_single, remote
from tests.patience import PATIENCE

fsspec = pytest.importorskip("fsspec")


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (3, 2), level).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def bucket() -> Iterator[Any]:
    """memory://bucket/: a.png, b.PNG, notes.txt, deep/c.png."""
    system = fsspec.filesystem("memory")
    for number, name in enumerate(("a.png", "b.PNG", "notes.txt", "deep/c.png")):
        system.pipe(f"/bucket/{name}", png(number))
    yield system
    system.rm("/bucket", recursive=True)


def test_an_address_is_a_picture_named_after_it(bucket: Any) -> None:
    (source,) = find_images("memory://bucket/b.PNG")
    assert source.name == source.load().name == "memory://bucket/b.PNG"
    assert source.load().pixels[0, 0, 0] * 255 == 1
    assert is_single("memory://bucket/b.PNG") and is_single("https://host/a?b=[1]")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("memory://bucket/", ["a.png", "b.PNG", "deep/c.png"]),
        ("memory://bucket/*.png", ["a.png"]),
        ("memory://bucket/**/*.png", ["a.png", "deep/c.png"]),
        ("memory://bucket/*.*", ["a.png", "b.PNG"]),
    ],
)
def test_folders_and_globs_are_listed_in_order(address: str, expected: list[str], bucket: Any) -> None:
    found = [source.name.split("bucket/")[1] for source in find_images(address)]
    assert found == expected
    assert not is_single(address)


def test_a_missing_file_and_an_empty_glob_say_so(bucket: Any) -> None:
    (source,) = find_images("memory://bucket/gone.png")
    with pytest.raises(ImageError, match=r"memory://bucket/gone\.png: no such file"):
        source.load()
    with pytest.raises(ImageError, match="no file matches"):
        find_images("memory://bucket/*.gif")


def test_no_more_is_fetched_than_a_bound(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 50)
    with pytest.raises(ImageError, match="more than the 50 bytes that are fetched"):
        remote.fetch("memory://bucket/a.png")


def test_nobody_waits_for_a_server_that_says_nothing(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def silent(*_: Any, **__: Any) -> None:
        answered.wait(PATIENCE)

    monkeypatch.setattr(type(bucket), "open", silent)
    monkeypatch.setattr(type(bucket), "glob", silent)
    monkeypatch.setattr(remote, "STALLED_SECONDS", 0.05)
    monkeypatch.setattr(remote, "MOST_SECONDS", 0.05)
    try:
        with pytest.raises(ImageError, match=r"a\.png: no answer in 0\.05 seconds"):
            remote.fetch("memory://bucket/a.png")
        with pytest.raises(ImageError, match=r"no answer in 0\.05 seconds"):
            find_images("memory://bucket/*.png")
    finally:
        answered.set()


def test_programs_and_archives_are_no_places_to_fetch_pictures_from() -> None:
    for address in ("reference://a.png", "zip://a.png::https://host/a.zip", "https://host/a.zip::b", "local://etc/x"):
        with pytest.raises(ImageError, match="pictures cannot be fetched from"):
            list(find_images(address))[0].load()


def test_a_password_is_in_no_name_and_no_message() -> None:
    (source,) = find_images("ftp://user:secret@127.0.0.1:1/a.png")
    assert source.name == "ftp://127.0.0.1:1/a.png"
    with pytest.raises(ImageError) as caught:
        source.load()
    assert "secret" not in str(caught.value)


def test_a_message_names_fsspec_or_what_it_needs_where_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    (source,) = find_images("s3://bucket/a.png")
    with pytest.raises(ImageError, match=r"s3://bucket/a\.png: another package is needed: .*s3fs"):
        source.load()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ImageError, match=r'needs the package fsspec\npip install "kryptondb\[remote\]"'):
        source.load()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_a_picture_comes_over_http(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "a.png").write_bytes(png(7))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        found = list(find_images([f"{address}/a.png?version=2", f"{address}/gone.png"]))
        assert found[0].load().pixels[0, 0, 0] * 255 == 7
        with pytest.raises(ImageError, match=r"gone\.png: no such file"):
            found[1].load()
    finally:
        server.shutdown()
        server.server_close()


class _Answer(Exception):
    """What aiohttp raises of an answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status, self.message = status, "Words"


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "cannot be fetched: .*Connect call failed"),
        (OSError("Name or service not known"), "cannot be fetched: Name or service not known"),
        (TimeoutError("too slow"), "cannot be fetched: too slow"),
        (_Answer(500), "cannot be fetched: the server answers 500 Words"),
        (_Answer(403), "cannot be fetched: the server answers 403 Words"),
        (_Answer(404), "no such file"),
        (None, "no such file"),
    ],
)
def test_what_keeps_a_server_from_answering_is_not_a_missing_file(
    cause: Exception | None, message: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("memory://bucket/a.png") from cause  # as fsspec does

    monkeypatch.setattr(type(bucket), "open", refused)
    (source,) = find_images("memory://bucket/a.png")
    with pytest.raises(ImageError, match=rf"a\.png: {message}"):
        source.load()


def test_a_text_that_is_no_address_fails_alone() -> None:
    bad, good = find_images(["http://[x/a.png", "sample:cat"])
    with pytest.raises(ImageError, match=r"http://\[x/a\.png: not an address"):
        bad.load()
    assert good.load().name == "cat"
