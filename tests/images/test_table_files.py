"""Pictures in a column of a Parquet or Arrow file: found in order, read when their turn comes."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kryptondb.errors import ImageError
from kryptondb.images import find_images, is_single, table_readers
from kryptondb.images.sources import ImageSource


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (3, 2), level).save(stream, "PNG")
    return stream.getvalue()


def write(path: Path, **columns: Any) -> Path:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=3)
    else:
        with (pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file)(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    return path


def level(source: ImageSource) -> int:
    return int(np.rint(source.load().pixels[0, 0, 0] * 255))


@pytest.fixture(params=["scans.parquet", "scans.arrow", "scans.arrows"])
def scans(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Twenty pictures in the column `image`, of the levels 0 to 19."""
    return write(tmp_path / request.param, image=[png(number) for number in range(20)], number=list(range(20)))


def test_each_row_is_a_picture_named_after_the_table_and_its_number(scans: Path) -> None:
    found = list(find_images(str(scans)))
    assert [source.name for source in found] == [f"{scans}#row={number}" for number in range(20)]
    assert [source.load().name for source in found[:2]] == [source.name for source in found[:2]]
    assert [level(source) for source in found] == list(range(20))


def test_rows_may_be_read_again_and_in_any_order(scans: Path) -> None:
    found = list(find_images(f"{scans}#column=image"))
    assert [level(found[number]) for number in (19, 3, 4, 3, 0, 18)] == [19, 3, 4, 3, 0, 18]


def test_rows_that_are_read_in_order_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", image=[png(number) for number in range(20)])
    begun: list[int] = []
    read = table_readers._Parquet.read

    def watched(self: Any, column: str, index: int) -> Any:
        begun.append(index)
        return read(self, column, index)

    monkeypatch.setattr(table_readers._Parquet, "read", watched)
    found = list(find_images(str(path)))
    assert begun == []
    assert [level(source) for source in found] == list(range(20))
    assert begun == [0]


def test_one_row_can_be_named(scans: Path) -> None:
    (source,) = find_images(f"{scans}#column=image&row=17")
    assert source.name == f"{scans}#row=17"
    assert level(source) == 17
    assert is_single(f"{scans}#column=image&row=17") and not is_single(str(scans))
    (missing,) = find_images(f"{scans}#row=20")
    with pytest.raises(ImageError, match="no row 20: it has 20, from 0"):
        missing.load()


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows"])
@pytest.mark.parametrize("encoded", [False, True])
def test_a_column_of_paths_is_seen_from_the_folder_of_the_table(name: str, encoded: bool, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number, path in enumerate(("b.png", "deep/c.png")):
        (tmp_path / path).write_bytes(png(number))
    paths = pa.array(["b.png", "deep/c.png", None, "missing.png", str(tmp_path / "b.png")])
    table = write(tmp_path / name, where=paths.dictionary_encode() if encoded else paths)
    found = list(find_images(f"{table}#column=where"))
    assert [Path(source.name).relative_to(tmp_path).as_posix() for source in found] == [
        *("b.png", "deep/c.png", f"{name}#row=2", "missing.png", "b.png")
    ]
    assert [level(found[number]) for number in (0, 1, 4)] == [0, 1, 0]
    for number, message in ((2, "the row holds no picture"), (3, "missing.png: no such file")):
        with pytest.raises(ImageError, match=message):
            found[number].load()


def test_a_path_in_a_table_may_name_a_part_or_an_address(tmp_path: Path) -> None:
    from kryptondb.images.content import Part

    table = write(tmp_path / "a.parquet", image=["study.dcm#frame=3", "s3://bucket/a.png", "a.dcm#frame=x"])
    named, address, wrong = find_images(str(table))
    assert named.name == f"{tmp_path / 'study.dcm'}#{Part(frame=3)}"
    assert address.name == "s3://bucket/a.png"
    with pytest.raises(ImageError, match="frame must be a whole number"):
        wrong.load()


def test_structs_of_bytes_and_path_are_read_as_hugging_face_writes_them(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(png(9))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = [{"bytes": png(5), "path": "gone.png"}, {"bytes": None, "path": "b.png"}, None]
    table = write(tmp_path / "a.parquet", image=pa.array(values, kind))
    first, second, third = find_images(str(table))
    assert (first.name, level(first)) == (f"{table}#row=0", 5)
    assert (second.name, level(second)) == (str(tmp_path / "b.png"), 9)
    with pytest.raises(ImageError, match="the row holds no picture"):
        third.load()


def test_a_bad_picture_in_a_row_fails_alone(tmp_path: Path) -> None:
    table = write(tmp_path / "a.parquet", image=[png(1), b"", b"no picture", None, png(2)])
    found = list(find_images(str(table)))
    assert [level(found[number]) for number in (0, 4)] == [1, 2]
    for number, message in ((1, "the picture is empty"), (2, "not a PNG"), (3, "the row holds no picture")):
        with pytest.raises(ImageError, match=f"#row={number}: {message}"):
            found[number].load()


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        ("#column=imag", 'no column named "imag"\nDid you mean "image"'),
        ("#column=number", "the column number holds int64, not pictures"),
        ("#colum=image", 'no table option named "colum"\nDid you mean "column"'),
        ("#row=-1", "row must be a whole number, at least 0, not '-1'"),
    ],
)
def test_a_column_or_option_that_means_nothing_says_what_does(fragment: str, message: str, scans: Path) -> None:
    with pytest.raises(ImageError, match=message):
        list(find_images(f"{scans}{fragment}"))


def test_what_is_no_table_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for content, message in (
        (b"", "the file is empty"),
        (b"hello", "not a Parquet or Arrow file"),
        (b"PAR1" + bytes(40), "damaged table"),
        (b"ARROW1" + bytes(40), "damaged table"),
    ):
        path.write_bytes(content)
        with pytest.raises(ImageError, match=rf"a\.parquet: {message}"):
            list(find_images(str(path)))
    with pytest.raises(ImageError, match=r"b\.parquet: no such file"):
        list(find_images(str(tmp_path / "b.parquet")))
    empty = write(tmp_path / "c.parquet", other=[1])
    with pytest.raises(ImageError, match='no column is called "image"\nThe columns are other'):
        list(find_images(str(empty)))
    with pytest.raises(ImageError, match="a table without a row"):
        list(find_images(str(write(tmp_path / "d.arrow", image=pa.array([], pa.binary())))))


def test_tables_stand_in_lists_and_a_window_applies_to_their_pictures(scans: Path) -> None:
    found = list(find_images([f"{scans}#row=7", "sample:cat"], (7, 2)))
    assert len(found) == 2
    assert found[0].load().pixels[0, 0, 0] == 0.5


VIEWS = (pa.binary_view(), pa.large_binary(), pa.dictionary(pa.int8(), pa.binary()))
TEXTS = (pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.large_string()))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows"])
@pytest.mark.parametrize("kind", VIEWS, ids=str)
def test_bytes_are_read_from_a_column_of_every_type_that_holds_them(
    name: str, kind: pa.DataType, tmp_path: Path
) -> None:
    if name.endswith("parquet") and pa.types.is_binary_view(kind):
        pytest.skip("pyarrow writes no views into Parquet files")
    path = write(tmp_path / name, before=pa.array([None, "b"] * 5, pa.string_view()) if "arrow" in name else [1] * 10,
                 image=encoded([png(number % 4) for number in range(9)] + [None], kind))  # fmt: skip
    found = list(find_images(str(path)))
    assert [level(found[number]) for number in (8, 0, 5, 3)] == [0, 0, 1, 3]
    with pytest.raises(ImageError, match="the row holds no picture"):
        found[9].load()


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows"])
@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_paths_are_read_from_a_column_of_every_type_that_holds_them(
    name: str, kind: pa.DataType, tmp_path: Path
) -> None:
    if name.endswith("parquet") and pa.types.is_string_view(kind):
        pytest.skip("pyarrow writes no views into Parquet files")
    (tmp_path / "b.png").write_bytes(png(5))
    found = list(find_images(str(write(tmp_path / name, image=encoded(["b.png", None, "b.png", "c.png"] * 2, kind)))))
    assert [Path(source.name).name for source in found[:4]] == ["b.png", f"{name}#row=1", "b.png", "c.png"]
    assert level(found[6]) == 5


def encoded(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def test_what_a_file_holds_counts_and_not_its_ending(tmp_path: Path) -> None:
    for name in ("a.arrow", "a.arrows", "a.parquet"):
        written = write(tmp_path / name, image=[png(3)])
        for other in ("b.arrow", "b.arrows", "b.ipc", "b.pq"):
            path = tmp_path / other
            path.write_bytes(written.read_bytes())
            assert [level(source) for source in find_images(str(path))] == [3]


def test_a_stream_whose_dictionary_changes_gives_each_batch_its_own(tmp_path: Path) -> None:
    path, kind = tmp_path / "a.arrows", pa.dictionary(pa.int32(), pa.binary())
    with pa.ipc.new_stream(path, pa.schema({"image": kind})) as writer:
        for levels in ((1, 2), (3, 4), (1, 5)):
            writer.write_batch(pa.record_batch([encoded([png(level) for level in levels], kind)], names=["image"]))
    found = list(find_images(str(path)))
    assert [level(found[row]) for row in (0, 1, 2, 3, 4, 5, 1, 3)] == [1, 2, 3, 4, 1, 5, 2, 4]


def test_a_stream_without_an_end_is_read_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrows", image=[png(number) for number in range(7)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    assert [level(source) for source in find_images(str(path))] == list(range(7))
    chance = random.Random(0)
    for _ in range(80):
        damaged = bytearray(whole[: chance.choice((len(whole), chance.randrange(1, len(whole))))])
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            for source in find_images(str(path)):
                source.load()
        except ImageError:
            continue
