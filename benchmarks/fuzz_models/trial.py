"""One case tried: the file is read as a session reads it, and what came of it is named."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

import kryptondb
from benchmarks.fuzz_models.damage import Case
from benchmarks.fuzz_models.originals import QUERY, network, picture
from kryptondb.catalog import build_model, sizes
from kryptondb.catalog.weights import load_state, read_state
from kryptondb.copy import manifest

TAKEN, REFUSED = "taken", "refused"
SAME = 1e-4  # largest difference of an answer that is the same, relative to the scores
BOUND = 256 << 20  # bytes that a program may hold here: the bound is the product's, its size is the trial's
OPERATIONS = 1e10

_canaries: list[tuple[torch.Tensor, int]] = []


def attempt(case: Case, folder: Path) -> str:
    """TAKEN, REFUSED, or what went wrong in a few lines."""
    sizes.LEAST_BOUND, sizes.BOUND_PER_INPUT, sizes.MOST_OPERATIONS = BOUND, 0, OPERATIONS
    torch.set_num_threads(1)
    if not _canaries:
        _place_canaries()
    path = folder / f"case-{case.original.name}"
    try:
        outcome = TRIALS[case.original.format](case, path)
    except kryptondb.Error as error:
        outcome = REFUSED if str(error) else "an error that says nothing"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome = f"{type(error).__name__}: {str(error)[:300]} ({Path(where.filename).name}, line {where.lineno})"
    finally:
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink(missing_ok=True)
    changed = [number for number, (tensor, value) in enumerate(_canaries) if not bool((tensor == value).all())]
    return f"changed {len(changed)} other tensors of the process" if changed else outcome


def _place_canaries() -> None:
    """Tensors of many sizes, with gaps between them where those of the cases come to lie."""
    tensors = [torch.full((1 << (4 + number % 12),), number, dtype=torch.int32) for number in range(256)]
    _canaries.extend((tensor, number) for number, tensor in enumerate(tensors) if number % 3)


def _model(case: Case, path: Path) -> str:
    path.write_bytes(case.data)
    model = build_model("net", "file", str(path), {})
    if not case.same:
        return TAKEN
    assert case.original.scores is not None
    with torch.no_grad():
        scores = model.module(picture()).flatten()
    expected = torch.tensor(case.original.scores)
    same = scores.shape == expected.shape and bool(
        torch.isclose(
            scores, expected, SAME, SAME * float(expected.nan_to_num(0, 0, 0).abs().max()), equal_nan=True
        ).all()
    )
    return TAKEN if same else f"another answer, {scores[:3].tolist()} for {expected[:3].tolist()}"


def _weights(case: Case, path: Path) -> str:
    path.write_bytes(case.data)
    load_state(network(), read_state(str(path)), str(path))
    return TAKEN


_STATEMENTS = ("SHOW MODELS", "SHOW SETTINGS", "SHOW PROFILES", "SHOW CALIBRATION", "DESCRIBE net", "SET threads = 1")


def _database(case: Case, path: Path) -> str:
    path.write_bytes(case.data)
    outcome = TAKEN
    with kryptondb.connect(str(path)) as session:
        for statement in _STATEMENTS:
            try:
                session.sql(statement).arrow() if statement.startswith("SHOW") else session.sql(statement)
            except kryptondb.Error as error:
                if not str(error):
                    return "an error that says nothing"
                outcome = REFUSED
    return outcome


def _manifest(case: Case, path: Path) -> str:
    target = path.with_name("parts")
    target.mkdir()
    for name in ("part-00001.parquet", "part-00002.parquet"):
        (target / name).write_bytes(b"PAR1")
    (target / manifest.NAME).write_bytes(case.data)
    with manifest.opened(str(target), QUERY) as record:
        record.check(parts=True)
    return TAKEN


TRIALS: dict[str, Callable[[Case, Path], str]] = {
    "database": _database,
    "manifest": _manifest,
    "onnx": _model,
    "pt2": _model,
    "pth": _weights,
    "safetensors": _weights,
}
