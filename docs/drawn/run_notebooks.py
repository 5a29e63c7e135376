"""Runs the notebooks of docs/notebooks and saves what they show: `make notebooks`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "docs/notebooks"


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook with fresh outputs.

    Args:
        path: the notebook.
        folder: where it runs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    client = nbclient.NotebookClient(
        notebook, timeout=120, record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _says_something(output)]
            for output in cell.outputs:
                _keep_one_picture(output)
    return notebook


def _says_something(output: nbformat.NotebookNode) -> bool:
    """Whether an output shows anything: a progress bar that has gone leaves an empty one."""
    data = output.get("data")
    return data is None or any(data.values())


def _keep_one_picture(output: nbformat.NotebookNode) -> None:
    """A picture inside of HTML is not kept a second time beside it, which would double the file."""
    data = output.get("data", {})
    if "<img" in data.get("text/html", ""):
        data.pop("image/png", None)
    if "image/png" in data:
        data.pop("image/jpeg", None)


def main() -> None:
    """Runs all of them, in a folder of their own."""
    import tempfile

    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(run(path, Path(folder)), path)
        print(path.name, file=sys.stderr)


if __name__ == "__main__":
    main()
