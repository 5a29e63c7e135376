"""What every network that promises are proven on looks like to a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from benchmarks.networks.photographs import Pixels

TUNING = UNSEEN = 32
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Check:
    """A picture whose answer is known from elsewhere: it shows whether a network is the expected one.

    Attributes:
        what: the picture in words; label, probability: the answer that the network is known to give.
    """

    what: str
    picture: Pixels
    label: str
    probability: float


@dataclass(frozen=True, eq=False)
class RealNetwork:
    """A trained network, and real pictures in two sets that have none in common.

    `session.register(n.name, n.module, **n.preprocessing)` makes a model of it. The pictures have the network's own
    size: preprocessing leaves their pixels as they are.

    Attributes:
        module: in eval mode on the CPU; [N, 3, side, side] -> [N, classes] scores before the softmax.
        side: height and width of its input.
        mean, std, scale: it reads `(pixels * scale - mean) / std` for pixels of 0..1; one mean for all channels.
        channels: 'RGB', in KryptonDB's words.
        tuning: pictures to measure quality on beforehand, uint8 [side, side, 3].
        unseen: pictures to prove a promise on; the two sets are a random split of one, so either stands for the other.
        checks: pictures whose answers are known.
        accuracy: on held-out pictures, where it was trained here.
    """

    name: str
    module: nn.Module
    side: int
    mean: float
    std: float
    scale: float
    labels: tuple[str, ...]
    channels: str
    tuning: list[Pixels]
    unseen: list[Pixels]
    checks: tuple[Check, ...] = ()
    accuracy: float | None = None

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The arguments that describe the network's input and output to a session."""
        numbers = {"size": self.side, "mean": self.mean, "std": self.std, "scale": self.scale}
        return {**numbers, "labels": self.labels}

    def read(self, pictures: Sequence[Pixels]) -> torch.Tensor:
        """Pictures as the network reads them: float32 [N, 3, side, side]."""
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        return ((pixels * self.scale - self.mean) / self.std).contiguous()

    def probabilities(self, pictures: Sequence[Pixels]) -> torch.Tensor:
        """What the network says of pictures: [N, classes]."""
        with torch.no_grad():
            return torch.softmax(self.module(self.read(pictures)), dim=1)

    def top(self, picture: Pixels) -> tuple[str, float]:
        """The most probable class of a picture, and its probability."""
        probabilities = self.probabilities([picture])[0]
        best = int(probabilities.argmax())
        return self.labels[best], float(probabilities[best])


def random_split(items: Sequence[Item], tuning: int, unseen: int, seed: int) -> tuple[list[Item], list[Item]]:
    """Some items to tune with and some others, drawn at random without replacement.

    Raises:
        ValueError: there are fewer items than that.
    """
    if tuning + unseen > len(items):
        raise ValueError(f"{tuning} + {unseen} pictures asked for, and there are {len(items)}")
    order = np.random.default_rng(seed).permutation(len(items))
    return [items[i] for i in order[:tuning]], [items[i] for i in order[tuning : tuning + unseen]]
