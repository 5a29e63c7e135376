"""An architecture of a package with weights: those that are published, those of a file, or random ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kryptondb.catalog.weights import load_state, read_state
from kryptondb.errors import ModelError

if TYPE_CHECKING:
    import torch

SEED = 0  # of weights => 'random': the same numbers, and so the same fingerprint, every time


def weighted(
    name: str,
    make: Callable[[], torch.nn.Module],
    weights: str,
    published: Callable[[], tuple[str, str]],
    ignored: tuple[str, ...] = (),
) -> tuple[torch.nn.Module, str, tuple[str, ...]]:
    """Makes an architecture, with weights drawn from a fixed seed, and fills it with others where they are asked for.

    The caller's random numbers are left as they were.

    Args:
        name: the package and the architecture, for messages.
        make: makes the module.
        weights: 'default', 'random' or the path of a file.
        published: where the default ones lie, fetched if need be, and what they are called.
        ignored: prefixes of names that files may have beyond what the module needs.

    Returns:
        The module, where its weights come from in words, and the files that were read.

    Raises:
        ModelError: the architecture does not take what it is given, or the weights do not fit or are not there.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            module = make()
        except Exception as error:  # an input size or channels that the architecture does not take
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(f"{name} cannot be built: {reason}") from error
    if weights == "random":
        return module, f"random (seed {SEED})", ()
    path, said = published() if weights == "default" else (weights, weights)
    load_state(module, read_state(path), path, ignored)
    return module, said, (path,)
