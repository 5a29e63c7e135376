"""A model's options turned into the preprocessing of its pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kryptondb.catalog.options import ModelOptions
from kryptondb.errors import BindError

if TYPE_CHECKING:
    from kryptondb.images.preprocess import Preprocess


def with_options(default: Preprocess, options: ModelOptions) -> Preprocess:
    """The source's default preprocessing with what the user's options say instead.

    A new size keeps the default's proportion of resize to crop (torchvision's 256 to 224), `resize` implies the crop
    that makes its result fit, `crop => false` resizes the whole picture. Raises BindError where the options contradict.
    """
    from kryptondb.images.preprocess import CHANNEL_COUNTS

    height, width = options.size or (default.height, default.width)
    channels = options.channels or default.channels
    count = CHANNEL_COUNTS[channels]
    resize, crop = default.resize, default.crop
    if options.size is not None and isinstance(resize, int):
        resize = round(resize / min(default.height, default.width) * max(height, width))
    elif options.size is not None:
        resize = None
    if options.resize is not None:
        resize, crop = options.resize, options.resize != (height, width)
    if options.crop is not None:
        crop = options.crop
        if not crop and options.resize is None:
            resize = None
    try:
        return replace(
            default,
            height=height,
            width=width,
            channels=channels,
            mean=options.mean if options.mean is not None else _for_channels(default.mean, count),
            std=options.std if options.std is not None else _for_channels(default.std, count),
            scale=options.scale if options.scale is not None else default.scale,
            resize=resize,
            crop=crop,
        )
    except ValueError as error:
        names = ", ".join(
            name for name in ("size", "mean", "std", "channels", "resize", "crop") if name in options.given()
        )
        raise BindError(f"the options {names} do not go together: {error}") from None


def describe_preprocess(preprocess: Preprocess) -> str:
    """One line for DESCRIBE: `resize 256, crop 224 x 224, scale 1, mean 0.485 0.456 0.406, std ...`."""
    resize = preprocess.resize
    if resize is None:
        how = "centre crop of the same proportions, then " if preprocess.crop else "whole picture "
        first = f"{how}resized to {preprocess.height} x {preprocess.width}"
    else:
        size = f"short side {resize}" if isinstance(resize, int) else f"{resize[0]} x {resize[1]}"
        first = f"resized to {size}" + (f", centre {preprocess.height} x {preprocess.width}" if preprocess.crop else "")
    mean = " ".join(f"{value:g}" for value in preprocess.mean)
    std = " ".join(f"{value:g}" for value in preprocess.std)
    return f"{first}, {preprocess.interpolation}, scale {preprocess.scale:g}, mean {mean}, std {std}"


def _for_channels(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """The default's numbers for another channel count: their average."""
    return values if len(values) == count else (sum(values) / len(values),) * count
