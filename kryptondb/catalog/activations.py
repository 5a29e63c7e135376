"""What makes probabilities of a network's scores."""

from __future__ import annotations

import torch


def probabilities(scores: torch.Tensor, activation: str) -> torch.Tensor:
    """[n, classes] scores -> probabilities, of the same shape and dtype; with 'none' the scores themselves.

    Args:
        activation: 'softmax' (one of the classes), 'sigmoid' (each class by itself) or 'none' (regression).
    """
    if activation == "softmax":
        return torch.softmax(scores, dim=1)
    return torch.sigmoid(scores) if activation == "sigmoid" else scores


def log_probabilities(scores: torch.Tensor, activation: str) -> torch.Tensor:
    """The natural logarithms of `probabilities`, without rounding small ones to 0 first."""
    if activation == "softmax":
        return torch.log_softmax(scores, dim=1)
    return torch.nn.functional.logsigmoid(scores) if activation == "sigmoid" else scores
