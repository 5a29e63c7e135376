"""A module's scores: which of its outputs they are, [N, classes] for pictures [N, C, H, W], and their probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from kryptondb.errors import ModelError

MAX_NAMED = 8  # outputs in an error's hint


class ScoreAdapter(nn.Module):
    """Another module whose input may be channels-last and whose output may be one of several.

    Args:
        module: what runs.
        output: the key, or the place, of the scores in the dict, tuple or list that it returns; None for one tensor.
        channels_last: whether it takes [N, H, W, C].
        column: whether it gives one number per image, [N], or has sides of 1 behind the classes, [N, classes, 1, 1].
    """

    def __init__(self, module: nn.Module, output: str | int | None, channels_last: bool, column: bool) -> None:
        super().__init__()
        self.module = module
        self.output, self.channels_last, self.column = output, channels_last, column

    def forward(self, images: torch.Tensor) -> Any:
        """Images [N, C, H, W] -> scores [N, classes]."""
        scores = self.module(images.permute(0, 2, 3, 1).contiguous() if self.channels_last else images)
        if self.output is not None:
            scores = chosen(scores, self.output)
        return scores.reshape(scores.shape[0], -1) if self.column else scores


def adapted(module: nn.Module, output: str | int | None, layout: str | None, example: torch.Tensor) -> nn.Module:
    """The module itself where it has that face already, else one that gives it.

    Args:
        example: a batch [N, C, H, W] to try it on, N at least 2 where N may be confused with a number of classes.

    Raises ModelError where the module has no such output. What else is wrong with it, `count_classes` says.
    """
    last = layout == "channels_last"
    try:
        with torch.no_grad():
            result = module(example.permute(0, 2, 3, 1).contiguous() if last else example)
    except Exception:  # the module's own code; the class count meets it again
        return ScoreAdapter(module, output, last, False) if last else module
    if output is not None:
        result = chosen(result, output)
    column = _is_column(result, example.shape[0])
    return ScoreAdapter(module, output, last, column) if last or column or output is not None else module


def chosen(result: Any, output: str | int) -> Any:
    """One of several outputs, by key or place. Raises ModelError, naming those that there are."""
    if isinstance(result, Mapping):
        keys = list(result)
        key = output if output in result else keys[output] if isinstance(output, int) and output < len(keys) else None
        if key is not None:
            return result[key]
        named = ", ".join(map(str, keys[:MAX_NAMED]))
        raise ModelError(f'the model has no output "{output}"', hint=f"It returns a dict with {named}.")
    if isinstance(result, (tuple, list)):
        fields = getattr(result, "_fields", ())
        if isinstance(output, str) and output in fields:
            return getattr(result, output)
        if isinstance(output, int) and output < len(result):
            return result[output]
        what = f"{', '.join(fields)}" if fields else f"output => 0 to {len(result) - 1}"
        raise ModelError(f'the model has no output "{output}"', hint=f"It returns a {type(result).__name__}: {what}.")
    raise ModelError(f'the model has no output "{output}": it returns one value', hint="Omit output =>.")


def _is_column(result: Any, batch: int) -> bool:
    if not isinstance(result, torch.Tensor) or not result.is_floating_point() or not result.ndim:
        return False
    if result.shape[0] != batch:
        return False
    return result.ndim == 1 or (result.ndim > 2 and all(side == 1 for side in result.shape[2:]))


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
