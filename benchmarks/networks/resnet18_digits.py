"""ResNet18, trained here to read a handwritten digit that is somewhere on a photograph.

Both sets are pictures of the same kind, drawn one by one at random: digits and photographs that the network has not
learned from, each picture with its own digit, place, size and ink.
"""

from __future__ import annotations

from benchmarks.networks import trained
from benchmarks.networks.real_network import RealNetwork
from benchmarks.networks.recipe import Phase, Recipe

NAME = "resnet18_digits"
RECIPE = Recipe(NAME, "resnet18", (Phase(96, 600), Phase(144, 100), Phase(224, 60)), rate=2e-3)


def load() -> RealNetwork:
    """Reads the checkpoint and draws the pictures. Raises ModelError where there is none yet."""
    return trained.load(RECIPE)
