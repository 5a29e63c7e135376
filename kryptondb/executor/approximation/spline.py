"""Bicubic splines through values on a lattice, for all classes at once."""

from __future__ import annotations

import numpy as np

from kryptondb.executor.approximation.lattice import Lattice

_CUBIC = 3


def interpolated(lattice: Lattice, values: np.ndarray, degree: int = _CUBIC) -> np.ndarray:
    """Values [k, rows, cols] at the lattice's nodes -> at every cell of its rectangle; NaN outside of it.

    Between few nodes the degree is as high as they allow. Nodes that are not asked for take the nearest one's value:
    they bend the spline a little, and no cell that is interpolated has one beside it.
    """
    rows, cols = lattice.rows, lattice.cols
    known = lattice.nodes[np.ix_(rows, cols)]
    nodes = values[:, rows[:, None], cols]
    if not known.all():
        from scipy.ndimage import distance_transform_edt

        nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
        nodes = nodes[:, nearest[0], nearest[1]]
    down, across = _weights(rows, degree), _weights(cols, degree)
    maps = np.full(values.shape, np.nan)
    maps[:, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] = down @ nodes @ across.T
    return maps


def _weights(lines: np.ndarray, degree: int) -> np.ndarray:
    """What each line's value adds to each place from the first to the last, [places, lines]."""
    from scipy.interpolate import make_interp_spline  # takes a while to import: only where it is needed

    if len(lines) == 1:
        return np.ones((1, 1))
    spline = make_interp_spline(lines, np.eye(len(lines)), k=min(degree, len(lines) - 1))
    weights: np.ndarray = spline(np.arange(lines[0], lines[-1] + 1))
    weights[lines - lines[0]] = np.eye(len(lines))  # the nodes themselves, without rounding
    return weights
