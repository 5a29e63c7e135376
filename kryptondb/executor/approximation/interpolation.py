"""Maps through values on a lattice, for all classes at once, and corrected where more is known."""

from __future__ import annotations

import numpy as np

from kryptondb.executor.approximation.lattice import Lattice

LINEAR, CUBIC = 1, 3
#: How far a cell that is known reaches to correct its neighbours, in cells, and what holds them to the lattice.
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

    How rough the map is about a node is told by what its four neighbours would make of it.
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
