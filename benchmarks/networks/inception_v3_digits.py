"""InceptionV3, trained here to read a handwritten digit that is somewhere on a photograph.

Both sets are pictures of the same kind, drawn one by one at random: digits and photographs that the network has not
learned from, each picture with its own digit, place, size and ink.
"""

from __future__ import annotations

from benchmarks.networks import trained
from benchmarks.networks.real_network import RealNetwork
from benchmarks.networks.recipe import Phase, Recipe

NAME = "inception_v3_digits"
RECIPE = Recipe(NAME, "inception_v3", (Phase(128, 500), Phase(192, 160), Phase(299, 130)), rate=2e-3)


def load() -> RealNetwork:
    """Reads the checkpoint and draws the pictures. Raises ModelError where there is none yet."""
    return trained.load(RECIPE)
