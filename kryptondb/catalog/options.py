"""What may follow WITH in CREATE MODEL: the options' names, and their values checked and made plain."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from kryptondb.errors import BindError, did_you_mean
from kryptondb.paths import expanded, scheme_of, unusable
from kryptondb.plain_text import printable

MAX_CLASSES = 100_000
MAX_SIDE = 8192  # pixels of a model's input; one float32 RGB input of that size is 800 MB
MAX_CHANNELS = 64  # of a model's input
WEIGHT_WORDS = ("default", "random")
ACTIVATIONS = ("softmax", "sigmoid", "none")
LAYOUTS = ("channels_first", "channels_last")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")

Size = tuple[int, int]
Resize = int | Size


@dataclass(frozen=True)
class ModelOptions:
    """The options of one model; None where not given. Paths are absolute.

    Attributes:
        weights: 'default', 'random', or the path of a `.pth`, `.pt` or `.safetensors` file.
        labels: the path of a file with one label a line, or the labels.
        classes: how many classes the model has.
        size: height and width of the input.
        mean, std: one number, or one a channel.
        scale: what the brightest pixel maps to before mean and std.
        channels: 'RGB', 'L', or how many there are.
        resize: the short side, or (height, width), before the crop.
        crop: whether the centre is cut out.
        letterbox: the level around a picture that is fitted in whole, 0..1; False where it is not.
        interpolation: 'bilinear', 'bicubic' or 'nearest'.
        antialias: whether a picture is smoothed while it is made smaller.
        output: which of several outputs holds the scores: its name, or its place from 0.
        activation: what makes probabilities of the scores: 'softmax', 'sigmoid' (multi-label) or 'none' (regression).
        layout: 'channels_first' or 'channels_last', the order of the input's dimensions.
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

        Raises BindError for a name that is no option (with the nearest) or a value that it does not take; the message
        begins with `option "name"`.
        """
        values: dict[str, Any] = {}
        for name, value in options.items():
            key = name.casefold()
            if key not in _PARSERS:
                raise BindError(
                    f'option "{name}" is unknown for a model',
                    hint=did_you_mean(name, OPTION_NAMES) or f"The options are {', '.join(OPTION_NAMES)}.",
                )
            try:
                values[key] = _PARSERS[key](value)
            except ValueError as error:
                raise BindError(f'option "{key}" cannot be {_shown(value)}', hint=f"It takes {error}.") from None
        crop = values.get("crop")
        if isinstance(crop, tuple):  # torchvision's way to say it: resize => 256, crop => 224
            if values.setdefault("size", crop) != crop:
                raise BindError(
                    'option "crop" is not the size of the input', hint="Give size => alone, or crop => true."
                )
            values["crop"] = True
        return cls(**values)

    def given(self) -> dict[str, Any]:
        """The options that were given, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def only(self, kind: str, *names: str) -> None:
        """Raises BindError when an option was given that a kind of source does not take."""
        for name in self.given():
            if name not in names:
                raise BindError(f'option "{name}" does not apply to {kind}', hint=f"It takes {', '.join(names)}.")

    def without(self, kind: str, *names: str) -> None:
        """Raises BindError when one of the named options was given, which a kind of source has no use for."""
        for name in names:
            if getattr(self, name) is not None:
                raise BindError(f'option "{name}" does not apply to {kind}')


def absolute(path: str) -> str:
    """The path with `~` expanded, made absolute from the current folder: what the catalog remembers.

    Raises:
        BindError: no file can have this path.
    """
    problem = unusable(path)
    if problem is not None:
        hint = "Download it, and name the file." if scheme_of(path) is not None else None
        raise BindError(f"{path!r} names no file: {problem}", hint=hint)
    return str(expanded(path).absolute())  # links are kept: what they point to may change


def _shown(value: object) -> str:
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _whole(value: object, most: int, what: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{what} from 1 to {most:,}")
    return value


def _weights(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("'default', 'random', or the path of a .pth, .pt or .safetensors file")
    word = value.strip().casefold()
    return word if word in WEIGHT_WORDS else absolute(value)


def _labels(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return absolute(value)
    if hasattr(value, "__fspath__"):
        return absolute(os.fspath(value))
    items = value if isinstance(value, (list, tuple)) and len(value) <= MAX_CLASSES else ()
    if items and all(isinstance(item, (str, int, float)) and not isinstance(item, bool) for item in items):
        return tuple(printable(str(item).strip()) for item in items)
    raise ValueError(f"the path of a file with one label a line, or a list of at most {MAX_CLASSES:,} labels")


def _classes(value: object) -> int:
    return _whole(value, MAX_CLASSES, "a whole number")


def _size(value: object) -> Size:
    what = "one whole number, or (height, width), each"
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ValueError(f"{what} from 1 to {MAX_SIDE:,}")
        return _whole(value[0], MAX_SIDE, what), _whole(value[1], MAX_SIDE, what)
    side = _whole(value, MAX_SIDE, what)
    return side, side


def _resize(value: object) -> Resize:
    if isinstance(value, (list, tuple)):
        return _size(value)
    return _whole(value, MAX_SIDE, "the short side, or (height, width), each")


def _crop(value: object) -> bool | Size:
    if isinstance(value, bool):
        return value
    try:
        return _size(value)
    except ValueError:
        raise ValueError("true, false, or the size that is cut out, such as 224") from None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("a number, or one number a channel")
    return float(value)


def _numbers(value: object) -> tuple[float, ...]:
    if isinstance(value, (list, tuple)):
        if not 1 <= len(value) <= MAX_CHANNELS:
            raise ValueError("one number, or one a channel")
        return tuple(_number(item) for item in value)
    return (_number(value),)


def _std(value: object) -> tuple[float, ...]:
    numbers = _numbers(value)
    if min(numbers) <= 0:
        raise ValueError("numbers above 0")
    return numbers


def _scale(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError("a number above 0, such as 1 or 255")
    return float(value)


def _channels(value: object) -> str | int:
    if isinstance(value, str) and value.strip().upper() in ("RGB", "L"):
        return value.strip().upper()
    try:
        count = _whole(value, MAX_CHANNELS, "")
    except ValueError:
        raise ValueError(f"'RGB', 'L', or a whole number of channels from 1 to {MAX_CHANNELS}") from None
    return {1: "L", 3: "RGB"}.get(count, count)


def _letterbox(value: object) -> float | bool:
    if isinstance(value, bool):
        return 0.0 if value else False
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError("false, true (black), or the level around the picture from 0 to 1")
    return float(value)


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _output(value: object) -> str | int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_CLASSES:
        return value
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("the name of an output, or its place from 0")


def _word(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in words:
            return value.strip().lower()
        raise ValueError(" or ".join([", ".join(f"'{word}'" for word in words[:-1]), f"'{words[-1]}'"]))

    return parse


_PARSERS: dict[str, Callable[[object], Any]] = {
    "weights": _weights,
    "labels": _labels,
    "classes": _classes,
    "size": _size,
    "mean": _numbers,
    "std": _std,
    "scale": _scale,
    "channels": _channels,
    "resize": _resize,
    "crop": _crop,
    "letterbox": _letterbox,
    "interpolation": _word(*INTERPOLATIONS),
    "antialias": _flag,
    "output": _output,
    "activation": _word(*ACTIVATIONS),
    "layout": _word(*LAYOUTS),
}
OPTION_NAMES: tuple[str, ...] = tuple(_PARSERS)
PREPROCESS_OPTIONS = (
    "size", "mean", "std", "scale", "channels", "resize", "crop", "letterbox", "interpolation", "antialias",
)  # fmt: skip
SCORE_OPTIONS = ("labels", "classes", "output", "activation")
