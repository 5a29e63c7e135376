"""Answers as the kind of tensor that the peers give: MONAI's MetaTensor, or whatever subclass a caller works with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def like(values: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """The values as the kind of tensor that a model is, with what its class carries along, such as an affine."""
    if not is_subclass(model):
        return values
    return values + model.new_zeros((), dtype=values.dtype, device=values.device)


def is_subclass(tensor: torch.Tensor) -> bool:
    """Whether a tensor is more than torch's own."""
    return type(tensor) not in (torch.Tensor, nn.Parameter)


def monai_map(whole: torch.Tensor, shown: Sequence[slice] | None) -> torch.Tensor:
    """A map as MONAI gives it: the part that is shown, a MetaTensor whose affine says where it was cut out.

    A process that has not imported MONAI gets torch's own tensors: it knows no others.

    Args:
        whole: [C, *spatial].
        shown: for each axis; None where nothing is cut.

    Returns:
        [1, C, *shown].
    """
    monai: Any = sys.modules.get("monai")
    if monai is None:
        return (whole if shown is None else whole[(slice(None), *shown)])[None]
    given = monai.data.MetaTensor(whole)
    if shown is not None:
        given = monai.transforms.SpatialCrop(roi_slices=list(shown))(given)
    cut: torch.Tensor = given[None]
    return cut
