"""What a source hands over before a model is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from kryptondb.images.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class Built:
    """A module and what its source knows about it.

    Attributes:
        architecture: its name for people.
        structure: its computation in text, for the fingerprint.
        module: nobody else holds it.
        preprocess: the default; the user's options change it.
        weights: where they come from, in words.
        labels: class names that the source knows, used when their number fits.
        files: absolute paths it was built from.
        activation: what the source says makes probabilities of the scores, where the module leaves it out.
        adapted: whether the options `output` and `layout` are in the module already.
        batch: how many images the class count is found with: 1 saves time where the source is known to take batches.
    """

    architecture: str
    structure: str
    module: torch.nn.Module
    preprocess: Preprocess
    weights: str
    labels: tuple[str, ...] | None = None
    files: tuple[str, ...] = ()
    activation: str | None = None
    adapted: bool = False
    batch: int = 2
