"""The real networks on which promises of quality are tested, one per file, and their pictures; none is random.

Two come with their weights in a package, two are trained by `python -m benchmarks.train`, which takes a while and is
done once. `python -m benchmarks.networks` lists them.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.networks import inception_v3_digits, lite0_photographs, resnet18_digits, vgg16_mri
from benchmarks.networks.real_network import Check, RealNetwork
from benchmarks.networks.recipe import Recipe

NETWORKS: dict[str, Callable[[], RealNetwork]] = {
    vgg16_mri.NAME: vgg16_mri.load,
    resnet18_digits.NAME: resnet18_digits.load,
    inception_v3_digits.NAME: inception_v3_digits.load,
    lite0_photographs.NAME: lite0_photographs.load,
}
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (resnet18_digits.RECIPE, inception_v3_digits.RECIPE)}

__all__ = ["Check", "NETWORKS", "RECIPES", "RealNetwork"]
