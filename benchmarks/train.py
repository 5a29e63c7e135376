"""Trains the networks for promises that no package ships: the same way every time, once per machine.

    python -m benchmarks.train                  # those that have no checkpoint of their recipe yet
    python -m benchmarks.train resnet18_digits --again

Each network is trained by one thread, in a process of its own: it comes out the same however many cores there are.
Checkpoints go to `benchmarks/checkpoints`, which git ignores. ResNet18 takes about 12 minutes, and InceptionV3, beside
it, most of an hour; a processor that has no arithmetic in bfloat16 trains in float32, and takes several times as long.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path

from benchmarks.networks import RECIPES
from benchmarks.networks.recipe import CHECKPOINTS
from benchmarks.networks.trained import make
from kryptondb.errors import ModelError


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what was asked for; 1 where a network did not become good enough."""
    options = _parse(arguments)
    wanted = []
    for name in options.networks or RECIPES:
        path = RECIPES[name].checkpoint(options.folder)
        if path.is_file() and not options.again:
            print(f"{name}: {path} is there")
        else:
            wanted.append(name)
    if not wanted:
        return 0
    # Not forked: threads that torch has started in the parent would be missing in the child.
    processes = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(wanted), processes) as pool:
        return 0 if all(list(pool.map(_trained, wanted, repeat(options.folder)))) else 1


def _trained(name: str, folder: Path) -> bool:
    """Trains one network; False, with the reason on the error stream, where it did not become good enough."""
    say = partial(print, flush=True)
    try:
        say(f"{name}: {make(RECIPES[name], folder, say)}")
    except ModelError as error:
        print(error, file=sys.stderr, flush=True)
        return False
    return True


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="network", help=f"of {', '.join(RECIPES)}; all by default")
    parser.add_argument("--again", action="store_true", help="even where the checkpoint is there")
    parser.add_argument("--folder", type=Path, default=CHECKPOINTS, help="where checkpoints are kept")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.networks if name not in RECIPES]
    if unknown:
        parser.error(f"no recipe for {', '.join(unknown)}: there are {', '.join(RECIPES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
