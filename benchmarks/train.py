"""Trains the networks that promises are proven on and no package ships: the same way every time, once a machine.

    python -m benchmarks.train                  # those that have no checkpoint of their recipe yet
    python -m benchmarks.train resnet18_digits --again

Checkpoints go to `benchmarks/checkpoints`, which git ignores. On two quiet cores ResNet18 takes about five minutes,
InceptionV3 about twelve.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.networks import RECIPES
from benchmarks.networks.recipe import CHECKPOINTS
from benchmarks.networks.trained import make
from kryptondb.errors import ModelError


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what was asked for; 1 where a network did not become good enough."""
    options = _parse(arguments)
    say = partial(print, flush=True)
    for name in options.networks or RECIPES:
        path = RECIPES[name].checkpoint(options.folder)
        if path.is_file() and not options.again:
            say(f"{name}: {path} is there")
            continue
        try:
            say(f"{name}: {make(RECIPES[name], options.folder, say)}")
        except ModelError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


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
