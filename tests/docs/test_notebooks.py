"""The notebooks of docs/ run as they stand, and show maps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def runner():
    spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "docs/drawn/run_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_as_it_stands(path, tmp_path):
    notebook = runner().run(path, tmp_path)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output["data"].get("text/html", "") for output in outputs if "data" in output]
    assert sum("<img" in html for html in shown) == 2


def test_there_are_two_and_they_were_saved_with_what_they_show():
    assert [path.stem for path in NOTEBOOKS] == ["first_heat_map", "tuning_with_a_promise"]
    assert all("data:image/png" in path.read_text(encoding="utf-8") for path in NOTEBOOKS)
