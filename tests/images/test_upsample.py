"""A cell's value is drawn where its patch lies in the picture, and nothing is drawn that was not computed."""

from __future__ import annotations

import numpy as np
import pytest

from kryptondb.images import Picture
from kryptondb.images.preprocess import Preprocess
from kryptondb.images.upsample import place

PREPROCESSES = {
    "whole": Preprocess(64, 64),
    "resize and crop": Preprocess(64, 64, resize=80, crop=True),
    "oblong": Preprocess(48, 80, resize=(60, 100), crop=True),
    "proportional crop": Preprocess(64, 48, crop=True),
    "padded": Preprocess(64, 64, resize=50, crop=True),
}


@pytest.mark.parametrize("preprocess", PREPROCESSES.values(), ids=PREPROCESSES.keys())
@pytest.mark.parametrize("size", [(240, 240), (200, 333), (333, 200), (37, 51)])
@pytest.mark.parametrize(("patch", "stride"), [((8, 8), (4, 4)), ((10, 6), (3, 5)), ((4, 4), (4, 4))])
def test_a_hot_cell_lies_over_what_its_patch_covers(
    preprocess: Preprocess, size: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int]
) -> None:
    rows = (preprocess.height - patch[0]) // stride[0] + 1
    cols = (preprocess.width - patch[1]) // stride[1] + 1
    for row, col in ((rows // 2, cols // 3), (rows // 3, cols // 2)):
        heatmap = np.zeros((rows, cols))
        heatmap[row, col] = 1
        drawn = place(heatmap, preprocess, size, patch=patch, stride=stride, size=(size[0] * 3, size[1] * 3))
        mass = np.nan_to_num(drawn)
        y = float((mass.sum(1) * (np.arange(len(mass)) + 0.5)).sum() / mass.sum()) / 3
        x = float((mass.sum(0) * (np.arange(mass.shape[1]) + 0.5)).sum() / mass.sum()) / 3
        # The middle of the patch, found without `window`: paint it into a picture of the input's size, and invert.
        top, left, height, width = preprocess.window(*size)
        assert y == pytest.approx(top + (row * stride[0] + patch[0] / 2) * height / preprocess.height, abs=0.6)
        assert x == pytest.approx(left + (col * stride[1] + patch[1] / 2) * width / preprocess.width, abs=0.6)


@pytest.mark.parametrize("preprocess", PREPROCESSES.values(), ids=PREPROCESSES.keys())
def test_the_hottest_place_on_the_map_is_the_spot_that_made_it_hot(preprocess: Preprocess) -> None:
    """End to end, without `window`: a spot in the picture, its brightness under each patch as the heat map."""
    size, patch, stride = (220, 310), (8, 8), (2, 2)
    for y, x in ((110, 155), (96, 141), (128, 171)):
        pixels = np.zeros((*size, 3), dtype=np.float32)
        pixels[y - 5 : y + 5, x - 5 : x + 5] = 1
        seen = preprocess.pixels(Picture("spot", pixels))[0].numpy()
        windows = np.lib.stride_tricks.sliding_window_view(seen, patch)[:: stride[0], :: stride[1]]
        drawn = np.nan_to_num(place(windows.mean(axis=(2, 3)), preprocess, size, patch=patch, stride=stride)) ** 4
        at_y = (drawn.sum(1) * (np.arange(size[0]) + 0.5)).sum() / drawn.sum()
        at_x = (drawn.sum(0) * (np.arange(size[1]) + 0.5)).sum() / drawn.sum()
        assert (at_y, at_x) == (pytest.approx(y, abs=3), pytest.approx(x, abs=3))


def test_the_value_at_a_cells_center_is_the_cells_own() -> None:
    heatmap = np.random.default_rng(0).standard_normal((9, 11))
    # 1 input pixel = 1 picture pixel; odd patches have their center on a pixel's center.
    drawn = place(heatmap, Preprocess(8 * 4 + 5, 10 * 4 + 5), (37, 45), patch=(5, 5), stride=(4, 4))
    np.testing.assert_allclose(drawn[2::4, 2::4][:9, :11], heatmap, atol=1e-12)


def test_between_cells_nothing_exceeds_the_four_around() -> None:
    heatmap = np.random.default_rng(1).standard_normal((6, 7))
    drawn = place(heatmap, Preprocess(28, 32), (28, 32), patch=(8, 8), stride=(4, 4), size=(280, 320))
    assert drawn.min() >= heatmap.min()
    assert drawn.max() <= heatmap.max()
    flat = place(np.full((6, 7), 0.3), Preprocess(28, 32), (28, 32), patch=(8, 8), stride=(4, 4))
    np.testing.assert_allclose(flat, 0.3, atol=1e-12)


def test_nan_cells_stay_empty_and_do_not_spread() -> None:
    heatmap = np.ones((5, 5))
    heatmap[:, :2] = np.nan
    drawn = place(heatmap, Preprocess(20, 20), (20, 20), patch=(4, 4), stride=(4, 4))
    assert np.isnan(drawn[:, :8]).all()
    np.testing.assert_array_equal(drawn[:, 8:], 1)
    assert np.isnan(place(np.full((5, 5), np.nan), Preprocess(20, 20), (20, 20), patch=(4, 4), stride=(4, 4))).all()


def test_what_no_patch_reaches_is_empty() -> None:
    # A 4 x 4 grid of 8 pixel patches at stride 6 ends at 3 * 6 + 8 = 26 of 30 pixels.
    drawn = place(np.ones((4, 4)), Preprocess(30, 30), (60, 60), patch=(8, 8), stride=(6, 6))
    assert np.isnan(drawn[52:]).all()
    assert np.isnan(drawn[:, 52:]).all()
    assert np.isfinite(drawn[:52, :52]).all()
    cropped = place(np.ones((6, 6)), Preprocess(20, 20, crop=True), (40, 80), patch=(5, 5), stride=(3, 3))
    assert np.isnan(cropped[:, :20]).all()
    assert np.isnan(cropped[:, 60:]).all()
    assert np.isfinite(cropped[:, 20:60]).all()


def test_a_map_of_one_cell_fills_its_patch() -> None:
    drawn = place(np.array([[0.7]]), Preprocess(16, 16), (16, 16), patch=(16, 16), stride=(4, 4))
    np.testing.assert_allclose(drawn, 0.7)
