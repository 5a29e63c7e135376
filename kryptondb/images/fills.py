"""What the occlusion patch is painted with, in pixel space (0..1), before mean and standard deviation.

fill = parse_fill("patch_mean")
painter = fill.prepare(pixels)                       # once per image: what the fill needs to know about it
patches = painter.patches(ys, xs, height, width)     # n x C x height x width, once per tile
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kryptondb.errors import did_you_mean
from kryptondb.images.preprocess import LUMINANCE
from kryptondb.options.words import FILLS

CONSTANTS = {"black": 0.0, "gray": 0.5, "white": 1.0}

# Of the image's short side: sigma 10 at 224 pixels, as in Fong and Vedaldi, "Interpretable Explanations of Black Boxes
# by Meaningful Perturbation" (2017).
BLUR_SIGMA = 10 / 224

# Of the patch's sides.
GAUSSIAN_SIGMA = 0.25

Positions = NDArray[np.integer]


class Painter(Protocol):
    """A fill that knows its image."""

    def patches(self, ys: Positions, xs: Positions, height: int, width: int) -> Tensor:
        """The fill's content for patches with their top-left corners at (ys[i], xs[i]): [n, C, height, width].

        Same dtype and device as the image. Where the content does not depend on the position this is a broadcast view
        of one pixel: read it, do not write into it. Raises ValueError when a patch reaches outside the image.
        """


class Fill(Protocol):
    """A way to paint the patch: a frozen value; `parse_fill(str(fill)) == fill`."""

    def prepare(self, pixels: Tensor) -> Painter:
        """Does what is needed once for the image `pixels` [C, H, W] in 0..1, floating point."""


@dataclass(frozen=True)
class ConstantFill:
    """One color everywhere: a level for all channels, or (r, g, b), which a one-channel model sees as luminance."""

    color: tuple[float, ...]
    name: str | None = None

    def prepare(self, pixels: Tensor) -> Painter:
        channels = pixels.shape[0]
        color = self.color
        if len(color) == 3 and channels == 1:
            color = (sum(weight * level for weight, level in zip(LUMINANCE, color, strict=True)),)
        levels = torch.tensor(color, dtype=pixels.dtype, device=pixels.device)
        return _OneColor(levels.expand(channels), pixels.shape)

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        if len(self.color) == 1:
            return _number(self.color[0])
        return "(" + ", ".join(map(_number, self.color)) + ")"


@dataclass(frozen=True)
class MeanFill:
    """The mean of each channel over the whole model input."""

    def prepare(self, pixels: Tensor) -> Painter:
        return _OneColor(pixels.mean(dim=(1, 2), dtype=torch.float64).to(pixels.dtype), pixels.shape)

    def __str__(self) -> str:
        return "mean"


@dataclass(frozen=True)
class PatchMeanFill:
    """The mean of each channel over what the patch covers: takes the detail away, keeps the brightness."""

    def prepare(self, pixels: Tensor) -> Painter:
        return _PatchMeans(pixels)

    def __str__(self) -> str:
        return "patch_mean"


@dataclass(frozen=True)
class BlurFill:
    """The image itself, blurred by a Gaussian (sigma `BLUR_SIGMA` of the short side, edges repeated)."""

    def prepare(self, pixels: Tensor) -> Painter:
        height, width = pixels.shape[1:]
        sigma = BLUR_SIGMA * min(height, width)
        rows = torch.from_numpy(_blur_matrix(height, sigma)).to(pixels.device)
        columns = torch.from_numpy(_blur_matrix(width, sigma)).to(pixels.device)
        return _Windows((rows @ pixels.double() @ columns.T).to(pixels.dtype))

    def __str__(self) -> str:
        return "blur"


@dataclass(frozen=True)
class GaussianFill:
    """The picture darkened by a Gaussian: black in the patch's middle, unchanged at its corners, as MONAI's."""

    def prepare(self, pixels: Tensor) -> Painter:
        return _Darkened(pixels)

    def __str__(self) -> str:
        return "gaussian"


def gaussian_kernel(sides: Sequence[int]) -> Tensor:
    """How much of each cell of a patch is hidden: 1 in the middle, 0 where it is least; float64, of shape `sides`.

    A discrete Gaussian of `GAUSSIAN_SIGMA` times each side around the cell `side // 2`, each cell its mean over the
    cell, then scaled. Source: MONAI's `OcclusionSensitivity.gaussian_occlusion`.
    """
    kernel = torch.ones((), dtype=torch.float64)
    for side in sides:
        sigma = side * GAUSSIAN_SIGMA
        away = torch.arange(side, dtype=torch.float64) - side // 2
        edges = [torch.special.erf((away + half) / (sigma * math.sqrt(2.0))) for half in (0.5, -0.5)]
        kernel = kernel[..., None] * (0.5 * (edges[0] - edges[1]))
    spread = kernel.max() - kernel.min()
    return (kernel - kernel.min()) / spread if spread > 0 else torch.ones_like(kernel)


@dataclass(frozen=True, eq=False)
class _OneColor:
    """The same color [C] at every position of an image of shape [C, H, W]."""

    levels: Tensor
    shape: torch.Size

    def patches(self, ys: Positions, xs: Positions, height: int, width: int) -> Tensor:
        _check_inside(self.shape, ys, xs, height, width)
        return self.levels.view(1, -1, 1, 1).expand(len(ys), -1, height, width)


class _PatchMeans:
    """Means over rectangles from an integral image: four reads a patch, whatever its size."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        # In float64: the sums grow with the image, and the difference of four of them must keep float32's digits.
        sums = pixels.double().cumsum(1).cumsum(2)
        self.sums = torch.nn.functional.pad(sums, (1, 0, 1, 0))  # [C, H + 1, W + 1]; row and column 0 are zero

    def patches(self, ys: Positions, xs: Positions, height: int, width: int) -> Tensor:
        _check_inside(self.pixels.shape, ys, xs, height, width)
        top, left = _index(ys, self.pixels), _index(xs, self.pixels)
        bottom, right = top + height, left + width
        sums = self.sums
        total = sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left] + sums[:, top, left]  # [C, n]
        # The four reads can leave a mean of zeros or ones outside 0..1 by a rounding error.
        means = (total / (height * width)).clamp(0.0, 1.0).T.to(self.pixels.dtype)
        return means[:, :, None, None].expand(-1, -1, height, width)


@dataclass(frozen=True, eq=False)
class _Windows:
    """Windows of another image [C, H, W], each at the patch's own place."""

    image: Tensor

    def patches(self, ys: Positions, xs: Positions, height: int, width: int) -> Tensor:
        _check_inside(self.image.shape, ys, xs, height, width)
        windows = self.image.unfold(1, height, 1).unfold(2, width, 1)  # a view: [C, rows, columns, height, width]
        return windows[:, _index(ys, self.image), _index(xs, self.image)].transpose(0, 1)


@dataclass(frozen=True, eq=False)
class _Darkened:
    """Windows of the image [C, H, W], each darkened around its middle."""

    image: Tensor

    def patches(self, ys: Positions, xs: Positions, height: int, width: int) -> Tensor:
        kept = (1.0 - gaussian_kernel((height, width))).to(self.image)
        return _Windows(self.image).patches(ys, xs, height, width) * kept


def parse_fill(value: object) -> Fill:
    """The fill that a query's `fill => value` names: a name, a level in 0..1, or (r, g, b) in 0..1.

    The text of a number or of a color is accepted too, so that `parse_fill(str(fill)) == fill`.

    Raises:
        ValueError: with a message that says what was given and what is possible.
    """
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return ConstantFill((_level(value),))
    if isinstance(value, (tuple, list)):
        if len(value) != 3:
            raise ValueError(f"a fill color is (r, g, b), three numbers in 0..1, not {len(value)}")
        return ConstantFill(tuple(_level(level) for level in value))
    raise ValueError(f"fill must be a name, a number in 0..1 or (r, g, b), not {value!r}")


def _parse_text(text: str) -> Fill:
    name = text.strip().lower()
    name = "gray" if name == "grey" else name
    if name in CONSTANTS:
        return ConstantFill((CONSTANTS[name],), name)
    named: dict[str, Fill] = {
        "mean": MeanFill(),
        "patch_mean": PatchMeanFill(),
        "blur": BlurFill(),
        "gaussian": GaussianFill(),
    }
    if name in named:
        return named[name]
    parts = name[1:-1].split(",") if name.startswith("(") and name.endswith(")") else [name]
    try:
        levels = [float(part) for part in parts]
    except ValueError:
        near = did_you_mean(name, FILLS)
        message = f'no fill named "{text}"; it is one of {", ".join(FILLS)}, a number in 0..1, or (r, g, b)'
        raise ValueError(f"{message}. {near}" if near else message) from None
    return parse_fill(levels[0] if len(levels) == 1 else tuple(levels))


def _level(value: object) -> float:
    """A brightness in 0..1, or a ValueError that shows the conversion for what looks like 0..255."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"a fill's color is given in numbers from 0 to 1, not {value!r}")
    if not 0 <= value <= 1:
        remedy = f": write {value:g}/255 as {value / 255:.4g}" if 1 < value <= 255 else ""
        raise ValueError(f"a fill of {value:g} is outside 0..1{remedy}")
    return float(value)


def _number(level: float) -> str:
    """The shortest text that reads back as the same float: 0.5, 1, 0."""
    return str(int(level)) if level == int(level) else repr(level)


def _index(positions: Positions, like: Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(positions, dtype=np.int64), device=like.device)


def _check_inside(shape: torch.Size, ys: Positions, xs: Positions, height: int, width: int) -> None:
    """A negative index would silently wrap around: refuse it, and anything past the other border."""
    if len(ys) != len(xs):
        raise ValueError(f"{len(ys)} ys and {len(xs)} xs")
    if not len(ys):
        return
    if min(ys.min(), xs.min()) < 0 or ys.max() + height > shape[1] or xs.max() + width > shape[2]:
        raise ValueError(f"a {height} x {width} patch reaches outside the {shape[1]} x {shape[2]} input")


def _blur_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    """[size, size]: row i holds the weights with which the pixels of a line make its blurred pixel i.

    A Gaussian cut at four sigma; what falls outside the line counts for its last pixel.
    """
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size, size))
    centers = np.arange(size)
    for offset, weight in zip(offsets, weights, strict=True):
        matrix[centers, np.clip(centers + offset, 0, size - 1)] += weight
    return matrix
