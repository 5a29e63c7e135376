"""The options of CREATE MODEL, and what they make of a model: the preprocessing of its pictures and its class labels.

Labels come from a file, a list or ImageNet's names; without any they are 'class 0', 'class 1', ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from kryptondb.catalog.model import reading
from kryptondb.errors import BindError, ModelError
from kryptondb.files.regular import read_regular
from kryptondb.options.reader import read
from kryptondb.options.tables import MODEL
from kryptondb.options.words import MAX_CHANNELS, MAX_CLASSES, MAX_SIDE

if TYPE_CHECKING:
    from kryptondb.images.preprocess import Preprocess


Size = tuple[int, int]
Resize = int | Size


@dataclass(frozen=True)
class ModelOptions:
    """The options of one model; None where not given. Paths are absolute. `options.tables.MODEL` says what each is.

    The names are those of the rows once more, so that each use is checked against its type; a test compares them.
    """

    weights: str | None = None
    labels: str | tuple[str, ...] | None = None
    classes: int | None = None
    size: Size | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    channels: str | int | None = None
    resize: Resize | None = None
    crop: bool | None = None
    letterbox: float | bool | None = None
    interpolation: str | None = None
    antialias: bool | None = None
    output: str | int | None = None
    activation: str | None = None
    layout: str | None = None

    @classmethod
    def parse(cls, options: Mapping[str, object]) -> ModelOptions:
        """Checks option values as they come from SQL, Python or the catalog's JSON.

        Raises BindError for a name that is not an option (with the nearest) or a value that it does not take.
        """
        values = read(MODEL, options)
        crop = values.get("crop")
        if isinstance(crop, tuple):  # torchvision's way to say it: resize => 256, crop => 224
            if values.setdefault("size", crop) != crop:
                raise BindError(
                    "crop is not the size of the input", hint="Give size => alone, or crop => TRUE.", option="crop"
                )
            values["crop"] = True
        if values.get("letterbox") is True:
            values["letterbox"] = 0.0  # black
        if values.get("channels") in (1, 3):
            values["channels"] = {1: "L", 3: "RGB"}[values["channels"]]
        return cls(**values)

    def given(self) -> dict[str, Any]:
        """The options that were given, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def only(self, kind: str, *names: str) -> None:
        """Raises BindError when an option was given that a kind of source does not take."""
        for name in self.given():
            if name not in names:
                raise _unsuited(name, kind, f"It takes {', '.join(names)}.")

    def without(self, kind: str, *names: str) -> None:
        """Raises BindError when one of the named options was given, which a kind of source has no use for."""
        for name in names:
            if getattr(self, name) is not None:
                raise _unsuited(name, kind)


def _unsuited(name: str, kind: str, hint: str | None = None) -> BindError:
    return BindError(f'option "{name}" does not apply to {kind}', hint=hint, option=name)


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
            hint=f"Omit size =>, or export it again for pictures of {wanted[0]} x {wanted[1]}.",
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
        how = "center crop of the same proportions, then " if preprocess.crop else "whole picture "
        first = f"{how}resized to {preprocess.height} x {preprocess.width}"
    else:
        size = f"short side {resize}" if isinstance(resize, int) else f"{resize[0]} x {resize[1]}"
        first = f"resized to {size}" + (f", center {preprocess.height} x {preprocess.width}" if preprocess.crop else "")
    mean = " ".join(f"{value:g}" for value in preprocess.mean)
    std = " ".join(f"{value:g}" for value in preprocess.std)
    smooth = "" if preprocess.antialias else " without antialiasing"
    return f"{first}, {preprocess.interpolation}{smooth}, scale {preprocess.scale:g}, mean {mean}, std {std}"


def _for_channels(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """The default's numbers for another channel count: their average."""
    return values if len(values) == count else (sum(values) / len(values),) * count


MAX_LABEL_BYTES = 8 << 20  # of a labels file: 100,000 labels of 80 letters


def imagenet_labels() -> tuple[str, ...]:
    """ImageNet's 1,000 class names, in the order that every torchvision classifier uses."""
    from kryptondb.images.torchvision_guard import declare_missing_operators

    declare_missing_operators()  # before torchvision, everywhere
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)


def read_labels(path: str) -> tuple[str, ...]:
    """One label per line, UTF-8; spaces around a label and empty lines at the end are dropped.

    Raises ModelError when the file is not there, too large, not text, or has an empty line between labels.
    """
    with reading(path, "Give a text file with one label per line.", "labels"):
        data = read_regular(path, MAX_LABEL_BYTES, empty=True)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ModelError(f"the labels file {path} is not UTF-8 text", hint="Give one label per line.") from None
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not lines or "\0" in text:
        raise ModelError(f"the labels file {path} holds no labels", hint="Give one label per line.")
    if "" in lines:
        raise ModelError(
            f"the labels file {path} has an empty line {lines.index('') + 1}", hint="Give one label per line."
        )
    if len(lines) > MAX_CLASSES:
        raise ModelError(f"the labels file {path} has {len(lines):,} labels, more than {MAX_CLASSES:,}")
    return tuple(lines)


def resolve_labels(
    labels: str | tuple[str, ...] | None, classes: int, known: tuple[str, ...] | None
) -> tuple[str, ...]:
    """The labels of a model with `classes` classes.

    Args:
        labels: what the user gave: a path, the labels, or None.
        classes: how many scores the model gives.
        known: what the source knows itself (ImageNet's names), used when the count fits.

    Raises ModelError when the user's labels are not as many as the classes.
    """
    if labels is not None:
        found = read_labels(labels) if isinstance(labels, str) else labels
        if len(found) != classes:
            where = f"the labels file {labels} has" if isinstance(labels, str) else "labels => has"
            raise ModelError(
                f"{where} {len(found):,} labels, but the model has {classes:,} classes",
                hint="Give one label per class.",
            )
        return found
    if known is not None and len(known) == classes:
        return known
    return tuple(f"class {index}" for index in range(classes))
