"""A second process starts from what the first one kept: it builds, traces and measures nothing again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import kryptondb

pytestmark = pytest.mark.slow

ROOT = Path(kryptondb.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SCRIPT = """
import json, sys
import kryptondb
with kryptondb.connect(sys.argv[1]) as session:
    rows = [session.sql(query).arrow().to_pylist() for query in sys.argv[2:]]
print(json.dumps({"rows": rows, "modules": sorted(sys.modules)}))
"""
CELLS = "SELECT y, x, score, drop FROM occlude(net, 'sample:cat', patch => 8, stride => 8, class => 1)"
# Everything that builds, traces, draws or plots. pandas is not among them: pyarrow imports it by itself.
NEEDLESS = (
    *("torchvision", "torch._dynamo", "torch._inductor", "sympy", "networkx", "efficientnet_lite_pytorch"),
    *("matplotlib", "skimage", "scipy", "imageio", "pydicom", "prompt_toolkit", "pygments", "IPython"),
)


Rows = list[dict[str, object]]


def elsewhere(database: str, *queries: str) -> tuple[list[Rows], list[str]]:
    """The rows of queries that another process runs, and the modules that it has loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, database, *queries], env=ENVIRONMENT, text=True, capture_output=True, check=True
    )
    answer = json.loads(done.stdout)
    return answer["rows"], answer["modules"]


def here(database: str, query: str = CELLS) -> Rows:
    """The rows of a query in a new session of this process."""
    with kryptondb.connect(database) as session:
        return list(session.sql(query).arrow().to_pylist())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torchvision

    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    torch.manual_seed(0)
    save_file(torchvision.models.mnasnet0_5(num_classes=4).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def created(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database whose model `net` was created by a session that is closed."""
    folder = tmp_path_factory.mktemp("created")
    with kryptondb.connect(folder / "pets.krypton") as session:
        session.sql(
            "CREATE MODEL net FROM torchvision('mnasnet0_5') WITH (weights => $weights, classes => 4, size => 32)",
            {"weights": str(weights)},
        )
    return folder


@pytest.fixture
def database(created: Path, tmp_path: Path) -> str:
    """A copy of it."""
    shutil.copytree(created, tmp_path, dirs_exist_ok=True)
    return str(tmp_path / "pets.krypton")


def test_a_second_process_gives_the_same_cells_without_what_it_does_not_need(database: str) -> None:
    queries = [f"{CELLS} USING operator => '{operator}'" for operator in ("incremental", "full")]
    fresh = kryptondb.connect()
    with kryptondb.connect(database) as session:
        (source,) = (record.options["weights"] for record in session.database.catalog.models())
    fresh.sql(
        "CREATE MODEL net FROM torchvision('mnasnet0_5') WITH (weights => $weights, classes => 4, size => 32)",
        {"weights": source},
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the other process: sums of floats depend on how they are split
    try:
        expected = [fresh.sql(query).arrow().to_pylist() for query in queries]
    finally:
        torch.set_num_threads(threads)
    rows, modules = elsewhere(database, *queries)
    assert rows == expected
    assert [name for name in NEEDLESS if name in modules] == []


def test_float64_builds_the_module_when_it_needs_it(database: str) -> None:
    rows = here(database)
    (exact,), modules = elsewhere(database, f"{CELLS} USING precision => 'float64'")
    assert "torchvision" in modules and len(exact) == len(rows)
    assert exact[0]["score"] == pytest.approx(rows[0]["score"], rel=1e-4)


def test_weights_that_changed_are_told_and_answered_anew(database: str, weights: Path, tmp_path: Path) -> None:
    before = here(database)
    kept = weights.read_bytes()
    try:
        state = load_file(weights)
        state["classifier.1.bias"][1] += 1.0
        save_file(state, weights)
        with pytest.raises(kryptondb.Error, match=f"{weights} changed"):
            here(database)
        with kryptondb.connect(database) as session:
            options = session.database.catalog.models()[0].options
            session.database.models.create("net", "torchvision", "mnasnet0_5", options, replace=True)
        after = here(database)
        assert after[0]["score"] > before[0]["score"]  # type: ignore[operator]
    finally:
        weights.write_bytes(kept)


def test_a_database_whose_networks_were_deleted_answers_and_keeps_them_again(database: str) -> None:
    (file,) = Path(f"{database}-networks").iterdir()
    expected = here(database)
    file.unlink()
    assert here(database) == expected
    assert file.is_file()
    (rows,), modules = elsewhere(database, CELLS)
    assert len(rows) == len(expected) and "torchvision" not in modules
