"""Maps through values that are known anywhere: a thin plate, bent as little as it can be."""

from __future__ import annotations

import numpy as np

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
    return np.stack([_settled(each, ~known) for each in maps])


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
