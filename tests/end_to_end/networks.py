"""Networks small enough to run thousands of times in a second."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def small_network(width: int = 4) -> nn.Sequential:
    """Two convolutions, a pool and a linear layer: 3 x 32 x 32 -> 3 classes, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        ).eval()


def export(module: nn.Module, path: Path, side: int = 32) -> None:
    """Writes a module as an exported program with a dynamic batch."""
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (torch.zeros(2, 3, side, side),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
