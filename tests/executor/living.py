"""Counts the bytes of all tensors alive while something runs: exactly, and the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class Living(TorchDispatchMode):
    """While it is entered, `peak` is the most bytes alive at once of memory that operators made since."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(value, torch.Tensor) and function.namespace in ("aten", "mkldnn"):
                storage = value.untyped_storage()
                reference = StorageWeakRef(storage)
                self._known[reference.cdata] = (reference, storage.nbytes())
        self._known = {key: held for key, held in self._known.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._known.values()))
        return result
