"""Tables that hold more than they show: nothing is inflated before it is known to what."""

from __future__ import annotations

import base64
import ctypes
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest
from PIL import Image

from kryptondb.errors import ImageError
from kryptondb.images import find_images, table_readers
from kryptondb.images.sources import ImageSource
from kryptondb.images.table_sizes import arrow_batches

LARGE = 8 << 20
MOST = 1 << 20


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (3, 2), level).save(stream, "PNG")
    return stream.getvalue()


def level(source: ImageSource) -> int:
    return int(np.rint(source.load().pixels[0, 0, 0] * 255))


def write_arrow(path: Path, table: pa.Table, compression: str | None = None, rows: int | None = None) -> Path:
    opened = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
    with opened(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


@pytest.fixture
def most_held() -> Iterator[Callable[[], int]]:
    """Asked twice: the most that Arrow held at once from the first time on, in bytes."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool))  # for ever: what it gave may be freed after the test

    def most() -> int:
        pa.set_memory_pool(pool)
        return int(pool.max_memory())

    yield most
    pa.set_memory_pool(before)


@pytest.fixture(autouse=True)
def low_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_readers, "_MOST_INFLATED", MOST)
    monkeypatch.setattr(table_readers, "_READ_TOGETHER", MOST // 4)


ZEROS = bytes(LARGE)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False},
        {"use_dictionary": False, "data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
        {"use_dictionary": False, "column_encoding": "DELTA_LENGTH_BYTE_ARRAY"},
        {"row_group_size": 1},
        {"compression": "gzip"},
    ],
    ids=str,
)
@pytest.mark.parametrize("struct", [False, True])
def test_pages_that_inflate_beyond_measure_are_never_inflated(
    options: dict[str, Any], struct: bool, tmp_path: Path, most_held: Callable[[], int]
) -> None:
    values: list[Any] = [ZEROS] * 5
    if struct:
        values = [{"bytes": value, "path": "a.png"} for value in values]
    path = tmp_path / "cells.parquet"
    pq.write_table(pa.table({"image": values}), path, **{"compression": "zstd", **options})
    most_held()
    found = list(find_images(str(path)))
    assert len(found) == 5
    for source in found:
        with pytest.raises(ImageError, match=r"a page inflates from [\d,]+ to 8,388,6\d\d|more than is read at once"):
            source.load()
    assert most_held() < MOST


def test_a_value_that_is_repeated_by_a_dictionary_is_read_one_row_at_a_time(
    tmp_path: Path, most_held: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_readers, "_MOST_INFLATED", 2 * LARGE)
    path = tmp_path / "cells.parquet"
    cell = png(7) + ZEROS
    pq.write_table(pa.table({"image": pa.array([cell]).take(pa.array([0] * 64))}), path, compression="zstd")
    most_held()
    assert [level(source) for source in find_images(str(path))] == [7] * 64
    assert most_held() < 5 * LARGE


@pytest.mark.parametrize("name", ["wide.parquet", "wide.arrow", "wide.arrows"])
def test_only_the_column_of_pictures_is_inflated(name: str, tmp_path: Path, most_held: Callable[[], int]) -> None:
    others: dict[str, Any] = {
        "binary": [ZEROS],
        "list": pa.array([np.zeros(LARGE, np.int8)]),
        "struct": [{"a": ZEROS, "b": [1, 2]}],
        "view": pa.array([ZEROS], pa.binary_view()) if "arrow" in name else [ZEROS],
        "null": pa.nulls(1),
    }
    table = pa.table({**others, "image": [png(3)], "last": [ZEROS]})
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(table, path, compression="zstd")
    else:
        write_arrow(path, table, "zstd")
    most_held()
    (source,) = find_images(str(path))
    assert level(source) == 3
    assert most_held() < MOST


def test_a_part_of_a_struct_that_is_no_picture_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [{"bytes": png(4), "path": "a", "mask": ZEROS}]}), path, compression="zstd")
    (source,) = find_images(str(path))
    assert level(source) == 4


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("ending", ["arrow", "arrows"])
def test_arrow_batches_and_dictionaries_that_inflate_beyond_measure_are_refused(
    ending: str, compression: str, tmp_path: Path, most_held: Callable[[], int]
) -> None:
    cells = write_arrow(tmp_path / f"cells.{ending}", pa.table({"image": [ZEROS] * 2}), compression)
    encoded = pa.table({"image": [png(1)], "other": pa.array([ZEROS.decode()]).dictionary_encode()})
    dictionary = write_arrow(tmp_path / f"dictionary.{ending}", encoded, compression)
    most_held()
    for source in find_images(str(cells)):
        with pytest.raises(ImageError, match=r"a batch inflates from [\d,]+ to 16,777,2\d\d bytes"):
            source.load()
    with pytest.raises(ImageError, match="a dictionary inflates"):
        list(find_images(str(dictionary)))
    assert most_held() < MOST


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])],
    ids=str,
)
def test_a_large_batch_that_is_not_compressed_is_read_row_by_row(
    kind: pa.DataType, tmp_path: Path, most_held: Callable[[], int]
) -> None:
    cells: list[Any] = [png(number) + bytes(MOST) if number % 5 else None for number in range(20)]
    if pa.types.is_struct(kind):
        cells = [{"bytes": cell, "path": None} for cell in cells]
    path = write_arrow(tmp_path / "a.arrow", pa.table({"other": [1] * 20, "image": pa.array(cells, kind)}))
    most_held()
    found = list(find_images(str(path)))
    assert [level(found[number]) for number in (1, 19, 4, 6)] == [1, 19, 4, 6]
    for number in (0, 5):
        with pytest.raises(ImageError, match="the row holds no picture"):
            found[number].load()
    assert most_held() < 6 * MOST


def test_values_of_one_size_are_bounded_by_their_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_readers, "MOST_BYTES", 1000)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.nulls(3, pa.binary(2000))}), path)
    (first, *_) = find_images(str(path))
    with pytest.raises(ImageError, match="values of 2,000 bytes are more than the 1,000"):
        first.load()


@pytest.mark.parametrize("name", ["a.arrow", "a.arrows", "a.parquet"])
def test_a_table_that_is_cut_while_it_is_read_is_an_error(name: str, tmp_path: Path) -> None:
    path, table = tmp_path / name, pa.table({"image": [png(number) for number in range(200)]})
    if not name.endswith("parquet"):
        write_arrow(path, table, rows=2)
    else:
        pq.write_table(table, path, row_group_size=2)
    found = list(find_images(str(path)))
    assert level(found[0]) == 0
    with path.open("r+b") as stream:
        stream.truncate(100)
    with pytest.raises(ImageError, match="damaged table"):
        found[150].load()


DAMAGED_FOOTERS = """
import sys
from pathlib import Path
from kryptondb.errors import ImageError
from kryptondb.images import find_images

path = Path(sys.argv[1])
whole = path.read_bytes()
said = set()
for place in range(len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), len(whole) - 8):
    for change in (0x01, 0x10, 0x30, 0x80):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
        try:
            for source in find_images(str(path)):
                source.load()
        except ImageError as error:
            said.add(error.message.partition("damaged table: ")[2])
print(*sorted(said), sep="\\n")
"""


def test_no_damage_of_a_parquet_footer_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "scans.parquet"
    pq.write_table(pa.table({"image": [png(1), png(2)]}), path, store_schema=False)
    run = subprocess.run([sys.executable, "-c", DAMAGED_FOOTERS, str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "histogram size mismatch" in run.stdout  # pyarrow throws that where nobody catches it


class _Keys(encryption.KmsClient):  # type: ignore[misc]
    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)


def test_an_encrypted_column_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "scans.parquet"
    table = pa.table({"image": [png(1), png(2)]})
    chosen = encryption.EncryptionConfiguration("footer", column_keys={"column": ["image"]}, plaintext_footer=True)
    factory = encryption.CryptoFactory(lambda _: _Keys())
    keys = factory.file_encryption_properties(encryption.KmsConnectionConfig(), chosen)
    with pq.ParquetWriter(path, table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)
    with pytest.raises(ImageError, match="its columns are encrypted"):
        next(find_images(str(path))).load()


def test_a_damaged_group_of_paths_fails_alone(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [f"{number}.png" for number in range(6)]}), path, row_group_size=2)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    with path.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\xff" * 4)
    found = list(find_images(str(path)))
    assert [source.name.rpartition("/")[2] for source in found] == [
        *("0.png", "1.png", "a.parquet#row=2", "a.parquet#row=3", "4.png", "5.png")
    ]
    assert [level(found[number]) for number in (0, 1, 4, 5)] == [0, 1, 4, 5]
    with pytest.raises(ImageError, match="damaged table"):
        found[2].load()


def test_a_text_that_is_too_long_for_a_path_fails_alone(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "a.arrow", pa.table({"image": ["x" * 100_000, "b.png"]}))
    first, second = find_images(str(path))
    with pytest.raises(ImageError, match="the row holds 100,000 characters, too many for a path"):
        first.load()
    assert second.name == str(tmp_path / "b.png")


def test_a_batch_of_a_stream_that_is_too_large_says_how_to_write_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_readers, "_MOST_TOGETHER", 1 << 20)
    table = pa.table({"other": [bytes(2 << 20)], "image": pa.array([png(1)], pa.binary_view())})
    (found,) = find_images(str(write_arrow(tmp_path / "a.arrows", table)))
    with pytest.raises(ImageError, match=r"a batch of [\d,]+ bytes is more than is read at once\n.*an Arrow file"):
        found.load()


@pytest.mark.parametrize(
    "before",
    [
        pa.array([[1, 2]]),
        pa.array([{"a": b"x", "b": [1]}]),
        pa.nulls(1),
        pa.array([True]),
        pa.array(["x" * 1000], pa.string_view()),
        pa.array(["q"]).dictionary_encode(),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())),
        pa.array([[1, 2, 3]], pa.list_(pa.int8(), 3)),
        pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
        pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array([1])),
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((1, 2, 3))),
    ],
    ids=lambda array: str(array.type),
)
def test_the_buffers_of_a_column_are_found_behind_a_column_of_any_type(before: pa.Array) -> None:
    stream, table = io.BytesIO(), pa.table({"before": before, "image": [b"z" * 1234]})
    with pa.ipc.new_file(stream, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    (batch,) = arrow_batches(stream).batches
    assert [buffer.inflated for buffer in batch.column(table.schema, "image")] == [0, 8, 1234]
