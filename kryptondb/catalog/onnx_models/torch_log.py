"""Torch's log while sizes are tried: what fails there is an error of ours, said once and in a line."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
_quiet = threading.local()


def _is_wanted(_: logging.LogRecord) -> bool:
    return not getattr(_quiet, "depth", 0)


@contextmanager
def without_torch_log() -> Iterator[None]:
    """Within it this thread writes none of torch's records about sizes that do not fit; other threads' go on."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_wanted)  # once: a filter that is there is not added again
    _quiet.depth = getattr(_quiet, "depth", 0) + 1
    try:
        yield
    finally:
        _quiet.depth -= 1
