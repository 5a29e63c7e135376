"""`monai.visualize.OcclusionSensitivity` with one import changed: the same maps, incrementally on images.

    from kryptondb.compat.monai import OcclusionSensitivity

    sensitivity = OcclusionSensitivity(model, mask_size=16, mode="mean_img")
    occlusion_map, most_probable = sensitivity(image)     # [1, classes, H, W] and [1, 1, H, W]

Incremental inference runs for one image [1, C, H, W] in float32 or float64, where `torch.export` can trace the module
and the call gives it no other arguments. Volumes [1, C, H, W, D], one-dimensional signals, keyword arguments for the
module and whatever cannot be traced run in batches of `n_batch`, and so does what takes a few seconds only.

Two things are not as MONAI documents them. Its 'mean_patch' multiplies what is hidden by the mean of that, where it
means to put the mean in its place; the maps here are the same. A function as `mode` raises an error in MONAI 1.6; here
it is called as documented, with the image and the part to hide.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from kryptondb.compat.engine import Engine, Refusal, incrementally
from kryptondb.compat.masks import Box, Hide, Mode, blended, check_mode, hiding, monai_map, starts_of, weights_of
from kryptondb.compat.progress import Bar
from kryptondb.compat.tracing import Traced, Tracer, agree, is_image
from kryptondb.errors import ArgumentError, PlanError, UnsupportedError
from kryptondb.executor.edges import windows
from kryptondb.network.grid import PlacedGrid

__all__ = ["OcclusionSensitivity"]

_log = logging.getLogger("kryptondb.compat")
_tracer = Tracer()


class OcclusionSensitivity:
    """What a classifier says of an image while a mask hides one part of it after the other.

    Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014); MONAI's class of the name.

    Attributes:
        explanation: what the last call ran, and why; also logged to 'kryptondb.compat' at INFO.
    """

    def __init__(
        self,
        nn_module: Callable[..., torch.Tensor],
        mask_size: int | Sequence[int] = 16,
        n_batch: int = 16,
        verbose: bool = True,
        mode: Mode = "gaussian",
        overlap: float | Sequence[float] = 0.6,
        activate: bool | Callable[[torch.Tensor], torch.Tensor] = True,
    ) -> None:
        """
        Args:
            nn_module: [N, C, *spatial] -> scores [N, classes]. A module is asked in eval mode, and left in its own; any
                other function as it is.
            mask_size: sides of the mask, in pixels or voxels; one number, or one an axis.
            n_batch: how many images run at once, where batches run.
            verbose: prints progress on standard error.
            mode: what is hidden becomes: 'gaussian', times one minus a Gaussian; 'mean_patch', times its own
                mean; 'mean_img', the image's mean; a number, that number; a function of the image and of the part to
                hide, [1, C, *mask] each, what it returns.
            overlap: which part of a mask the next one covers too, from 0 to below 1; one number, or one an axis.
            activate: True, a softmax (a sigmoid for images of one channel, as in MONAI); False, the scores as they
                are; or a function of the scores.

        Raises:
            UnsupportedError: an unknown mode; also a NotImplementedError, as MONAI raises.
            ArgumentError: a batch below 1.
        """
        check_mode(mode)
        if n_batch < 1:
            raise ArgumentError(f"n_batch must be at least 1, not {n_batch}")
        self.nn_module = nn_module
        self.mask_size = mask_size
        self.n_batch = n_batch
        self.verbose = verbose
        self.mode = mode
        self.overlap = overlap
        self.activate = activate
        self.explanation = ""

    def __call__(
        self, x: torch.Tensor, b_box: Sequence[int] | torch.Tensor | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The map of an image.

        Args:
            x: the image, [1, C, *spatial].
            b_box: `[min1, max1, min2, max2, ...]`, of the first axes where it is short: only this part; a max of -1 is
                the whole axis.
            kwargs: given to the module.

        Returns:
            The map, [1, classes, *spatial], the scores with this part of the image hidden, float32; and the
            most probable class there, int64 [1, 1, *spatial]. MetaTensors, as MONAI gives, where MONAI is imported.

        Raises:
            ArgumentError: more than one image, or a mask or box that does not fit; also a ValueError, as MONAI raises.
        """
        if not isinstance(x, torch.Tensor):
            raise UnsupportedError(f"the image must be a tensor [1, C, *spatial], not a {type(x).__name__}")
        if x.ndim < 3:
            raise ArgumentError(f"the image must be [1, C, *spatial], not {tuple(x.shape)}")
        if x.shape[0] != 1:
            raise ArgumentError(f"one image is expected, and {x.shape[0]} were given")
        x = x.as_subclass(torch.Tensor)
        spatial = tuple(x.shape[2:])
        box = Box.of(spatial, _each(self.mask_size, len(spatial), "mask_size"), b_box)
        overlaps = _each(self.overlap, len(spatial), "overlap")
        if not all(0 <= overlap < 1 for overlap in overlaps):
            raise ArgumentError(f"overlap must be at least 0 and below 1, not {self.overlap!r}")
        starts = [
            np.array(starts_of(size, side, overlap), dtype=np.int64)
            for size, side, overlap in zip(box.sizes, box.mask, overlaps, strict=True)
        ]
        with _in_eval_mode(self.nn_module), torch.no_grad():
            placed = [start + first for start, first in zip(starts, box.first, strict=True)]
            scores, self.explanation = self._scores(x, box.mask, placed, kwargs)
        _log.info("%s", self.explanation)
        blend = blended(scores.to(x), starts, weights_of(self.mode, box.mask).to(x), box.sizes)
        shown = monai_map(box.whole(blend, spatial).float(), box.shown)
        return shown, shown.argmax(dim=1, keepdim=True)

    def _scores(
        self, x: torch.Tensor, mask: tuple[int, ...], starts: Sequence[np.ndarray], kwargs: dict[str, Any]
    ) -> tuple[torch.Tensor, str]:
        """The scores of every mask, [classes, masks along the first axis, ...], and how they were computed."""
        counts = tuple(len(start) for start in starts)
        total = int(np.prod(counts))
        hide = hiding(self.mode, x, mask)
        outputs: list[torch.Tensor] = []

        def batches() -> Iterator[int]:
            done = 0
            for images in self._hidden(x, mask, starts, hide):
                outputs.append(self._activated(self.nn_module(images, **kwargs), x))
                done += len(images)
                progress(done)
                yield done

        def once() -> float:
            if total <= self.n_batch:
                return 0.0
            began = time.perf_counter()
            self.nn_module(x)
            return time.perf_counter() - began

        with Bar("", total, self.n_batch, shown=self.verbose) as progress:
            found = incrementally(
                self.nn_module,
                x,
                _tracer,
                unfit=_unfit(x, kwargs),
                total=total,
                once=once,
                evaluate=lambda: self.nn_module(x),
                batches=batches(),
                occluded=lambda: next(self._hidden(x, mask, starts, hide))[:1],
                compute=lambda traced: self._incremental(traced, x, mask, starts, hide, progress),
            )
        if isinstance(found, Refusal):
            return torch.cat(outputs).T.reshape(-1, *counts), f"batches of {self.n_batch}: {found.why}"
        return found

    def _hidden(
        self, x: torch.Tensor, mask: tuple[int, ...], starts: Sequence[np.ndarray], hide: Hide
    ) -> Iterator[torch.Tensor]:
        """Batches of the image, each copy with another part hidden; the last axis counts fastest."""
        corners = list(product(*(start.tolist() for start in starts)))
        for first in range(0, len(corners), self.n_batch):
            batch = corners[first : first + self.n_batch]
            places = [
                (slice(None), *(slice(at, at + side) for at, side in zip(corner, mask, strict=True)))
                for corner in batch
            ]
            images = x.repeat(len(batch), *(1,) * (x.ndim - 1))
            filled = hide(torch.stack([x[0][place] for place in places]))
            for image, place, fill in zip(images, places, filled, strict=True):
                image[place] = fill
            yield images

    def _incremental(
        self,
        traced: Traced,
        x: torch.Tensor,
        mask: tuple[int, ...],
        starts: Sequence[np.ndarray],
        hide: Hide,
        progress: Callable[[int], None],
    ) -> tuple[torch.Tensor, str] | Refusal:
        """The scores by the traced network and how it ran, or why it has none."""
        image, (ys, xs) = x[0], starts
        step = tuple(int(np.diff(start, prepend=start[0] - 1).max()) for start in starts)
        height, width = image.shape[1:]
        grid = PlacedGrid(
            height, width, (mask[0], mask[1]), (step[0], step[1]), at_ys=tuple(ys.tolist()), at_xs=tuple(xs.tolist())
        )
        try:
            engine = Engine.planned(traced, grid, image)
        except PlanError as error:
            return Refusal(error.message)
        run = engine.on(image, lambda output: self._activated(output, x))
        if not agree(torch.from_numpy(run.base), self._activated(self.nn_module(x), x)[0].cpu()):
            why = "the module has changed since it was traced"
            _tracer.forget(self.nn_module, x, why)
            return Refusal(why)
        cells = run.cells(lambda ys, xs, height, width: hide(windows(image, ys, xs, height, width)), progress)
        return torch.from_numpy(cells).to(x.device), engine.explanation

    def _activated(self, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if callable(self.activate):
            output = self.activate(output)
        elif self.activate:
            output = output.sigmoid() if x.shape[1] == 1 else output.softmax(1)
        if output.ndim != 2:
            raise ArgumentError(f"the module must give scores, images by classes, not {tuple(output.shape)}")
        return output


def _unfit(x: torch.Tensor, kwargs: dict[str, Any]) -> str | None:
    if kwargs:
        return "the module is given other arguments"
    if not is_image(x):
        return f"the input is not an image 1 x C x H x W in float32 or float64, but {tuple(x.shape)}"
    return None


def _each(value: Any, axes: int, name: str) -> tuple[Any, ...]:
    """A number for each axis."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        value = value.tolist()
    if isinstance(value, str):
        raise UnsupportedError(f"{name} must be one number or {axes}, not {value!r}")
    if not isinstance(value, Sequence):
        return (value,) * axes
    if len(value) != axes:
        raise ArgumentError(f"{name} must be one number or {axes}, not {value!r}")
    return tuple(value)


@contextmanager
def _in_eval_mode(module: Callable[..., torch.Tensor]) -> Iterator[None]:
    if not isinstance(module, nn.Module):
        yield
        return
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
