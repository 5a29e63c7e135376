"""Declares torchvision's C++ operator schemas where they are missing, so that `import torchvision` works.

torchvision from the package index is built against a CUDA torch. Beside a CPU-only torch its extension does not load,
and `import torchvision` then fails with `operator torchvision::nms does not exist`, although the model zoo and the
transforms need none of its C++ operators. Import this module before torchvision, everywhere:

    import kryptondb.images.torchvision_guard  # noqa: F401
    import torchvision

Where the extension loads, or torchvision is imported already, nothing is declared.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import torch

# The schemas that torchvision registers fake kernels for without asking whether its extension has loaded.
SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

_libraries: list[torch.library.Library] = []  # a Library that is garbage collected takes its schemas with it


def _load_extension() -> None:
    """Loads torchvision's own extension if it can be loaded; importing torchvision later loads the same file again.

    It has to come first: a schema declared here would collide with the one the extension defines.
    """
    spec = importlib.util.find_spec("torchvision")  # finds the package without running it
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            file = Path(folder) / f"_C{suffix}"
            if file.is_file():
                try:
                    torch.ops.load_library(str(file))  # type: ignore[no-untyped-call]
                except (ImportError, OSError):
                    continue
                return


def declare_missing_operators() -> tuple[str, ...]:
    """Declares each schema that does not exist yet; returns the names it declared, () where nothing was missing."""
    if "torchvision" not in sys.modules:
        _load_extension()
    missing = tuple(name for name in SCHEMAS if not hasattr(torch.ops.torchvision, name))
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in missing:
            library.define(SCHEMAS[name])  # type: ignore[no-untyped-call]
        _libraries.append(library)
    return missing


declared = declare_missing_operators()
