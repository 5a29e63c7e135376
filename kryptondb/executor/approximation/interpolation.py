"""A lattice of cells that are computed first, and maps through known values, for all classes at once.

Between the lattice's nodes values are interpolated; elsewhere a thin plate or a cheap map of every cell leads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kryptondb.optimizer.grid_cells import CellsByKind
from kryptondb.optimizer.recipe import lattice_lines


@dataclass(frozen=True, eq=False)
class Lattice:
    """Every `step`-th row and column of the smallest rectangle around the cells asked for, and its last ones.

    So each cell lies between four nodes of the lattice. Last ones that lie right beside others are no part of it: what
    is one cell away from a node is not worth a line of its own.

    Attributes:
        asked: boolean [rows, cols].
        step: at least 1.
    """

    asked: np.ndarray
    step: int

    @cached_property
    def rectangle(self) -> tuple[slice, slice]:
        """The smallest rectangle around the cells asked for."""
        return _span(self.asked, 0), _span(self.asked, 1)

    @cached_property
    def rows(self) -> np.ndarray:
        """The lattice's rows, int64 [m]."""
        return _lines(self.rectangle[0], self.step)

    @cached_property
    def cols(self) -> np.ndarray:
        """The lattice's columns, int64 [n]."""
        return _lines(self.rectangle[1], self.step)

    @cached_property
    def nodes(self) -> np.ndarray:
        """The lattice's nodes that are asked for, boolean [rows, cols]."""
        nodes = np.zeros_like(self.asked)
        nodes[np.ix_(self.rows, self.cols)] = self.asked[np.ix_(self.rows, self.cols)]
        return nodes

    @cached_property
    def cells(self) -> np.ndarray:
        """The nodes, and the cells that cannot be interpolated, boolean [rows, cols]."""
        return lattice_cells(CellsByKind.of_mask(self.asked), self.step).mask


def lattice_cells(asked: CellsByKind, step: int) -> CellsByKind:
    """The nodes of a lattice, and the cells that cannot be interpolated.

    A cell is interpolated only where the four nodes around it are asked for, or beyond the last ones those beside it.
    Of a rectangle that holds everywhere; at the edge of another shape it does not.
    """
    if not asked.count:
        return asked
    spans = [slice(int(used[0]), int(used[-1]) + 1) for used in asked.lines]
    sides = () if asked.count == math.prod(span.stop - span.start for span in spans) else ("before", "after")
    lines = [_lines(span, step) for span in spans]
    on_row, on_col = (_is_one_of(*axis) for axis in zip(lines, asked.shape, strict=True))
    rows, cols = (
        [_neighbor(along, np.arange(count), side) for side in sides]
        for along, count in zip(lines, asked.shape, strict=True)
    )

    def held(some_rows: np.ndarray, some_cols: np.ndarray) -> np.ndarray:
        supported = np.ones((len(some_rows), len(some_cols)), dtype=bool)
        for row_nodes in rows:
            for col_nodes in cols:
                supported &= asked.at(row_nodes[some_rows], col_nodes[some_cols])
        nodes = on_row[some_rows][:, None] & on_col[some_cols]
        cells: np.ndarray = asked.at(some_rows, some_cols) & (nodes | ~supported)
        return cells

    of_rows = (on_row.astype(np.int64), asked.rows, *(asked.rows[nodes] for nodes in rows))
    of_cols = (on_col.astype(np.int64), asked.cols, *(asked.cols[nodes] for nodes in cols))
    return CellsByKind.told_by(of_rows, of_cols, held)


def _is_one_of(lines: np.ndarray, count: int) -> np.ndarray:
    """For each place whether it is one of the lines, boolean [count]."""
    found = np.zeros(count, dtype=bool)
    found[lines] = True
    return found


def _span(asked: np.ndarray, axis: int) -> slice:
    """From the first to behind the last row or column that has cells asked for; nothing where none has."""
    places = np.flatnonzero(np.asarray(asked.any(axis=1 - axis)))
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _lines(span: slice, step: int) -> np.ndarray:
    """The rows or columns of such a side of the rectangle that are on the lattice."""
    lines: np.ndarray = span.start + lattice_lines(span.stop - span.start, step)
    return lines


def _neighbor(lines: np.ndarray, places: np.ndarray, side: str) -> np.ndarray:
    """For each place the nearest line that is not after it ('before'), or not before it ('after'); else the last."""
    index = np.searchsorted(lines, places, "right") - 1 if side == "before" else np.searchsorted(lines, places, "left")
    found: np.ndarray = lines[np.minimum(index, len(lines) - 1)]
    return found


LINEAR, CUBIC = 1, 3
#: How far a cell that is known reaches to correct its neighbors, in cells, and what holds them to the lattice.
_REACH, _HELD = 0.7, 0.1


def import_what_reconstructs() -> None:
    """Takes a while the first time, which must not pass for how long a reconstruction takes."""
    import scipy.interpolate
    import scipy.ndimage  # noqa: F401


def at_nodes(lattice: Lattice, values: np.ndarray) -> np.ndarray:
    """Values [k, rows, cols] at the lattice's nodes, [k, m, n].

    Nodes that are not asked for take the nearest one's value: they bend a spline a little, and no cell that is
    interpolated has one beside it.
    """
    known = lattice.nodes[np.ix_(lattice.rows, lattice.cols)]
    nodes: np.ndarray = values[:, lattice.rows[:, None], lattice.cols]
    return nodes if known.all() else nearest_known(nodes, known)


def nearest_known(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values [k, rows, cols] with every cell that is not known as the nearest known one is."""
    from scipy.ndimage import distance_transform_edt

    rows, cols = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled: np.ndarray = values[:, rows, cols]
    return filled


def interpolated(lattice: Lattice, nodes: np.ndarray, degree: int = CUBIC) -> np.ndarray:
    """Nodes [k, m, n] -> the spline through them at every cell of the lattice's rectangle; NaN outside of it.

    Between few nodes the degree is as high as they allow. Beyond the last ones everything is as they are.
    """
    rows, cols = lattice.rectangle
    down, across = _weights(lattice.rows, rows.stop, degree), _weights(lattice.cols, cols.stop, degree)
    maps = np.full((len(nodes), *lattice.asked.shape), np.nan)
    maps[:, rows, cols] = down @ nodes @ across.T
    return maps


def corrected(maps: np.ndarray, values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Maps [k, rows, cols] drawn to the known values between the nodes: an error at one is an error nearby."""
    from scipy.ndimage import correlate1d

    errors = np.where(known, values - maps, 0.0)
    if not errors.any():
        return maps
    reach = np.arange(-3, 4)
    kernel = np.exp(-0.5 * (reach / _REACH) ** 2)

    def gathered(cells: np.ndarray) -> np.ndarray:
        down = correlate1d(cells, kernel, axis=-2, mode="constant")
        across: np.ndarray = correlate1d(down, kernel, axis=-1, mode="constant")
        return across

    drawn: np.ndarray = maps + gathered(errors) / (gathered(known.astype(np.float64)) + _HELD)
    return drawn


def doubt(lattice: Lattice, nodes: np.ndarray) -> np.ndarray:
    """How far off an interpolation may be at every cell, [k, rows, cols]: it grows with the distance from the nodes.

    How rough the map is near a node shows in what its four neighbors predict for it.
    """
    padded = np.pad(nodes, ((0, 0), (1, 1), (1, 1)), mode="reflect", reflect_type="odd")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    rough = interpolated(lattice, np.abs(nodes - around / 4), LINEAR)
    rows, cols = lattice.asked.shape
    down, across = _distances(lattice.rows, rows), _distances(lattice.cols, cols)
    distant: np.ndarray = rough * np.hypot(down[:, None], across)
    return distant


def _distances(lines: np.ndarray, count: int) -> np.ndarray:
    """How far each place is from the nearest line."""
    distances: np.ndarray = np.abs(np.arange(count)[:, None] - lines).min(axis=1)
    return distances


def _weights(lines: np.ndarray, stop: int, degree: int) -> np.ndarray:
    """What each line's value adds to each place from the first line to before `stop`, [places, lines]."""
    from scipy.interpolate import make_interp_spline  # takes a while to import: only where it is needed

    places = np.arange(lines[0], stop)
    if len(lines) == 1:
        return np.ones((len(places), 1))
    spline = make_interp_spline(lines, np.eye(len(lines)), k=min(degree, len(lines) - 1))
    weights: np.ndarray = spline(np.minimum(places, lines[-1]))
    weights[lines - lines[0]] = np.eye(len(lines))  # the nodes themselves, without rounding
    return weights


#: On lattices that are worth anything a map settles before; a very coarse one is left nearly settled.
_MOST_STEPS = 200
_NEAR_ENOUGH = 1e-11  # of a map's range: a force that bends no cell by more


def least_bent(maps: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Maps [k, rows, cols] whose unknown cells give way until the sum of squared second differences is least.

    A spline between the lines of a lattice knows nothing of a cell in between; a plate takes in known cells wherever
    they are, and runs on straight where nothing holds it. Maps that are linear are met exactly.

    Args:
        maps: finite, with the known values where `known`; elsewhere what to begin with. Near maps take fewer steps.
        known: boolean [rows, cols], the same for all maps.
    """
    if known.all() or not known.any():
        return maps
    return np.stack([_settled(plate, ~known) for plate in maps])


def _settled(plate: np.ndarray, free: np.ndarray) -> np.ndarray:
    """One map [rows, cols] by conjugate gradients, whose system is sparse and needs no more than its residual."""
    plate = plate.copy()
    force = np.where(free, -_bending(plate), 0.0)
    enough = _NEAR_ENOUGH * float(np.ptp(plate))
    direction, strength = force, float((force**2).sum())
    for _ in range(_MOST_STEPS):
        if np.abs(force).max() <= enough:
            break
        bends = np.where(free, _bending(direction), 0.0)
        energy = float((direction * bends).sum())
        if energy <= 0.0:  # all that is left is rounding
            break
        length = strength / energy
        plate += length * direction
        force = force - length * bends
        before, strength = strength, float((force**2).sum())
        direction = force + strength / before * direction
    return plate


def _bending(plate: np.ndarray) -> np.ndarray:
    """Half the gradient of the energy of a plate [rows, cols] whose edges are free."""
    gradient = np.zeros_like(plate)
    for values, into in ((plate, gradient), (plate.T, gradient.T)):
        bent = values[2:] - 2 * values[1:-1] + values[:-2]
        into[2:] += bent
        into[1:-1] -= 2 * bent
        into[:-2] += bent
    twisted = 2 * (plate[1:, 1:] - plate[1:, :-1] - plate[:-1, 1:] + plate[:-1, :-1])
    gradient[1:, 1:] += twisted
    gradient[1:, :-1] -= twisted
    gradient[:-1, 1:] -= twisted
    gradient[:-1, :-1] += twisted
    return gradient


#: Probabilities nearer to 0 or 1 are taken for this near: beyond, their logits are all rounding.
_LEAST = 1e-7
#: Scores that are no probabilities.
RAW_SCORES = ("logit", "output")


@dataclass(frozen=True)
class Scale:
    """What a guide is fitted in: the logit of probabilities, all other scores as they are.

    Where a network is sure of itself, probabilities and their logarithms lie so close together that a few cells decide
    the fit.

    Attributes:
        score: what the scores are, as in `occlude(..., score => )`.
    """

    score: str

    def to(self, scores: np.ndarray) -> np.ndarray:
        """Scores on this scale."""
        if self.score in RAW_SCORES:
            return scores
        probability = np.exp(scores) if self.score == "log_probability" else scores
        probability = np.clip(probability, _LEAST, 1 - _LEAST)
        logits: np.ndarray = np.log(probability) - np.log1p(-probability)
        return logits

    def back(self, values: np.ndarray) -> np.ndarray:
        """Scores again."""
        if self.score in RAW_SCORES:
            return values
        logarithm = _log_sigmoid(values)
        if self.score == "probability":
            np.exp(logarithm, out=logarithm)
        return logarithm

    def slope(self, values: np.ndarray) -> np.ndarray:
        """How much scores change with what they are on this scale."""
        if self.score in RAW_SCORES:
            return np.ones_like(values)
        other: np.ndarray = np.exp(_log_sigmoid(-values))  # the probability of all other classes
        return other if self.score == "log_probability" else other * (1 - other)


def _log_sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # cells that are not asked for are NaN and stay NaN
        logarithm: np.ndarray = -np.logaddexp(0.0, -logits)
    return logarithm


def fitted(guide: np.ndarray, exact: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`a * guide + b`, with the least squares a and b of each class over the known cells; both maps [k, rows, cols]."""
    x, y = guide[:, known], exact[:, known]
    x_mean, y_mean = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    spread = ((x - x_mean) ** 2).sum(axis=1, keepdims=True)
    together = ((x - x_mean) * (y - y_mean)).sum(axis=1, keepdims=True)
    # A constant guide has no information: the exact cells' mean takes its place.
    slope = np.divide(together, spread, out=np.zeros_like(spread), where=spread > 0)
    line: np.ndarray = slope[..., None] * (guide - x_mean[..., None]) + y_mean[..., None]
    return line
