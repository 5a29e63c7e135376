"""Networks that are trained here: from a recipe to a checkpoint, and from that to a network with its pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
from torch import nn

from benchmarks.networks import digits
from benchmarks.networks.real_network import TUNING, UNSEEN, RealNetwork, random_split
from benchmarks.networks.recipe import CHECKPOINTS, Recipe
from benchmarks.networks.training import MEAN, STD, held_out_accuracy, held_out_scenes, new_network, train
from kryptondb.catalog.weights import load_state, read_state
from kryptondb.errors import ModelError

_PROVING = 3  # stream of random scenes, beside those of training


def make(recipe: Recipe, folder: Path = CHECKPOINTS, report: Callable[[str], None] = print) -> Path:
    """Trains a network and keeps it. Raises ModelError, and keeps nothing, where it reads too few held-out pictures."""
    start = time.perf_counter()
    module = train(recipe, report)
    seconds = time.perf_counter() - start
    accuracy = held_out_accuracy(module, recipe)
    report(f"{recipe.name}: {accuracy:.3f} of {recipe.judged} held-out pictures right, trained in {seconds:.0f} s")
    return keep(recipe, module, accuracy, folder)


def keep(recipe: Recipe, module: nn.Module, accuracy: float, folder: Path = CHECKPOINTS) -> Path:
    """Writes a trained network under its recipe's name. Raises ModelError where its accuracy is below the floor."""
    if accuracy < recipe.floor:
        raise ModelError(
            f"{recipe.name} reads {accuracy:.3f} of the held-out pictures; {recipe.floor:g} is required: not kept",
            hint="Give its recipe more steps.",
        )
    path = recipe.checkpoint(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    safetensors.torch.save_file(module.state_dict(), part, metadata={"accuracy": f"{accuracy:.4f}"})
    part.replace(path)
    return path


def load(recipe: Recipe, folder: Path = CHECKPOINTS) -> RealNetwork:
    """The trained network and its pictures. Raises ModelError where this recipe has no checkpoint yet."""
    path = recipe.checkpoint(folder)
    if not path.is_file():
        raise ModelError(
            f"{recipe.name} is not trained: {path} does not exist", hint=f"python -m benchmarks.train {recipe.name}"
        )
    module = new_network(recipe.architecture)
    load_state(module, read_state(str(path)), str(path))
    scenes = held_out_scenes(TUNING + UNSEEN, (recipe.seed, _PROVING))
    tuning, unseen = random_split(scenes, TUNING, UNSEEN, recipe.seed)
    return RealNetwork(
        name=recipe.name,
        module=module.eval().requires_grad_(False),
        side=recipe.side,
        mean=MEAN,
        std=STD,
        scale=1.0,
        labels=digits.LABELS,
        channels="RGB",
        tuning=[digits.render(scene, recipe.side) for scene in tuning],
        unseen=[digits.render(scene, recipe.side) for scene in unseen],
        accuracy=accuracy_of(path),
    )


def accuracy_of(path: Path) -> float:
    """The held-out accuracy that was measured when a checkpoint was made."""
    with safetensors.safe_open(str(path), framework="pt") as file:
        return float(file.metadata()["accuracy"])
