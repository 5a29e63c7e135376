"""Trains a network on scenes with digits, the same way every time, until it reads those of writers it never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

import kryptondb.images.torchvision_guard  # noqa: F401  (before any import of torchvision)
from benchmarks.networks import digits
from benchmarks.networks.digits import Scene
from benchmarks.networks.recipe import Recipe
from kryptondb.executor.calibrate import measure

MEAN, STD = 0.5, 0.25  # of pixels in 0..1; one for all channels, since some peers paint all with one number
JUDGED_AT_ONCE = 50
_TRAINING, _SETTLING, _JUDGED = range(3)  # streams of random scenes


def new_network(architecture: str) -> nn.Module:
    """An untrained torchvision network with a class for each digit, and without auxiliary heads."""
    from torchvision.models import get_model  # after the guard

    options = {"aux_logits": False, "init_weights": False} if architecture == "inception_v3" else {}
    module: nn.Module = get_model(architecture, weights=None, num_classes=len(digits.LABELS), **options)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    return module


def train(recipe: Recipe, report: Callable[[str], None]) -> nn.Module:
    """Trains one network; the module comes back in eval mode, with batch norms that fit its own size.

    Args:
        report: receives a line about the progress now and then.
    """
    with _deterministic(recipe.seed):
        module = new_network(recipe.architecture).train()
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs do not know it
        steps = sum(phase.steps for phase in recipe.phases)
        optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps, pct_start=0.2)
        wrong = nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
        random = np.random.default_rng((recipe.seed, _TRAINING))
        step, seen = 0, []
        rounded = _rounding_pays()
        for phase in recipe.phases:
            for _ in range(phase.steps):
                images, labels = batch_of(_training_scenes(random, recipe.batch, recipe.side / phase.side), phase.side)
                with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
                    scores = module(images)
                loss = wrong(scores.float(), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                step += 1
                seen.append(float((scores.argmax(1) == labels).float().mean()))
                if step % 50 == 0 or step == steps:
                    report(
                        f"{recipe.name}: step {step} of {steps}, {phase.side} pixels: {np.mean(seen[-50:]):.2f} right"
                    )
        _settle_batch_norms(module, recipe)
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return module.eval()


def held_out_accuracy(module: nn.Module, recipe: Recipe) -> float:
    """The share of pictures that the network reads rightly, of digits and photographs that it never saw."""
    scenes = held_out_scenes(recipe.judged, (recipe.seed, _JUDGED))
    right = 0
    for start in range(0, len(scenes), JUDGED_AT_ONCE):
        images, labels = batch_of(scenes[start : start + JUDGED_AT_ONCE], recipe.side)
        with torch.no_grad():
            right += int((module(images).argmax(1) == labels).sum())
    return right / len(scenes)


def held_out_scenes(count: int, seed: Sequence[int]) -> list[Scene]:
    """Scenes of digits and photographs that no network has learned from."""
    random = np.random.default_rng(seed)
    return [digits.draw_scene(random, digits.HELD_OUT_DIGITS, digits.HELD_OUT_PHOTOGRAPHS) for _ in range(count)]


def batch_of(scenes: Sequence[Scene], side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scenes as a network reads them: [N, 3, side, side] and [N] classes."""
    pixels = torch.from_numpy(np.stack([digits.render(scene, side) for scene in scenes]))
    images = (pixels.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD  # channels last in memory, as rendered
    return images, torch.tensor([digits.label_of(scene) for scene in scenes])


def _rounding_pays() -> bool:
    """Whether this processor computes in bfloat16 and is faster in it: one that emulates it would train for a day."""
    rates = measure("cpu")
    return dict(rates.reduced).get("bfloat16", 0.0) > rates.flops_per_second


def _training_scenes(random: np.random.Generator, count: int, closer: float = 1.0) -> list[Scene]:
    """Scenes to learn from. On a smaller picture a closer one: its digit has as many pixels as at the full size."""
    known, photographs = digits.TRAINING_DIGITS, digits.TRAINING_PHOTOGRAPHS
    return [digits.draw_scene(random, known, photographs, closer) for _ in range(count)]


def _settle_batch_norms(module: nn.Module, recipe: Recipe) -> None:
    """Takes the batch norms' statistics anew, from pictures of the network's own size and with its final weights."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.reset_running_stats()
        part.momentum = None  # a cumulative average
    random = np.random.default_rng((recipe.seed, _SETTLING))
    with torch.no_grad():
        for _ in range(recipe.settling // recipe.batch):
            module(batch_of(_training_scenes(random, recipe.batch), recipe.side)[0])


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """The same random numbers every time, and sums in one order; all as before afterwards.

    One thread: with several, the order of sums would depend on their number. It costs little, since two networks can
    be trained side by side, and oneDNN's gradients of weights wait in loops for a thread that does not run.
    """
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads)
