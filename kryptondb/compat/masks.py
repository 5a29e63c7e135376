"""What MONAI hides a part of an image with: its modes, as functions of the rectangles that they hide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from kryptondb.errors import UnsupportedError
from kryptondb.images.fills import gaussian_kernel

MODES = ("gaussian", "mean_patch", "mean_img")

#: Hidden rectangles [n, C, *mask] -> what stands in their place, of the same shape.
Hide = Callable[[torch.Tensor], torch.Tensor]
Mode = str | float | Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_WEIGHT_SIGMA = 0.125  # of the mask's sides, where windows of 'gaussian' are blended
_LEAST_WEIGHT = 1e-3


def check_mode(mode: object) -> None:
    """Refuses what is no mode.

    Raises:
        UnsupportedError: with the modes there are; also a NotImplementedError, as MONAI raises.
    """
    if isinstance(mode, str) and mode not in MODES:
        raise UnsupportedError(f'no mode named "{mode}"; it is one of {", ".join(MODES)}, a number, or a function')
    if not isinstance(mode, (str, float, int)) and not callable(mode):
        raise UnsupportedError(f"a mode is one of {', '.join(MODES)}, a number, or a function, not {mode!r}")


def hiding(mode: Mode, x: torch.Tensor, mask: Sequence[int]) -> Hide:
    """How a mode hides rectangles of an image.

    Args:
        x: the image, [1, C, *spatial].
        mask: sides of the rectangles.
    """
    if callable(mode):
        return lambda hidden: torch.cat([mode(x, each[None]) for each in hidden])
    if mode == "mean_patch":
        # What MONAI 1.6 computes: it means to put the mean in its place, and multiplies by it.
        return lambda hidden: hidden * hidden.flatten(1).mean(1).view(-1, *(1,) * (hidden.ndim - 1))
    if mode == "gaussian":
        kept = (1.0 - gaussian_kernel(mask)).to(x)
        return lambda hidden: hidden * kept
    level = float(x.mean()) if mode == "mean_img" else float(mode)
    return lambda hidden: hidden * 0.0 + level  # as MONAI has it: what is not finite stays so


def weights_of(mode: Mode, mask: Sequence[int]) -> torch.Tensor:
    """How much each cell of a mask counts where masks overlap: alike, or for 'gaussian' most in the middle."""
    weights = torch.ones(())
    if mode != "gaussian":
        return weights.expand(*mask)
    for side in mask:
        away = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-(away**2) / (2 * (side * _WEIGHT_SIGMA) ** 2))
    return weights.clamp(min=max(float(weights.min()), _LEAST_WEIGHT))


def starts_of(size: int, side: int, overlap: float) -> list[int]:
    """Where masks begin along an axis of so many cells, the last one moved inside."""
    step = side if side == size else max(1, int(side * (1 - overlap)))
    return [min(number * step, size - side) for number in range(math.ceil((size - side) / step) + 1)]
