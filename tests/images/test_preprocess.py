"""Preprocessing agrees with torchvision's transforms, and knows which part of the picture the model sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import kryptondb.images.torchvision_guard  # noqa: F401
from kryptondb.errors import ImageError
from kryptondb.images import Picture, sample_path
from kryptondb.images.preprocess import Preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _picture(height: int, width: int, channels: int = 3) -> Picture:
    pixels = np.random.default_rng(height * 1000 + width).random((height, width, channels), dtype=np.float32)
    return Picture("noise", pixels)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resize_and_center_crop_match_torchvision_on_a_photograph(cat: Picture, interpolation: str) -> None:
    from torchvision.transforms import v2

    mode = v2.InterpolationMode(interpolation)
    theirs = v2.Compose(
        [
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize(256, interpolation=mode, antialias=True),
            v2.CenterCrop(224),
            v2.Lambda(lambda x: x.clamp(0, 1)),
            v2.Normalize(MEAN, STD),
        ]
    )(Image.open(sample_path("cat")))
    ours = Preprocess(224, 224, mean=MEAN, std=STD, resize=256, crop=True, interpolation=interpolation)
    torch.testing.assert_close(ours.normalize(ours.pixels(cat)), theirs, atol=1e-5, rtol=0)


def test_the_transforms_of_torchvision_weights_agree_within_their_8_bit_rounding(cat: Picture) -> None:
    from torchvision.transforms._presets import ImageClassification

    theirs = ImageClassification(crop_size=224, resize_size=232)(Image.open(sample_path("cat")))
    ours = Preprocess(224, 224, mean=MEAN, std=STD, resize=232, crop=True)
    difference = (ours.normalize(ours.pixels(cat)) - theirs).abs() * torch.tensor(STD)[:, None, None]
    assert difference.max() <= 1 / 255


@example(height=4, width=2, resize=1, crop=2)
@given(height=st.integers(1, 90), width=st.integers(1, 90), resize=st.integers(1, 60), crop=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_any_size_and_crop_matches_torchvision_even_where_it_pads(
    height: int, width: int, resize: int, crop: int
) -> None:
    from torchvision.transforms import v2

    picture = _picture(height, width)
    pixels = torch.from_numpy(picture.pixels).permute(2, 0, 1)
    theirs = v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop((crop, 33))])(pixels)
    ours = Preprocess(crop, 33, resize=resize, crop=True).pixels(picture)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_without_resize_or_crop_the_whole_picture_fills_the_input(cat: Picture) -> None:
    from torchvision.transforms import v2

    pixels = torch.from_numpy(cat.pixels).permute(2, 0, 1)
    whole = Preprocess(48, 64)
    torch.testing.assert_close(whole.pixels(cat), v2.Resize((48, 64), antialias=True)(pixels), atol=1e-5, rtol=0)
    assert whole.window(300, 451) == (0, 0, 300, 451)


def test_crop_without_resize_takes_the_largest_centerd_part_with_the_inputs_proportions() -> None:
    picture = _picture(100, 160)
    preprocess = Preprocess(50, 50, crop=True)
    assert preprocess.window(100, 160) == (0, 30, 100, 100)
    part = Picture("part", np.ascontiguousarray(picture.pixels[:, 30:130]))
    assert torch.equal(preprocess.pixels(picture), Preprocess(50, 50).pixels(part))


def test_a_picture_of_the_input_size_comes_through_bit_for_bit() -> None:
    picture = _picture(32, 40)
    assert np.array_equal(Preprocess(32, 40).pixels(picture).permute(1, 2, 0).numpy(), picture.pixels)


def test_a_gray_picture_is_replicated_for_an_rgb_model() -> None:
    pixels = Preprocess(16, 16).pixels(_picture(20, 30, channels=1))
    assert pixels.shape == (3, 16, 16)
    assert pixels.is_contiguous()
    assert torch.equal(pixels[0], pixels[1])
    assert torch.equal(pixels[0], pixels[2])


def test_a_color_picture_becomes_its_luminance_for_a_one_channel_model() -> None:
    picture = _picture(16, 16)
    gray = Preprocess(16, 16, channels="L").pixels(picture)
    assert gray.shape == (1, 16, 16)
    expected = picture.pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    np.testing.assert_allclose(gray[0].numpy(), expected, atol=1e-6)


def test_normalize_scales_before_mean_and_std_and_keeps_dtype_and_leading_dimensions() -> None:
    preprocess = Preprocess(4, 4, mean=(127.0,), std=(128.0,), scale=255.0)
    assert preprocess.mean == (127.0, 127.0, 127.0)
    pixels = torch.rand(2, 5, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(preprocess.normalize(pixels), (pixels * 255 - 127) / 128)


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(224, 192, resize=256, crop=True),
        Preprocess(64, 64, resize=(80, 70), crop=True),
        Preprocess(64, 64, crop=True),
        Preprocess(64, 80),
        Preprocess(64, 64, resize=48, crop=True),
    ],
)
def test_the_window_is_where_a_spot_in_the_picture_really_lands(preprocess: Preprocess) -> None:
    height, width = 300, 451
    top, left, window_height, window_width = preprocess.window(height, width)
    for y, x in ((150, 225), (120, 170), (180, 290)):
        pixels = np.zeros((height, width, 3), dtype=np.float32)
        pixels[y - 6 : y + 6, x - 6 : x + 6] = 1
        seen = preprocess.pixels(Picture("spot", pixels))[0].double()
        mass = seen.sum()
        at_y = float((seen.sum(1) * (torch.arange(preprocess.height) + 0.5)).sum() / mass)
        at_x = float((seen.sum(0) * (torch.arange(preprocess.width) + 0.5)).sum() / mass)
        assert at_y == pytest.approx((y - top) * preprocess.height / window_height, abs=0.05)
        assert at_x == pytest.approx((x - left) * preprocess.width / window_width, abs=0.05)


def test_it_goes_to_json_and_back() -> None:
    preprocess = Preprocess(224, 192, "L", (0.5,), (0.25,), 255.0, (256, 224), True, "bicubic")
    assert Preprocess.from_json(preprocess.to_json()) == preprocess
    for text in ("[]", '{"heigth": 3}', "3"):
        with pytest.raises(ValueError, match="not a preprocessing"):
            Preprocess.from_json(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": "BGR"}, "'RGB', 'L' or a number"),
        ({"mean": (0.5, 0.5)}, "mean has 2 numbers for 3 channels"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be above 0"),
        ({"std": ("a",)}, "std must be numbers"),
        ({"scale": 0.0}, "scale must be above 0"),
        ({"height": 0}, "at least 1"),
        ({"width": 2.5}, "whole numbers"),
        ({"resize": 256}, "resize without crop"),
        ({"resize": (1, 2, 3), "crop": True}, "one number or"),
        ({"interpolation": "lanczos"}, "bilinear"),
    ],
)
def test_values_that_make_no_sense_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocess(**{"height": 224, "width": 224, **arguments})  # type: ignore[arg-type]


def test_a_picture_too_long_and_thin_to_resize_is_refused_before_memory_runs_out() -> None:
    line = Picture("line.png", np.zeros((1, 1_000_000, 1), dtype=np.float32))
    with pytest.raises(ImageError, match=r"line\.png: 1 x 1000000 pixels are too long and thin"):
        Preprocess(224, 224, resize=256, crop=True).pixels(line)
