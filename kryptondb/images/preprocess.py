"""From a picture to a model's input: channels, resize, center crop, mean and standard deviation.

Two spaces: *pixel space*, 0..1 at the model's input size, where the occlusion patch is painted; and the normalized
space that the network reads, `(pixels * scale - mean) / std`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kryptondb.errors import ImageError
from kryptondb.images.picture import PIXEL_LIMIT, Picture
from kryptondb.options.words import INTERPOLATIONS

CHANNEL_COUNTS = {"RGB": 3, "L": 1}
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, the weights of Pillow's convert("L")


@dataclass(frozen=True)
class Preprocess:
    """How a model wants its pictures: plain data that compares by value and goes to JSON and back.

    Args:
        height, width: the model's input size.
        channels: 'RGB' (a gray picture is replicated), 'L' (a color picture becomes its luminance), or the number of
            channels that a picture has to have (other than 1 and 3).
        mean, std: one number, or one a channel, applied after `scale`.
        scale: what the brightest pixel maps to before mean and std: 1, or 255 for networks that count that way.
        resize: how large the picture is made before the crop. An int sets the short side and keeps the proportions
            (torchvision's `Resize(256)`), a pair is (height, width).
        crop: take the center `height` x `width` after `resize`, with black where the resized picture is smaller
            (torchvision's `CenterCrop`). Without `resize`, the largest centerd part that has the input's proportions.
            False: the whole picture is resized to `height` x `width`, whatever its proportions.
        interpolation: 'bilinear', 'bicubic', or 'nearest' (the cell in whose middle an input pixel lies).
        letterbox: the whole picture is made as large as fits into `height` x `width` in its own proportions and put in
            the middle; the rest has this level, 0..1. None where it is not done.
        antialias: whether a picture is smoothed while it is made smaller, as Pillow does it.

    Raises:
        ValueError: a value out of range, `resize` without `crop` (which would not give `height` x `width`), or either
            together with `letterbox`.
    """

    height: int
    width: int
    channels: str | int = "RGB"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    resize: int | tuple[int, int] | None = None
    crop: bool = False
    interpolation: str = "bilinear"
    letterbox: float | None = None
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.channels not in CHANNEL_COUNTS and not _is_count(self.channels):
            raise ValueError(f"channels must be 'RGB', 'L' or a number other than 1 and 3, not {self.channels!r}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be {', '.join(INTERPOLATIONS)}, not {self.interpolation!r}")
        if self.letterbox is not None and not 0 <= self.letterbox <= 1:
            raise ValueError(f"letterbox must be a level from 0 to 1, not {self.letterbox!r}")
        if self.letterbox is not None and (self.crop or self.resize is not None):
            raise ValueError("letterbox shows the whole picture: it goes with neither resize nor crop")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _per_channel(name, getattr(self, name), self.channel_count))
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, not {min(self.std):g}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be above 0, not {self.scale:g}")
        object.__setattr__(self, "scale", float(self.scale))
        sides = [self.height, self.width]
        if isinstance(self.resize, int):
            sides.append(self.resize)
        elif self.resize is not None:
            if len(self.resize) != 2:
                raise ValueError(f"resize must be one number or (height, width), not {self.resize}")
            object.__setattr__(self, "resize", tuple(self.resize))
            sides.extend(self.resize)
        for side in sides:
            if isinstance(side, bool) or not isinstance(side, int) or side < 1:
                raise ValueError(f"sizes must be whole numbers of at least 1, not {side!r}")
        if not self.crop and self.resize not in (None, (self.height, self.width)):
            raise ValueError(f"resize without crop does not give the input size {self.height} x {self.width}")

    @property
    def channel_count(self) -> int:
        """3 for RGB, 1 for L, else the number itself."""
        return self.channels if isinstance(self.channels, int) else CHANNEL_COUNTS[self.channels]

    def pixels(self, picture: Picture) -> Tensor:
        """The picture as the model sees it, in pixel space: float32 [C, height, width] in 0..1, on the CPU.

        Raises:
            ImageError: the picture has other channels than the model reads, or is so long and thin that resizing its
                short side would not fit in memory.
        """
        resized_height, resized_width = self._resized(*self._part(picture.height, picture.width)[2:])
        if resized_height * resized_width > PIXEL_LIMIT:
            raise ImageError(
                f"{picture.name}: {picture.height} x {picture.width} pixels are too long and thin to resize: the "
                f"result would have {resized_height:,} x {resized_width:,}",
                hint="Crop the picture, or create the model without resize and crop.",
            )
        array = self._channels_of(picture)
        if self.channels == "L" and picture.channels == 3:
            # Before resizing: the same answer, since both are linear, for a third of the work.
            array = (array @ np.asarray(LUMINANCE, dtype=np.float32))[:, :, None]
        pixels = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
        pixels = self._crop(self._resize(pixels))
        if pixels.shape[0] != self.channel_count:
            pixels = pixels.expand(self.channel_count, -1, -1)
        return pixels.clamp(0.0, 1.0).contiguous()  # bicubic overshoots

    def normalize(self, pixels: Tensor) -> Tensor:
        """What the network reads: `(pixels * scale - mean) / std` for [..., C, H, W], in the same dtype and device."""
        mean = torch.tensor(self.mean, dtype=pixels.dtype, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, dtype=pixels.dtype, device=pixels.device).view(-1, 1, 1)
        if self.scale != 1.0:
            pixels = pixels * self.scale
        return (pixels - mean) / std

    def window(self, picture_height: int, picture_width: int) -> tuple[float, float, float, float]:
        """The part of the picture that the model sees: (top, left, height, width) in picture pixels.

        It reaches outside the picture (a negative top or left) where the crop is larger than the resized picture.
        Input pixel y covers `top + y * height / self.height` to `top + (y + 1) * height / self.height`.
        """
        part_top, part_left, part_height, part_width = self._part(picture_height, picture_width)
        resized_height, resized_width = self._resized(part_height, part_width)
        y_scale, x_scale = part_height / resized_height, part_width / resized_width
        top = part_top + self._offset(resized_height, self.height) * y_scale
        left = part_left + self._offset(resized_width, self.width) * x_scale
        return top, left, self.height * y_scale, self.width * x_scale

    def to_json(self) -> str:
        """All fields as JSON text; `from_json` gives an equal value back.

        Fields that earlier versions did not have are left out where they say nothing, so that fingerprints stay.
        """
        fields = asdict(self)
        if self.letterbox is None:
            del fields["letterbox"]
        if self.antialias:
            del fields["antialias"]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """Reads what `to_json` wrote. Raises ValueError for anything else."""
        fields: Any = json.loads(text)
        try:
            arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            return cls(**arguments)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a preprocessing in JSON: {error}") from None

    def _channels_of(self, picture: Picture) -> NDArray[np.float32]:
        """The picture's channels that the model reads, [h, w, C]; C may still be 1 or 3 for the other of the two."""
        given = picture.channels if picture.planes is None else int(picture.planes.shape[2])
        if isinstance(self.channels, int):
            if picture.planes is None or given != self.channels:
                raise ImageError(
                    f"{picture.name}: the picture has {given} channel{'s' if given > 1 else ''}, the model reads"
                    f" {self.channels}",
                    hint=f"Give an array H x W x {self.channels}.",
                )
            return picture.planes
        if given > 4:
            raise ImageError(f"{picture.name}: the picture has {given} channels, the model reads {self.channels}")
        return picture.pixels

    def _part(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(top, left, height, width) of what is resized: all of the picture, or its center with the input's shape."""
        if not self.crop or self.resize is not None:
            return 0, 0, height, width
        factor = min(height / self.height, width / self.width)
        part_height = min(height, max(1, round(self.height * factor)))
        part_width = min(width, max(1, round(self.width * factor)))
        return (height - part_height) // 2, (width - part_width) // 2, part_height, part_width

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after the resize; torchvision's rounding for a short side."""
        if self.letterbox is not None:
            factor = min(self.height / height, self.width / width)
            return max(1, round(height * factor)), max(1, round(width * factor))
        if self.resize is None:
            return self.height, self.width
        if isinstance(self.resize, tuple):
            return self.resize
        short, long = sorted((height, width))
        long = max(1, int(self.resize * long / short))
        return (self.resize, long) if height <= width else (long, self.resize)

    @staticmethod
    def _offset(resized: int, side: int) -> int:
        """Where the center crop begins, below 0 where it pads; torchvision's rounding."""
        if resized < side:
            return -((side - resized) // 2)
        return round((resized - side) / 2.0)

    def _resize(self, pixels: Tensor) -> Tensor:
        """[C, h, w] of any size -> [C, resized height, resized width], antialiased."""
        top, left, height, width = self._part(pixels.shape[1], pixels.shape[2])
        pixels = pixels[:, top : top + height, left : left + width]
        size = self._resized(height, width)
        if size == (height, width):
            return pixels
        if self.interpolation == "nearest":
            return functional.interpolate(pixels[None], size=size, mode="nearest-exact")[0]
        # Height first where the width becomes a single pixel: torch resizes both at once wrongly then (2.13, contiguous
        # input: every row comes out like the first).
        steps = [(size[0], width), size] if size[1] == 1 else [size]
        resized = pixels[None]
        for step in steps:
            resized = functional.interpolate(
                resized, size=step, mode=self.interpolation, align_corners=False, antialias=self.antialias
            )
        return resized[0]

    def _crop(self, pixels: Tensor) -> Tensor:
        """[C, h, w] -> the center [C, height, width], padded with black or the letterbox where h or w is smaller."""
        for dimension, side in ((1, self.height), (2, self.width)):
            size = pixels.shape[dimension]
            offset = self._offset(size, side)
            if offset > 0 or size > side:
                pixels = pixels.narrow(dimension, offset, side)
            elif size < side:
                padding = [-offset, side - size + offset]
                padding = padding if dimension == 2 else [0, 0, *padding]
                pixels = functional.pad(pixels, padding, value=self.letterbox or 0.0)
        return pixels


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0 and value not in (1, 3)


def _per_channel(name: str, value: object, count: int) -> tuple[float, ...]:
    """`count` finite floats from a number or a sequence of 1 or `count` numbers; ValueError otherwise."""
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    if not all(isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise ValueError(f"{name} must be numbers, not {value!r}")
    if len(numbers) not in (1, count):
        raise ValueError(f"{name} has {len(numbers)} numbers for {count} channel{'s' if count > 1 else ''}")
    return tuple(float(n) for n in numbers) * (count if len(numbers) == 1 else 1)
