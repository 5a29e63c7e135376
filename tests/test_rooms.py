"""The rooms of the package lie in one order, and no module imports one of a room above its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import kryptondb

ROOT = Path(kryptondb.__file__).parent
#: From the top, as ARCHITECTURE.md draws them. The face has three places: the command line and the prompt's loop at the
#: top, the session below the other ways in, and the result below the statements that return it. Errors show texts.
ORDER = (
    *("__main__", "cli", "repl", "kryptondb", "ipython", "compat", "prompt", "session", "statements", "result", "copy"),
    *("show", "executor", "optimizer", "catalog", "network", "images", "options", "grammar", "files", "process"),
    *("errors", "version", "text"),
)
#: Imports that close a circle, all of them for types alone. None may be added.
CLOSING = {
    ("executor.tiles.overlay_kernel", "executor.tiles.overlay"),
    ("network.cache", "network.graph"),
    ("network.graph", "network.finite"),
    ("optimizer.promise", "optimizer.logical"),
    ("optimizer.promise", "optimizer.physical"),
    ("optimizer.recipe", "optimizer.workload"),
    ("optimizer.workload", "optimizer.logical"),
    ("statements.calibration", "statements.database"),
    ("statements.profiles", "statements.database"),
}
#: Imports of our own modules inside functions, for start-up's sake: of rooms that import torch or pyarrow, say.
MOST_INSIDE_FUNCTIONS = 105


def _module(path: Path) -> str:
    """`executor.run` for kryptondb/executor/run.py; `executor` for its `__init__`, `kryptondb` for the package's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "kryptondb"


def _room(module: str) -> str:
    return module.partition(".")[0]


@lru_cache(maxsize=1)
def _modules() -> dict[str, ast.Module]:
    """Every module's tree by its name."""
    return {_module(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def _imported(node: ast.AST) -> Iterator[str]:
    """The modules of ours that a statement imports."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports name the package"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return
    for name in names:
        first, _, rest = name.partition(".")
        if first == "kryptondb":
            known = [rest, rest.rpartition(".")[0]]  # a module, or a name in one
            yield next((module for module in known if module in _modules()), "kryptondb")


def _imports(tree: ast.AST) -> set[str]:
    return {module for node in ast.walk(tree) for module in _imported(node)}


def _inside_functions(tree: ast.Module) -> set[ast.AST]:
    functions = (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return {part for function in functions for part in ast.walk(function) if any(True for _ in _imported(part))}


def test_every_room_has_its_place() -> None:
    assert {_room(module) for module in _modules()} == set(ORDER)


@pytest.mark.parametrize("module", sorted(_modules()))
def test_a_module_imports_nothing_from_above(module: str) -> None:
    """Not even inside a function, or for its types alone."""
    above = ORDER[: ORDER.index(_room(module))]
    found = {(module, other) for other in _imports(_modules()[module]) if _room(other) in above}
    assert not found


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module: {other for other in _imports(tree) - {module} if (module, other) not in CLOSING}
        for module, tree in _modules().items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_few_imports_of_our_own_are_inside_functions() -> None:
    assert sum(len(_inside_functions(tree)) for tree in _modules().values()) <= MOST_INSIDE_FUNCTIONS
