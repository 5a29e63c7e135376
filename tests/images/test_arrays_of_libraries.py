"""Arrays of any library are pictures, with the channels where they are said to be; what is not certain is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

import kryptondb
from kryptondb.errors import BindError, ImageError
from kryptondb.images.arrays import from_array
from kryptondb.images.sources import find_images, is_single
from tests.networks import small_network

RGB = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
PIXELS = RGB.astype(np.float32) / np.float32(255)
GRAY = RGB[:, :, 0]


class HasArray:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return RGB


class HasDlpack:
    def __init__(self) -> None:
        self._tensor = torch.from_numpy(RGB)

    def __dlpack__(self, **options: Any) -> Any:
        return self._tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


def tensors() -> pa.FixedShapeTensorArray:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack([RGB, RGB[::-1]]))


def fixed_lists() -> pa.Array:
    kind = pa.list_(pa.list_(pa.list_(pa.uint8(), 3), 7), 6)
    return pa.array([RGB.tolist(), RGB[::-1].tolist()], kind)


def lists() -> pa.Array:
    return pa.array([RGB.tolist(), RGB[::-1].tolist()], pa.list_(pa.list_(pa.list_(pa.uint8()))))


ONE: dict[str, Callable[[], object]] = {
    "tensor": lambda: torch.from_numpy(RGB).permute(2, 0, 1),
    "tensor of floats": lambda: torch.from_numpy(PIXELS).permute(2, 0, 1).requires_grad_(),
    "tensor in a subclass": lambda: torch.nn.Parameter(torch.from_numpy(PIXELS).permute(2, 0, 1)),
    "sparse tensor": lambda: torch.from_numpy(RGB).permute(2, 0, 1).to_sparse(),
    "__array__": HasArray,
    "DLPack": HasDlpack,
    "Arrow tensor scalar": lambda: tensors()[0],
    "Arrow tensor": lambda: pa.Tensor.from_numpy(RGB),
    "fixed lists": lambda: fixed_lists()[0],
    "lists": lambda: lists()[0],
    "memory": lambda: np.asarray(RGB)[:],
    "masked array without a mask": lambda: np.ma.array(RGB),
}


@pytest.mark.parametrize("make", ONE.values(), ids=list(ONE))
def test_an_array_of_any_library_is_the_picture_it_holds(make: Callable[[], object]) -> None:
    value = make()
    assert is_single(value)
    (source,) = find_images(value)
    assert source.name == "image"
    np.testing.assert_array_equal(source.load().pixels, PIXELS)


BATCHES: dict[str, Callable[[], object]] = {
    "tensors": lambda: torch.from_numpy(np.stack([RGB, RGB[::-1]])).permute(0, 3, 1, 2),
    "sparse tensors": lambda: torch.from_numpy(np.stack([RGB, RGB[::-1]])).permute(0, 3, 1, 2).to_sparse(),
    "nested tensors": lambda: torch.nested.nested_tensor(
        [torch.from_numpy(PIXELS).permute(2, 0, 1), torch.from_numpy(PIXELS[::-1].copy()).permute(2, 0, 1)]
    ),
    "Arrow tensors": tensors,
    "chunks of Arrow tensors": lambda: pa.chunked_array([tensors()]),
    "fixed lists": fixed_lists,
    "lists": lists,
}


@pytest.mark.parametrize("make", BATCHES.values(), ids=list(BATCHES))
def test_a_batch_is_a_list_of_pictures(make: Callable[[], object]) -> None:
    batch = make()
    assert not is_single(batch)
    first, second = find_images(batch)
    assert (first.name, second.name) == ("image[0]", "image[1]")
    np.testing.assert_array_equal(first.load().pixels, PIXELS)
    np.testing.assert_array_equal(second.load().pixels, PIXELS[::-1])
    assert [source.name for source in find_images([RGB, batch])] == ["image[0]", "image[1][0]", "image[1][1]"]


def test_half_precision_is_read_as_it_is() -> None:
    levels = torch.linspace(0, 1, 42).reshape(1, 6, 7).bfloat16()
    np.testing.assert_array_equal(from_array(levels, "a").pixels[:, :, 0], levels[0].float().numpy())


def test_axes_say_where_the_channels_are() -> None:
    first = np.ascontiguousarray(RGB.transpose(2, 0, 1))
    for value, axes in [(first, "CHW"), (RGB, "HWC"), (torch.from_numpy(RGB), "HWC"), (torch.from_numpy(first), "CHW")]:
        np.testing.assert_array_equal(from_array(value, "a", axes=axes).pixels, PIXELS)
    for axes in ("CHW", "HWC", None):
        np.testing.assert_array_equal(from_array(GRAY, "a", axes=axes).pixels, PIXELS[:, :, :1])
    many = np.zeros((12, 20, 30), dtype=np.uint8)
    assert from_array(torch.from_numpy(many), "a").planes.shape == (20, 30, 12)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (RGB.transpose(2, 0, 1), r"3 x 6 x 7 looks like channels first; say which: axes => 'CHW'"),
        (torch.from_numpy(RGB), r"6 x 7 x 3 looks like channels last; say which: axes => 'HWC'"),
        (torch.zeros(3, 20, 3), r"3 x 20 x 3 may have its channels first or last; say which: axes => 'HWC' or 'CHW'"),
        (np.zeros((1, 20, 3)), r"may have its channels first or last"),
        (np.zeros((2, 20, 20, 3)), r"is a batch; give a list"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), r"int64 samples have no known range; give uint8, uint16 or floats"),
        (torch.full((3, 8, 8), 2.0), r"must lie in 0\.\.1, these go from 2 to 2; give window"),
        (torch.zeros(3, 8, 8, device="meta"), r"meta device holds no values"),
        (torch.zeros(3, 0, 8), "no pixels"),
        (torch.zeros(8), "a picture is an H x W"),
        (torch.zeros(2, 2, 3, 8, 8), "a picture is an H x W"),
        (np.array([[object()]]), "no known range"),
        (np.ma.masked_greater(RGB, 200), r"masked cells: say what they are, array\.filled"),
        (pa.array([[[1, 2], [3]]])[0], "not equally long"),
        (pa.array([[[1, None]]])[0], "NULL"),
        (pa.array([None], pa.list_(pa.list_(pa.uint8())))[0], "NULL"),
    ],
)
def test_what_is_not_certain_is_refused_with_the_remedy(value: object, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        from_array(value, "a")
    assert str(caught.value).startswith("a: ")


def test_another_librarys_error_is_ours() -> None:
    class Broken:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise TypeError("not on this device")

    with pytest.raises(ImageError, match="a: a Broken that cannot be read as an array: TypeError: not on this device"):
        from_array(Broken(), "a")


def test_a_window_gives_colors_without_a_range_one() -> None:
    levels = from_array(torch.from_numpy(RGB).permute(2, 0, 1).float(), "a", window=(127.5, 255)).pixels
    np.testing.assert_allclose(levels, PIXELS, atol=1e-6)


class TestAQuery:
    QUERY = "SELECT HEATMAP FROM occlude(m, ?, patch => 4, stride => 4, class => 0{})"

    @pytest.fixture
    def db(self) -> Any:
        with kryptondb.connect() as session:
            session.register("m", small_network(), size=8)
            yield session

    def test_takes_tensors_and_batches(self, db: kryptondb.Session) -> None:
        pictures = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
        want = db.sql(self.QUERY.format(""), [list(pictures)]).heatmaps()
        batch = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        result = db.sql(self.QUERY.format(""), [batch])
        assert result.plan is not None and result.plan.occlude is not None
        assert result.plan.occlude.experiment.images.count == 2
        np.testing.assert_array_equal(result.heatmaps(), want)
        np.testing.assert_array_equal(db.sql(self.QUERY.format(""), [list(batch)]).heatmaps(), want)
        first = db.sql(self.QUERY.format(", axes => 'chw'"), [np.ascontiguousarray(batch[0].numpy())])
        np.testing.assert_array_equal(first.heatmaps(), want[:1])
        assert first.plan is not None and "axes CHW" in str(first.plan)
        assert b'"axes": "CHW"' in first.schema.metadata[b"kryptondb.plan"]

    def test_refuses_axes_that_are_none_and_those_of_files(self, db: kryptondb.Session) -> None:
        with pytest.raises(BindError, match="axes"):
            db.sql(self.QUERY.format(", axes => 'WHC'"), [RGB])
        with pytest.raises(BindError, match="these pictures are files"):
            db.sql(self.QUERY.format(", axes => 'CHW'"), ["a.png"])
