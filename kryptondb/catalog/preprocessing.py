"""A model's options turned into the preprocessing of its pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kryptondb.catalog.options import ModelOptions
from kryptondb.errors import BindError, ModelError
from kryptondb.options.words import MAX_CHANNELS, MAX_SIDE

if TYPE_CHECKING:
    from kryptondb.images.preprocess import Preprocess

DEFAULT_SIDE = 224  # of a file that takes any size, when size => is not given


def with_options(default: Preprocess, options: ModelOptions) -> Preprocess:
    """The source's default preprocessing with what the user's options say instead.

    A new size keeps the default's proportion of resize to crop (torchvision's 256 to 224), `resize` implies the crop
    that makes its result fit, `crop => false` resizes the whole picture. Raises BindError where the options contradict.
    """
    height, width = options.size or (default.height, default.width)
    channels = options.channels or default.channels
    count = channel_count(channels)
    resize, crop, letterbox = default.resize, default.crop, default.letterbox
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
    if options.letterbox is not None or options.resize is not None or options.crop is not None:
        letterbox = None if options.letterbox is False else options.letterbox
        if letterbox is not None and options.resize is None and options.crop is None:
            resize, crop = None, False  # the source's own
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
            letterbox=letterbox,
            interpolation=options.interpolation or default.interpolation,
            antialias=default.antialias if options.antialias is None else options.antialias,
        )
    except ValueError as error:
        names = [
            name
            for name in ("size", "mean", "std", "channels", "resize", "crop", "letterbox")
            if name in options.given()
        ]
        raise BindError(
            f"the options {', '.join(names)} do not go together: {error}", option=next(iter(names), None)
        ) from None


def for_input(
    sides: tuple[int | None, int | None, int | None], options: ModelOptions, path: str, scale: float = 1.0
) -> Preprocess:
    """Pixels of 0..1 (times `scale`) at a file's own size: it does not say how it wants them normalized.

    Args:
        sides: channels, height and width that the file is made for; None where any will do.

    Raises ModelError where the options say another size or other channels.
    """
    from kryptondb.images.preprocess import Preprocess

    count, height, width = sides
    name: str | int = {1: "L", 3: "RGB"}.get(count or 3, count or 3)
    if count is not None and options.channels not in (None, name):
        shown = f"'{name}'" if isinstance(name, str) else name
        raise ModelError(f"{path} reads {count} channels, so channels => {shown}")
    if max(count or 0, 1) > MAX_CHANNELS or max(height or 0, width or 0) > MAX_SIDE:
        raise ModelError(f"{path} reads {count} channels of {height} x {width}, more than KryptonDB takes")
    wanted = options.size or (height or DEFAULT_SIDE, width or DEFAULT_SIDE)
    if (height or wanted[0], width or wanted[1]) != wanted:
        raise ModelError(
            f"{path} reads {height} x {width} pixels, not {wanted[0]} x {wanted[1]}",
            hint=f"Leave size => out, or export it again for pictures of {wanted[0]} x {wanted[1]}.",
        )
    return Preprocess(height=wanted[0], width=wanted[1], channels=options.channels or name, scale=scale)


def channel_count(channels: str | int) -> int:
    """3 for RGB, 1 for L, else the number itself."""
    from kryptondb.images.preprocess import CHANNEL_COUNTS

    return channels if isinstance(channels, int) else CHANNEL_COUNTS[channels]


def describe_preprocess(preprocess: Preprocess) -> str:
    """One line for DESCRIBE: `resize 256, crop 224 x 224, scale 1, mean 0.485 0.456 0.406, std ...`."""
    resize = preprocess.resize
    if preprocess.letterbox is not None:
        first = f"whole picture inside {preprocess.height} x {preprocess.width}, the rest {preprocess.letterbox:g}"
    elif resize is None:
        how = "centre crop of the same proportions, then " if preprocess.crop else "whole picture "
        first = f"{how}resized to {preprocess.height} x {preprocess.width}"
    else:
        size = f"short side {resize}" if isinstance(resize, int) else f"{resize[0]} x {resize[1]}"
        first = f"resized to {size}" + (f", centre {preprocess.height} x {preprocess.width}" if preprocess.crop else "")
    mean = " ".join(f"{value:g}" for value in preprocess.mean)
    std = " ".join(f"{value:g}" for value in preprocess.std)
    smooth = "" if preprocess.antialias else " without antialiasing"
    return f"{first}, {preprocess.interpolation}{smooth}, scale {preprocess.scale:g}, mean {mean}, std {std}"


def _for_channels(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """The default's numbers for another channel count: their average."""
    return values if len(values) == count else (sum(values) / len(values),) * count
