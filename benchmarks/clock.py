"""The time, read when a device has done all that it was asked to do."""

from __future__ import annotations

import time

import torch


def now(device: str) -> float:
    """Seconds of a clock that only goes forward."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
