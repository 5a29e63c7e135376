"""What the occlusion patch is painted with, in pixel space (0..1), before mean and standard deviation.

fill = parse_fill("patch_mean")
paint = fill.prepare(pixels)               # once per image: whatever the fill needs to know of it
patches = paint(ys, xs, height, width)     # n x C x height x width, as often as there are tiles
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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


#: A fill that knows its image: positions and sides of patches, whose top-left corners are (ys[i], xs[i]), to their
#: content [n, C, height, width], of the image's dtype and device. Where the content is the same everywhere this is a
#: broadcast view of one pixel: read it, do not write into it. Raises ValueError for a patch outside the image.
Painter = Callable[[Positions, Positions, int, int], Tensor]


@dataclass(frozen=True)
class Fill:
    """A way to paint the patch; `parse_fill(str(fill)) == fill`.

    Attributes:
        text: what `parse_fill` reads as the same fill.
        prepare: does what needs doing once for an image [C, H, W] in 0..1, floating point.
    """

    text: str
    prepare: Callable[[Tensor], Painter] = field(compare=False)

    def __str__(self) -> str:
        return self.text


def _constant(color: tuple[float, ...], name: str | None = None) -> Fill:
    """One color everywhere: a level for all channels, or (r, g, b), which a one-channel model sees as luminance."""

    def prepare(pixels: Tensor) -> Painter:
        channels, levels = pixels.shape[0], color
        if len(color) == 3 and channels == 1:
            levels = (sum(weight * level for weight, level in zip(LUMINANCE, color, strict=True)),)
        return _one_color(torch.tensor(levels, dtype=pixels.dtype, device=pixels.device).expand(channels), pixels.shape)

    text = ", ".join(map(_number, color))
    return Fill(name or (text if len(color) == 1 else f"({text})"), prepare)


def _mean(pixels: Tensor) -> Painter:
    """The mean of each channel over the whole model input."""
    return _one_color(pixels.mean(dim=(1, 2), dtype=torch.float64).to(pixels.dtype), pixels.shape)


def _patch_mean(pixels: Tensor) -> Painter:
    """The mean of each channel over what the patch covers: takes the detail away, keeps the brightness.

    Means over rectangles come from an integral image: four reads per patch, whatever its size.
    """
    # In float64: the sums grow with the image, and the difference of four of them must keep float32's digits.
    sums = pixels.double().cumsum(1).cumsum(2)
    sums = torch.nn.functional.pad(sums, (1, 0, 1, 0))  # [C, H + 1, W + 1]; row and column 0 are zero

    def paint(ys: Positions, xs: Positions, height: int, width: int) -> Tensor:
        _check_inside(pixels.shape, ys, xs, height, width)
        top, left = _index(ys, pixels), _index(xs, pixels)
        bottom, right = top + height, left + width
        total = sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left] + sums[:, top, left]  # [C, n]
        # The four reads can leave a mean of zeros or ones outside 0..1 by a rounding error.
        means = (total / (height * width)).clamp(0.0, 1.0).T.to(pixels.dtype)
        return means[:, :, None, None].expand(-1, -1, height, width)

    return paint


def _blur(pixels: Tensor) -> Painter:
    """The image itself, blurred by a Gaussian (sigma `BLUR_SIGMA` of the short side, edges repeated)."""
    height, width = pixels.shape[1:]
    sigma = BLUR_SIGMA * min(height, width)
    rows = torch.from_numpy(_blur_matrix(height, sigma)).to(pixels.device)
    columns = torch.from_numpy(_blur_matrix(width, sigma)).to(pixels.device)
    return _windows((rows @ pixels.double() @ columns.T).to(pixels.dtype))


def _gaussian(pixels: Tensor) -> Painter:
    """The picture darkened by a Gaussian: black in the patch's middle, unchanged at its corners, as MONAI's."""
    windows = _windows(pixels)

    def paint(ys: Positions, xs: Positions, height: int, width: int) -> Tensor:
        kept = (1.0 - gaussian_kernel((height, width))).to(pixels)
        return windows(ys, xs, height, width) * kept

    return paint


#: The fills that look at the image.
_OF_IMAGE = {"mean": _mean, "patch_mean": _patch_mean, "blur": _blur, "gaussian": _gaussian}


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


def _one_color(levels: Tensor, shape: torch.Size) -> Painter:
    """The same color [C] at every position of an image of shape [C, H, W]."""

    def paint(ys: Positions, xs: Positions, height: int, width: int) -> Tensor:
        _check_inside(shape, ys, xs, height, width)
        return levels.view(1, -1, 1, 1).expand(len(ys), -1, height, width)

    return paint


def _windows(image: Tensor) -> Painter:
    """Windows of an image [C, H, W], each at the patch's own place."""

    def paint(ys: Positions, xs: Positions, height: int, width: int) -> Tensor:
        _check_inside(image.shape, ys, xs, height, width)
        windows = image.unfold(1, height, 1).unfold(2, width, 1)  # a view: [C, rows, columns, height, width]
        return windows[:, _index(ys, image), _index(xs, image)].transpose(0, 1)

    return paint


def parse_fill(value: object) -> Fill:
    """The fill that a query's `fill => value` names: a name, a level in 0..1, or (r, g, b) in 0..1.

    The text of a number or of a color is accepted too, so that `parse_fill(str(fill)) == fill`.

    Raises:
        ValueError: with a message that says what was given and what is possible.
    """
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _constant((_level(value),))
    if isinstance(value, (tuple, list)):
        if len(value) != 3:
            raise ValueError(f"a fill color is (r, g, b), three numbers in 0..1, not {len(value)}")
        return _constant(tuple(_level(level) for level in value))
    raise ValueError(f"fill must be a name, a number in 0..1 or (r, g, b), not {value!r}")


def _parse_text(text: str) -> Fill:
    name = text.strip().lower()
    name = "gray" if name == "grey" else name
    if name in CONSTANTS:
        return _constant((CONSTANTS[name],), name)
    if name in _OF_IMAGE:
        return Fill(name, _OF_IMAGE[name])
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
