"""A cheap map of every cell as the guide between exact ones: on what scale it is fitted to them, and how."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    with np.errstate(invalid="ignore"):  # cells that nobody asked for are NaN and stay it
        logarithm: np.ndarray = -np.logaddexp(0.0, -logits)
    return logarithm


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
