"""The figure: colors over the right pixels, important regions prominent, every size and value drawable."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kryptondb.images import Picture
from kryptondb.images.colors import color_map, colors, emphasis, limits
from kryptondb.images.preprocess import Preprocess
from kryptondb.images.render import Level, Look, blend, overlay


def _gray(height: int, width: int, channels: int = 3) -> Picture:
    return Picture("gray", np.full((height, width, channels), 0.5, dtype=np.float32))


def _difference(picture: Picture, preprocess: Preprocess, heatmap: NDArray[np.floating]) -> NDArray[np.int64]:
    """How far each pixel's color is from what a map of zeros leaves."""
    geometry: dict[str, Any] = {"patch": (8, 8), "stride": (4, 4)}
    empty = blend(picture, preprocess, np.zeros_like(heatmap), **geometry)
    changed: NDArray[np.int64] = np.abs(blend(picture, preprocess, heatmap, **geometry).astype(int) - empty).sum(2)
    return changed


@pytest.mark.parametrize("preprocess", [Preprocess(64, 64), Preprocess(64, 64, resize=80, crop=True)])
@pytest.mark.parametrize("size", [(150, 150), (120, 260), (260, 120)])
def test_a_single_hot_cell_colors_the_pixels_its_patch_covers(preprocess: Preprocess, size: tuple[int, int]) -> None:
    heatmap = np.zeros((15, 15))
    heatmap[4, 9] = 0.5
    changed = _difference(_gray(*size), preprocess, heatmap)
    top, left, height, width = preprocess.window(*size)
    y, x = top + (4 * 4 + 4) * height / 64, left + (9 * 4 + 4) * width / 64
    hottest = np.argwhere(changed >= 0.98 * changed.max()).mean(axis=0) + 0.5
    assert hottest == pytest.approx((y, x), abs=1.5)
    ys, xs = np.nonzero(changed > 5)
    assert ys.min() >= y - 4.5 * height / 64
    assert ys.max() < y + 4.5 * height / 64
    assert xs.min() >= x - 4.5 * width / 64
    assert xs.max() < x + 4.5 * width / 64


def test_a_positive_drop_is_warm_and_bright_a_negative_one_cold_and_none_leaves_the_photograph() -> None:
    heatmap = np.zeros((15, 15))
    heatmap[3, 3], heatmap[11, 11] = 0.5, -0.5
    drawn = blend(_gray(64, 64), Preprocess(64, 64), heatmap, patch=(8, 8), stride=(4, 4)).astype(int)
    hot, cold, calm = drawn[16, 16], drawn[48, 48], drawn[16, 48]
    assert hot[0] > hot[2] + 50
    assert cold[2] > cold[0] + 50
    assert hot.sum() > calm.sum() + 100
    assert np.ptp(calm) == 0


def test_nan_cells_let_the_photograph_through() -> None:
    heatmap = np.full((15, 15), np.nan)
    heatmap[:5] = 1
    for values in ("drop", "score"):
        drawn = blend(_gray(64, 64), Preprocess(64, 64), heatmap, patch=(8, 8), stride=(4, 4), look=Look(values=values))
        assert np.ptp(drawn[40:]) == 0
        assert np.ptp(drawn[:10], axis=2).max() > 30


def test_what_the_model_does_not_see_is_darker() -> None:
    drawn = blend(_gray(50, 100), Preprocess(50, 50, crop=True), np.zeros((9, 9)), patch=(10, 10), stride=(5, 5))
    assert drawn[:, :25].max() < drawn[:, 25:75].min()
    assert drawn[:, 75:].max() < drawn[:, 25:75].min()


def test_a_drop_has_symmetric_limits_and_a_score_its_own_range() -> None:
    heatmap = np.array([[0.1, -0.3], [np.nan, 0.2]])
    assert limits(heatmap, "drop") == (-0.3, 0.3)
    assert limits(heatmap, "score") == (-0.3, 0.2)
    for values in ("drop", "score"):
        for constant in (np.zeros((2, 2)), np.full((2, 2), 0.7), np.full((2, 2), np.nan)):
            low, high = limits(constant, values)
            assert low < high
    with pytest.raises(ValueError, match="'drop' or 'score', not 'drops'.*Did you mean"):
        limits(heatmap, "drops")


def test_score_colors_rise_evenly_in_lightness_and_drop_colors_from_the_middle_outwards() -> None:
    def lightness(values: str, low: float) -> NDArray[np.floating]:
        shades: NDArray[np.floating] = colors(np.linspace(low, 1, 65), values, low, 1) @ np.array(
            [0.2126, 0.7152, 0.0722]
        )
        return shades

    assert (np.diff(lightness("score", 0)) < 0).all()
    drop = lightness("drop", -1)
    assert (np.diff(drop[36:]) > -0.5).all()
    assert (np.diff(drop[:29]) < 0.5).all()
    assert emphasis(np.array([0.0, 1.0, np.nan, -1.0]), "drop", -1, 1).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("values", ["drop", "score"])
@pytest.mark.parametrize(
    ("height", "width", "channels"), [(30, 40, 1), (1, 1, 3), (5, 400, 3), (400, 5, 1), (900, 2000, 1)]
)
def test_every_picture_size_gives_a_figure(values: str, height: int, width: int, channels: int) -> None:
    heatmap = np.random.default_rng(0).standard_normal((4, 4))
    figure = overlay(
        _gray(height, width, channels), Preprocess(32, 32, resize=36, crop=True) if height > 1 else Preprocess(32, 32),
        heatmap, patch=(8, 8), stride=(8, 8), title="tabby 0.5\na second line", look=Look(values=values),
    )  # fmt: skip
    assert figure.mode == "RGB"
    assert 300 < figure.width < 2200
    assert 200 < figure.height < 2200
    assert figure.getpixel((1, 1)) == (255, 255, 255)


def test_the_figure_shows_the_same_pixels_as_the_blend() -> None:
    picture, preprocess = _gray(600, 800), Preprocess(64, 64)
    heatmap = np.random.default_rng(0).standard_normal((15, 15))
    figure = np.asarray(overlay(picture, preprocess, heatmap, patch=(8, 8), stride=(4, 4), title="a"))
    inner = blend(picture, preprocess, heatmap, patch=(8, 8), stride=(4, 4))[100:400, 200:700]
    windows = np.argwhere((figure == inner[0, 0]).all(axis=2))
    assert any(np.array_equal(figure[y : y + 300, x : x + 500], inner) for y, x in windows)


def test_titles_of_any_length_and_script_are_drawn_without_a_warning(cat: Picture) -> None:
    heatmap = np.zeros((4, 4))
    geometry: dict[str, Any] = {"patch": (56, 56), "stride": (56, 56)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for title in (
            "",
            "a",
            "cost $5 to $7 0.4",
            "a" * 900,
            "very long label " * 90 + "0.77",
            "猫 0.9",
            "x\n" + "y " * 900,
        ):
            overlay(cat, Preprocess(224, 224), heatmap, title=title, **geometry)


def test_a_common_scale_makes_two_figures_comparable(cat: Picture) -> None:
    heatmap = np.random.default_rng(0).random((4, 4))
    options: dict[str, Any] = {"patch": (56, 56), "stride": (56, 56)}
    whole = blend(cat, Preprocess(224, 224), heatmap, **options, scale=(-1, 1))
    half = blend(cat, Preprocess(224, 224), heatmap / 2, **options, scale=(-0.5, 0.5))
    assert np.abs(whole.astype(int) - half).max() <= 1


@pytest.mark.parametrize("heatmap", [np.zeros(4), np.zeros((0, 4))])
def test_a_map_that_has_no_rows_and_columns_is_refused(heatmap: NDArray[np.floating]) -> None:
    with pytest.raises(ValueError, match="rows x cols"):
        overlay(_gray(9, 9), Preprocess(32, 32), heatmap, patch=(8, 8), stride=(8, 8), title="")


def test_a_color_map_of_matplotlib_replaces_ours() -> None:
    heatmap = np.zeros((15, 15))
    heatmap[4:11, 4:11] = 1
    drawn = blend(
        _gray(64, 64), Preprocess(64, 64), heatmap, patch=(8, 8), stride=(4, 4), look=Look(colormap="GREENS", opacity=1)
    )
    assert drawn[32, 32].tolist() == colors(np.array([1.0]), "drop", 0, 1, "Greens")[0].tolist()
    with pytest.raises(ValueError, match='no color map named "grens".*"Greens"'):
        color_map("grens")


def _figure(picture: Picture, **look: Any) -> Image.Image:
    heatmap = np.zeros((15, 15))
    heatmap[5:10, 5:10] = 1
    return overlay(
        picture, Preprocess(64, 64), heatmap, patch=(8, 8), stride=(4, 4), title="tabby  0.5", look=Look(**look)
    )


@pytest.mark.parametrize("size", [300, 1200])
def test_the_picture_is_drawn_at_the_size_asked_for(size: int) -> None:
    bare = {"colorbar": False, "title": False}
    assert _figure(_gray(40, 80), size=size, **bare).size == (size, size // 2)
    assert _figure(_gray(40, 80), size=size).width > size


def test_without_title_and_color_bar_the_figure_is_the_picture_at_its_own_size() -> None:
    picture = _gray(40, 80)
    figure = _figure(picture, colorbar=False, title=False)
    heatmap = np.zeros((15, 15))
    heatmap[5:10, 5:10] = 1
    drawn = blend(picture, Preprocess(64, 64), heatmap, patch=(8, 8), stride=(4, 4))
    assert figure.size == (80, 40)
    assert np.array_equal(np.asarray(figure), drawn)


def test_without_color_bar_the_figure_is_narrower_and_without_title_lower() -> None:
    whole, no_bar, no_title = (_figure(_gray(64, 64), **look) for look in ({}, {"colorbar": False}, {"title": False}))
    assert no_bar.width < whole.width and no_bar.height == whole.height
    assert no_title.height < whole.height and no_title.width == whole.width


def test_side_by_side_the_picture_stands_unchanged_to_the_left_of_its_map() -> None:
    ramp = np.tile(np.linspace(0, 1, 90, dtype=np.float32), (60, 1))[:, :, None].repeat(3, axis=2)
    picture = Picture("ramp", ramp)
    figure = np.asarray(_figure(picture, colorbar=False, title=False, side_by_side=True))
    assert figure.shape[0] == 60
    assert np.array_equal(figure[:, :90], np.rint(ramp * 255).astype(np.uint8))
    alone = np.asarray(_figure(picture, colorbar=False, title=False))
    assert np.array_equal(figure[:, -90:], alone)


@pytest.mark.parametrize(("values", "level"), [("drop", Level(0.5)), ("drop", Level(50, True)), ("score", Level(0.5))])
def test_a_contour_runs_where_the_map_crosses_its_level(values: str, level: Level) -> None:
    heatmap = np.repeat(np.linspace(0, 1, 15)[None], 15, axis=0)  # 0.5 at the eighth column's center, x = 7 * 4 + 4
    looks = (Look(values=values, size=640, colorbar=False, title=False, contours=lines) for lines in ((), (level,)))
    plain, lined = (
        np.asarray(
            overlay(_gray(64, 64), Preprocess(64, 64), heatmap, patch=(8, 8), stride=(4, 4), title="", look=look)
        ).astype(int)
        for look in looks
    )
    changed = np.abs(lined - plain).sum(axis=2) > 60
    columns = np.nonzero(changed.any(axis=0))[0]
    assert columns.mean() + 0.5 == pytest.approx(320, abs=2)
    assert np.ptp(columns) < 12
    assert changed[:, columns].any(axis=1).mean() > 0.95


def test_contours_beyond_the_map_and_maps_without_values_draw_no_line() -> None:
    for heatmap in (np.full((15, 15), np.nan), np.zeros((15, 15)), np.zeros((1, 1))):
        figures = [
            overlay(
                _gray(64, 64), Preprocess(64, 64), heatmap, patch=(8, 8), stride=(4, 4), title="",
                look=Look(colorbar=False, title=False, contours=lines),
            )
            for lines in ((), (Level(3.0), Level(-3.0), Level(50, True)))
        ]  # fmt: skip
        assert np.array_equal(np.asarray(figures[0]), np.asarray(figures[1]))


def test_percentages_of_a_score_go_from_its_high_end_down() -> None:
    assert Level(25, percent=True).value("score", 0.2, 1.0) == pytest.approx(0.8)
    assert Level(25, percent=True).value("drop", -0.4, 0.4) == pytest.approx(0.1)


def test_the_overlay_can_be_saved_as_png(tmp_path: object, cat: Picture) -> None:
    figure = overlay(cat, Preprocess(224, 224), np.eye(14), patch=(16, 16), stride=(16, 16), title="cat 0.77")
    path = f"{tmp_path}/a.png"
    figure.save(path)
    with Image.open(path) as image:
        assert image.size == figure.size
