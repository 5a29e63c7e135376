"""A cheap map of every cell as the guide between exact ones: fitted to them, its error interpolated and added back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kryptondb.executor.approximation.lattice import Lattice
from kryptondb.executor.approximation.spline import interpolated

#: Probabilities below it are taken for it: their logarithms are all rounding.
_LEAST = 1e-7


@dataclass(frozen=True)
class Scale:
    """What a guide is fitted in: the logarithm of probabilities, all other scores as they are."""

    logarithmic: bool

    @classmethod
    def of(cls, score: str) -> Scale:
        """For scores of a kind."""
        return cls(score == "probability")

    def to(self, scores: np.ndarray) -> np.ndarray:
        """Scores on this scale."""
        return np.log(np.maximum(scores, _LEAST)) if self.logarithmic else scores

    def back(self, values: np.ndarray) -> np.ndarray:
        """Scores again."""
        return np.minimum(np.exp(values), 1.0) if self.logarithmic else values


def fitted(guide: np.ndarray, exact: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`a * guide + b`, with the least squares a and b of each class over the known cells; both maps [k, rows, cols]."""
    x, y = guide[:, known], exact[:, known]
    x_mean, y_mean = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    spread = ((x - x_mean) ** 2).sum(axis=1, keepdims=True)
    together = ((x - x_mean) * (y - y_mean)).sum(axis=1, keepdims=True)
    # A constant guide tells nothing: the exact cells' mean stands for it.
    slope = np.divide(together, spread, out=np.zeros_like(spread), where=spread > 0)
    line: np.ndarray = slope[..., None] * (guide - x_mean[..., None]) + y_mean[..., None]
    return line


def refined(lattice: Lattice, guide: np.ndarray, exact: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The guide, fitted to the known exact cells, plus the spline through what is left at the lattice's nodes."""
    line = fitted(guide, exact, known)
    corrected: np.ndarray = line + interpolated(lattice, exact - line)
    return corrected
