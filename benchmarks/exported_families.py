"""Which classifiers of torchvision and timm pass as `.pt2` files: one line for each that does not, and the count.

Every torchvision builder, and of every timm module its smallest classifier, is built with random weights, exported with
a batch of any size, saved, and its file checked as CREATE MODEL checks it before anything runs. `--load` also loads it
and propagates its sizes. `--operators` prints the operators that the exports contain.

    python -m benchmarks.exported_families --minutes 30
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from kryptondb.catalog import exported
from kryptondb.catalog.options import ModelOptions
from kryptondb.errors import ModelError
from kryptondb.images.torchvision_guard import declare_missing_operators

Family = tuple[str, Callable[[], torch.nn.Module], int]  # its name, what builds it, and the input's side

#: Words of the names of small variants, the smallest first.
_SMALL = ("test", "atto", "femto", "pico", "nano", "zepto", "xxt", "xxs", "xtiny", "xt", "tiny", "_t0", "_s0", "xs")
_SMALL += ("_b0", "mini", "small", "_t", "_s")
_TORCHVISION_SIDES = {"inception_v3": 299}
_TORCHVISION_LARGE = re.compile(r"_(l|h)_|_h_14|l_16|l_32|b7|b6|b5|b4|_128gf|_32gf|_16gf|101_64x4d|wide_resnet101")


def torchvision_families(every: bool) -> Iterator[Family]:
    """All classification builders of torchvision; without `every`, those of the same classes with fewer layers only."""
    declare_missing_operators()  # before torchvision
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models):
        if every or not _TORCHVISION_LARGE.search(name):
            special = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            yield (
                f"torchvision {name}",
                lambda name=name, special=special: torchvision.models.get_model(name, **special),
                _TORCHVISION_SIDES.get(name, 224),
            )


def timm_families() -> Iterator[Family]:
    """Of every module of timm its smallest variant, by its name."""
    declare_missing_operators()  # before timm, which imports torchvision
    import timm

    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if names:
            name = min(names, key=_size)
            side = max((timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()).input_size[1:])
            yield f"timm {module} {name}", lambda name=name: timm.create_model(name, num_classes=10), side


def _size(name: str) -> tuple[int, int, str]:
    word = next((place for place, word in enumerate(_SMALL) if word in name), len(_SMALL))
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    return word, max(numbers, default=0), name


def check(build: Callable[[], torch.nn.Module], side: int, path: Path, load: bool) -> tuple[str, Counter[str]]:
    """How a family's file is answered, '' where it passes, and the operators that its export contains."""
    try:
        module = build().eval()
        program = torch.export.export(
            module, (torch.zeros(2, 3, side, side),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
        )
    except Exception as error:
        return f"not exported: {(str(error).strip().splitlines() or [type(error).__name__])[0][:200]}", Counter()
    operators: Counter[str] = Counter()
    for graph in program.graph_module.modules():
        if isinstance(graph, torch.fx.GraphModule):
            operators.update(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
    del module
    torch.export.save(program, path)
    del program
    try:
        if load:
            exported.build(str(path), ModelOptions.parse({}))
        else:
            exported._checked_archive(str(path))
    except ModelError as error:
        return str(error), operators
    finally:
        path.unlink()
    return "", operators


def main() -> int:
    """Checks all families until the time is up; status 1 if one that was exported is refused."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exported_families", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="no family is begun after that")
    parser.add_argument("--only", default="", help="a part of the families' names")
    parser.add_argument("--every", action="store_true", help="the large torchvision builders too")
    parser.add_argument("--load", action="store_true", help="load each file and propagate its sizes too")
    parser.add_argument("--operators", action="store_true", help="print the operators of all exports")
    parser.add_argument("--log", type=Path, help="a file of JSON lines, one a family; those in it are not tried again")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    ends = time.monotonic() + chosen.minutes * 60
    done: dict[str, str] = {}
    operators: Counter[str] = Counter()
    if chosen.log is not None and chosen.log.exists():
        for line in chosen.log.read_text().splitlines():
            row = json.loads(line)
            done[row["name"]] = row["answer"]
            operators.update(row["operators"])
    families = [*timm_families(), *torchvision_families(chosen.every)]
    families = [family for family in families if chosen.only in family[0]]
    with tempfile.TemporaryDirectory() as folder:
        for name, build, side in families:
            if name in done:
                continue
            if time.monotonic() > ends:
                break
            with contextlib.redirect_stdout(sys.stderr):
                answer, found = check(build, side, Path(folder) / "family.pt2", chosen.load)
            done[name] = answer
            operators.update(found)
            if answer:
                print(f"{name}: {answer.splitlines()[0]}", flush=True)
            if chosen.log is not None:
                with chosen.log.open("a") as log:
                    log.write(json.dumps({"name": name, "answer": answer, "operators": found}) + "\n")
    if chosen.operators:
        print("\n".join(f"{count:6,} {name}" for name, count in sorted(operators.items())))
    not_exported = sum(answer.startswith("not exported") for answer in done.values())
    passed = sum(not answer for answer in done.values())
    refused = len(done) - not_exported - passed
    print(
        f"{passed} of {len(done) - not_exported} exported classifiers pass; {refused} refused,"
        f" {not_exported} that torch.export does not take, {len(families) - len(done)} not tried"
    )
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
