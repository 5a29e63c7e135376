"""Reading rectangles of a base value and laying patches over them: lines 5 to 8 of Algorithm 1, for a whole tile.

Values are handled in location order, [positions, height, width, *channels], whatever order the network has them in; for
channels-last memory these are views.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from kryptondb.network import Axes


@dataclass(frozen=True, eq=False)
class Table:
    """A base value as rows of channels: row `y * width + x` is a location, the last rows stand for cells outside.

    Attributes:
        rows: [height * width + len(outside), channels].
        height, width: of the value.
        channels: the shape of one location.
        outside: what each row behind the locations is filled with.
    """

    rows: torch.Tensor
    height: int
    width: int
    channels: tuple[int, ...]
    outside: tuple[float, ...]

    @classmethod
    def of(cls, value: torch.Tensor, axes: Axes, outside: tuple[float, ...]) -> Table:
        """A table of a value with a batch of one; the value is copied."""
        located = to_locations(value, axes)[0]
        height, width, channels = located.shape[0], located.shape[1], tuple(located.shape[2:])
        locations = height * width
        rows = value.new_empty((locations + len(outside), value.numel() // locations))
        rows[:locations] = located.reshape(locations, -1)
        for place, number in enumerate(outside):
            rows[locations + place] = number
        return cls(rows, height, width, channels, outside)

    def gather(
        self,
        ys: np.ndarray,
        height: int,
        xs: np.ndarray,
        width: int,
        outside: float = 0.0,
        scattered: bool = False,
    ) -> torch.Tensor:
        """Rectangles of one size at every pair of `ys` and `xs`, which may reach outside the value.

        Args:
            ys, xs: int64 [R] and [C], top and left cells.
            scattered: they are pairs already, R = C of them.

        Returns:
            [R * C, height, width, *channels], or [R, ...] of scattered ones; memory of its own.
        """
        device = self.rows.device
        y = torch.as_tensor(ys, device=device)[:, None] + torch.arange(height, device=device)
        x = torch.as_tensor(xs, device=device)[:, None] + torch.arange(width, device=device)
        inside = _inside(ys, height, self.height) and _inside(xs, width, self.width)
        return self.take(y, x, None if inside else outside, scattered)

    def take(self, y: torch.Tensor, x: torch.Tensor, outside: float | None, scattered: bool = False) -> torch.Tensor:
        """`gather`, for cells that lie on the device.

        Args:
            y, x: int64 [R, height] and [C, width], the rows and columns of each rectangle's cells.
            outside: what stands for cells that are not in the value; None where all are.
        """
        index = _crossed(y * self.width, scattered) + _crossed(x, scattered, across=True)
        if outside is not None:
            inside_y, inside_x = (y >= 0) & (y < self.height), (x >= 0) & (x < self.width)
            beyond = self.height * self.width + self.outside.index(outside)
            index.masked_fill_(~(_crossed(inside_y, scattered) & _crossed(inside_x, scattered, across=True)), beyond)
        taken = torch.index_select(self.rows, 0, index.reshape(-1))
        return taken.view(-1, y.shape[1], x.shape[1], *self.channels)

    def view(self, ys: np.ndarray, height: int, xs: np.ndarray, width: int, scattered: bool = False) -> torch.Tensor:
        """Rectangles inside the value, for reading alone: [1, height, width, *channels] where all are the same one.

        Else [R * C, height, width, *channels], as `gather` gives them.
        """
        if (ys != ys[0]).any() or (xs != xs[0]).any():
            return self.gather(ys, height, xs, width, scattered=scattered)
        whole = self.rows[: self.height * self.width].view(1, self.height, self.width, *self.channels)
        return whole[:, ys[0] : ys[0] + height, xs[0] : xs[0] + width]

    def windows(self, ys: np.ndarray, height: int, xs: np.ndarray, width: int) -> torch.Tensor:
        """Rectangles inside the value, for reading alone, [R, C, height, width, *channels].

        Where their places are evenly spaced, as those of most tiles are, nothing is copied: they look into the rows.
        """
        down, across = even_step(ys), even_step(xs)
        if down is None or across is None:
            return by_row_and_column(self.gather(ys, height, xs, width), len(ys), len(xs))
        whole = self.rows[: self.height * self.width].view(self.height, self.width, *self.channels)
        y, x, *channels = whole.stride()
        return whole.as_strided(
            (len(ys), len(xs), height, width, *self.channels),
            (down * y, across * x, y, x, *channels),
            whole.storage_offset() + int(ys[0]) * y + int(xs[0]) * x,
        )


def laid_over_cells(
    base: torch.Tensor,
    patches: torch.Tensor,
    y: torch.Tensor,
    x: torch.Tensor,
    scattered: bool = False,
) -> torch.Tensor:
    """Patches laid over what is read cell by cell, in any order and some of them twice.

    Args:
        base: what was read of the base, [R * C, height, width, *channels].
        patches: [R * C, h, w, *channels].
        y, x: int64 [R, height] and [C, width], the patch's rows and columns there; outside 0..h-1 and 0..w-1 none.
        scattered: they are pairs already, R = C of them.
    """
    height, width = patches.shape[1:3]
    inside = _crossed((y >= 0) & (y < height), scattered) & _crossed((x >= 0) & (x < width), scattered, across=True)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    index = _crossed(y * width, scattered) + _crossed(x, scattered, across=True)
    positions = torch.arange(len(patches), device=y.device).view(*index.shape[:-2], 1, 1)
    index = index + positions * (height * width)
    located = patches.reshape(len(patches) * height * width, -1)
    new = torch.index_select(located, 0, index.reshape(-1))
    return torch.where(inside.reshape(-1, 1), new, base.reshape(new.shape)).view(base.shape)


def even_step(places: np.ndarray) -> int | None:
    """How far each place lies behind the one before, 0 for one alone; None where they differ in that or go back."""
    if len(places) < 2:
        return 0
    steps = np.diff(places)
    return int(steps[0]) if steps[0] >= 0 and (steps == steps[0]).all() else None


def _crossed(cells: torch.Tensor, scattered: bool, across: bool = False) -> torch.Tensor:
    """Cells along one axis [positions, cells] as they are broadcast with those along the other.

    [R, 1, height, 1] with [1, C, 1, width], or of scattered positions [R, height, 1] with [R, 1, width].
    """
    if scattered:
        return cells[:, None, :] if across else cells[:, :, None]
    return cells[None, :, None, :] if across else cells[:, None, :, None]


def _inside(starts: np.ndarray, size: int, extent: int) -> bool:
    """Whether every span of `size` cells lies within the extent."""
    return int(starts.min()) >= 0 and int(starts.max()) + size <= extent


def to_locations(value: torch.Tensor, axes: Axes) -> torch.Tensor:
    """[n, height, width, *channels], a view."""
    rest = [d for d in range(value.ndim) if d not in (axes.batch, axes.y, axes.x)]
    return value.permute(axes.batch, axes.y, axes.x, *rest)


def from_locations(located: torch.Tensor, axes: Axes) -> torch.Tensor:
    """The inverse of `to_locations`, a view."""
    order = [axes.batch, axes.y, axes.x]
    order += [d for d in range(located.ndim) if d not in (axes.batch, axes.y, axes.x)]
    return located.permute(*np.argsort(order).tolist())


def by_row_and_column(values: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """[rows * cols, ...] as [rows, cols, ...], a view."""
    return values.view(rows, cols, *values.shape[1:])


def lay_over(
    target: torch.Tensor,
    patches: torch.Tensor,
    shifts_y: np.ndarray,
    shifts_x: np.ndarray,
    scattered: bool = False,
) -> None:
    """Writes patches into larger or smaller rectangles; what sticks out is cut off (the paper's superimposition).

    Args:
        target: [R * C, H, W, *channels], written to.
        patches: [R * C, h, w, *channels].
        shifts_y, shifts_x: int64 [R] and [C]; where a patch's first row or column falls in the target, may be negative.
        scattered: they are pairs already, R = C of them, and so are the rectangles.
    """
    if scattered:
        _lay_over_scattered(target, patches, shifts_y, shifts_x)
        return
    rows, cols = len(shifts_y), len(shifts_x)
    target = by_row_and_column(target, rows, cols)
    patches = by_row_and_column(patches, rows, cols)
    across = list(_copies(shifts_x, patches.shape[3], target.shape[3]))
    for row, to_y, from_y in _copies(shifts_y, patches.shape[2], target.shape[2]):
        for col, to_x, from_x in across:
            target[row, col, to_y, to_x] = patches[row, col, from_y, from_x]


def _lay_over_scattered(
    target: torch.Tensor, patches: torch.Tensor, shifts_y: np.ndarray, shifts_x: np.ndarray
) -> None:
    pairs, kinds = np.unique(np.stack([shifts_y, shifts_x], axis=1), axis=0, return_inverse=True)
    kinds = kinds.reshape(-1)
    for kind, (shift_y, shift_x) in enumerate(pairs.tolist()):
        down, across = (
            _part(shift_y, patches.shape[1], target.shape[1]),
            _part(shift_x, patches.shape[2], target.shape[2]),
        )
        if down is None or across is None:
            continue
        (to_y, from_y), (to_x, from_x) = down, across
        places = np.flatnonzero(kinds == kind)
        if len(np.unique(np.diff(places))) <= 1:
            for group in _progressions(places):
                target[group, to_y, to_x] = patches[group, from_y, from_x]
        else:
            chosen = torch.as_tensor(places, device=target.device)
            target[chosen, to_y, to_x] = patches[chosen, from_y, from_x]


def _copies(shifts: np.ndarray, size: int, room: int) -> Iterator[tuple[slice, slice, slice]]:
    """Positions that share a shift, as slices, with where to write and what to read."""
    for shift in np.unique(shifts):
        part = _part(int(shift), size, room)
        if part is not None:
            for group in _progressions(np.flatnonzero(shifts == shift)):
                yield group, *part


def _part(shift: int, size: int, room: int) -> tuple[slice, slice] | None:
    """Where `size` cells that begin at `shift` are written in a room, and which of them; None where all stick out."""
    start, end = max(0, shift), min(room, shift + size)
    return None if end <= start else (slice(start, end), slice(start - shift, end - shift))


def _progressions(places: np.ndarray) -> Iterator[slice]:
    """Sorted indices as slices with a step, as few as evenly spaced runs allow."""
    steps = np.unique(np.diff(places))
    if len(steps) <= 1:
        step = int(steps[0]) if len(steps) else 1
        yield slice(int(places[0]), int(places[-1]) + 1, step)
        return
    for place in places.tolist():
        yield slice(place, place + 1)
