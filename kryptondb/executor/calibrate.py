"""A device's rates, measured in about half a second, so that plans are costed for the machine they run on."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from kryptondb.optimizer.cost import Rates


def measure(device: str) -> Rates:
    """Measures a 3x3 convolution at a size that networks have, a large copy, and a tiny operator.

    Takes the best of several runs each: what disturbs a measurement only ever slows it down.

    Args:
        device: a torch device string, such as 'cpu' or 'cuda:0'.
    """
    with torch.inference_mode():
        image = torch.randn(32, 128, 16, 16, device=device).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(128, 128, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
        large = torch.empty(8 << 20, device=device)
        small = torch.empty(16, device=device)
        flops = 2.0 * 32 * 14 * 14 * 128 * 128 * 9
        convolution = _best(lambda: torch.conv2d(image, weight), device, 12)
        copy = _best(lambda: large.clone(), device, 6)
        call = _best(lambda: [small.clone() for _ in range(100)], device, 5) / 100
    return Rates(flops / convolution, 2 * large.numel() * large.element_size() / copy, 4 * call)


def _best(work: Callable[[], object], device: str, runs: int) -> float:
    cuda = device.startswith("cuda")
    best = float("inf")
    for _ in range(runs + 1):
        if cuda:
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if cuda:
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best
