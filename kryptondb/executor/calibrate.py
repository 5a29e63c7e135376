"""A device's rates, so that plans are costed for the machine they run on: in general, and of single layers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from kryptondb.executor.kernels.choice import blocks_for
from kryptondb.executor.kernels.winograd import Block, Winograd, Workspace, blocks_of
from kryptondb.executor.tiles.costs import DIRECT, WINOGRAD, distance
from kryptondb.executor.tiles.regions_on_tensors import Table, lay_over
from kryptondb.network import Axes
from kryptondb.network.consistency import same_random_numbers_after
from kryptondb.optimizer.cost import LayerRate, LayerShape, Rates
from kryptondb.optimizer.workload import REDUCED_PRECISIONS
from kryptondb.process.torch_state import own_torch_state

# Read windows of one run, the height and width of what each computes, and the most operations of one run: a layer with
# more of them keeps a device busy with fewer windows.
WINDOWS = 64
SIDE = 8
MOST_FLOPS = 2e10
# A layer is run again until this long has passed for each algorithm, and at least so often.
SECONDS = 0.1
RUNS = 2
# What is timed lasts at least this long: shorter runs are timed together.
SHORTEST = 0.002
# Pairs of 4 MiB: a copy of one finds that the others have displaced it from the caches.
DISPLACING = 16
# Channels of a row that is gathered.
ROW = 64
# So many rows and columns of positions, each with a shift of its own.
OVERLAYS = 4
# A precision that computes one window at less than this part of float32's rate is not measured further.
SLOWEST = 0.5
# A core's own cache where the system does not tell.
SMALL_CACHE = 1 << 20

Work = Callable[[], object]


def measure(device: str) -> Rates:
    """Measures a 3x3 convolution at a size that networks have, copies, and tiny operators: about a second.

    Takes the best of several runs each: what disturbs a measurement only ever slows it down.

    Args:
        device: a torch device string, such as 'cpu' or 'cuda:0'.
    """
    with _measuring(device):
        image = torch.randn(32, 128, 16, 16, device=device).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(128, 128, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
        pairs = torch.zeros(DISPLACING, 2, 1 << 20, device=device)  # written once: what is measured is no first touch
        cache = cache_bytes(device)
        rows = torch.zeros(int(cache / 16) // ROW, ROW, device=device)
        order = torch.arange(len(rows), device=device)
        small = torch.zeros(1, 8, 4, 4, device=device)
        kernel = torch.zeros(8, 8, 1, 1, device=device)
        table = Table.of(torch.zeros(1, 8, 16, 16, device=device), Axes(0, 2, 3), (0.0,))
        places, rectangles, regions = np.arange(OVERLAYS), *torch.zeros(2, OVERLAYS**2, 2, 2, 8, device=device)
        flops = 2.0 * 32 * 14 * 14 * 128 * 128 * 9
        convolution = _best(lambda: torch.conv2d(image, weight), device, 12)
        displaced = _best(lambda: [other.copy_(one) for one, other in pairs], device, 2)
        cached = _best(lambda: [torch.index_select(rows, 0, order) for _ in range(20)], device, 6) / 20
        call = _best(lambda: [torch.conv2d(small, kernel) for _ in range(50)], device, 20) / 50
        gather = _best(lambda: [table.gather(places, 2, places, 2) for _ in range(10)], device, 20) / 10
        overlay = _best(lambda: lay_over(rectangles, regions, places - 2, places - 2), device, 8) / OVERLAYS**2
    copied = pairs.numel() * pairs.element_size() / displaced
    return Rates(
        flops_per_second=flops / convolution,
        bytes_per_second=copied,
        # A busy moment may have slowed down what is in the caches: they are no slower than memory.
        cached_bytes_per_second=max(copied, 2 * rows.numel() * rows.element_size() / cached),
        cache_bytes=cache,
        seconds_per_call=call,
        seconds_per_gather=gather,
        seconds_per_overlay=overlay,
        reduced=tuple(_reduced(image, weight, flops / convolution, device)),
    )


def _reduced(image: torch.Tensor, weight: torch.Tensor, rate: float, device: str) -> Iterator[tuple[str, float]]:
    """Operations a second of a convolution in the precisions that the device computes in.

    Each takes turns with float32, and its rate is so many times float32's `rate`: a machine that is busy for a moment
    slows both down, and a precision that is faster is not taken for one that is not.

    Args:
        image: [N, C, H, W] in float32.
        weight: [K, C, 3, 3] in float32.
        rate: operations a second of this convolution in float32.
        device: a torch device string.
    """
    for precision in REDUCED_PRECISIONS:
        dtype = getattr(torch, precision)
        try:
            faster = _times_as_fast(image[:1], weight, dtype, device)
            if faster >= SLOWEST:  # below, it is emulated and of no use: many windows would take too long
                faster = _times_as_fast(image, weight, dtype, device)
        except RuntimeError:  # torch has no such convolution on this device
            continue
        yield precision, rate * faster


def _times_as_fast(image: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype, device: str) -> float:
    """How many times as fast as in its own precision a convolution is in another."""
    own, other = _seconds_each(
        [partial(torch.conv2d, image, weight), partial(torch.conv2d, image.to(dtype), weight.to(dtype))], device
    )
    return own / other


def cache_bytes(device: str) -> float:
    """How much the caches nearest to the cores hold, all cores that torch uses together."""
    if device.startswith("cuda"):
        return float(torch.cuda.get_device_properties(device).L2_cache_size)
    try:
        size = os.sysconf("SC_LEVEL2_CACHE_SIZE")
    except (AttributeError, ValueError, OSError):  # only glibc knows
        size = 0
    return float(size if size > 0 else SMALL_CACHE) * torch.get_num_threads()


def measure_layers(
    shapes: Iterable[LayerShape],
    device: str,
    progress: Callable[[int, int], None] | None = None,
    reduced: Sequence[str] = (),
) -> Iterator[LayerRate]:
    """Measures every algorithm that can compute a layer, shape by shape, each shape's rates given out when it is done.

    In float32, and torch's own convolution in the `reduced` precisions too: 'direct bfloat16'. A layer takes about
    `SECONDS` per algorithm; stopping in between keeps what was measured so far.

    Args:
        device: a torch device string, such as 'cpu' or 'cuda:0'.
        progress: called after each shape with how many are done, and how many there are.
    """
    wanted = tuple(shapes)
    for done, shape in enumerate(wanted, start=1):
        # Not around the yield: the reader of a rate is outside.
        with _measuring(device):
            prepared = {name: prepare(shape, windows_of(shape), device) for name, prepare in ALGORITHMS.items()}
            for precision in reduced:
                dtype = getattr(torch, precision)
                prepared[f"{DIRECT} {precision}"] = _direct(shape, windows_of(shape), device, dtype)
            able = {name: work for name, work in prepared.items() if work is not None}
            took = _seconds_each([work for work, _ in able.values()], device)
        for (name, (_, flops)), seconds in zip(able.items(), took, strict=True):
            yield LayerRate(shape, name, flops / seconds)
        if progress is not None:
            progress(done, len(wanted))


def windows_of(shape: LayerShape) -> int:
    """How many read windows a run computes."""
    return max(1, min(WINDOWS, int(MOST_FLOPS / (shape.flops * SIDE * SIDE))))


@contextmanager
def _measuring(device: str) -> Iterator[None]:
    """Torch as queries run it; the caller's random numbers go on where they were."""
    with own_torch_state(torch.device(device).type), same_random_numbers_after(), torch.inference_mode():
        yield


def _direct(shape: LayerShape, windows: int, device: str, dtype: torch.dtype = torch.float32) -> tuple[Work, float]:
    """Torch's own convolution, which does every operation that the sum has."""
    height, width = ((SIDE - 1) * stride + size for stride, size in zip(shape.stride, shape.kernel, strict=True))
    image = _random(windows, shape.in_channels, height, width, device=device)
    weight = _random(shape.out_channels, shape.in_channels // shape.groups, *shape.kernel, device=device)
    work = partial(torch.conv2d, image.to(dtype), weight.to(dtype), None, shape.stride, 0, 1, shape.groups)
    return work, windows * SIDE * SIDE * shape.flops


def _winograd(side: int, shape: LayerShape, windows: int, device: str) -> tuple[Work, float] | None:
    """Winograd's method on as large differences, in blocks of about `side` cells per side; its products are counted."""
    blocks = blocks_for(shape.kernel)
    if not blocks or shape.stride != (1, 1) or shape.groups != 1:
        return None
    block, smallest = (min(blocks, key=partial(_distance, wanted)) for wanted in (side, min(WINOGRAD)))
    if side != min(WINOGRAD) and block == smallest:
        return None  # it has none so large
    weight = _random(shape.out_channels, shape.in_channels, *shape.kernel, device=device)
    layer = Winograd.prepare(weight, block)
    new = torch.randn(windows, SIDE, SIDE, shape.in_channels, device=device)
    base = torch.randn(1, SIDE, SIDE, shape.in_channels, device=device)
    target = torch.zeros(windows, layer.reach(SIDE, 0), layer.reach(SIDE, 1), shape.out_channels, device=device)
    count = windows * blocks_of(SIDE, block[0]) * blocks_of(SIDE, block[1])
    products = 2.0 * count * layer.points[0] * layer.points[1] * shape.in_channels * shape.out_channels
    return partial(layer.add, new, base, target, Workspace()), products


def _distance(side: int, block: Block) -> int:
    return distance(block, side)


#: By name, what an algorithm runs for a layer on so many read windows and how many operations that does; None where it
#: cannot compute that layer.
ALGORITHMS: Mapping[str, Callable[[LayerShape, int, str], tuple[Work, float] | None]] = {
    DIRECT: _direct,
    **{name: partial(_winograd, side) for side, name in WINOGRAD.items()},
}


def _random(*size: int, device: str) -> torch.Tensor:
    return torch.randn(*size, device=device, dtype=torch.float32).contiguous(memory_format=torch.channels_last)


def _seconds_each(works: Sequence[Work], device: str) -> list[float]:
    """Seconds of one run of each, the best of those that fit into `SECONDS`. The first is not counted: it prepares.

    They take turns, so that a machine that is busy for a moment slows them all down, and not one of them.
    """
    deadline = time.perf_counter() + SECONDS * len(works)
    for work in works:
        _timed(work, device, 1)
    best = [_timed(work, device, 1) for work in works]
    together = [1 + int(SHORTEST / seconds) for seconds in best]
    runs = 1
    while runs < RUNS or time.perf_counter() < deadline:
        for index, (work, times) in enumerate(zip(works, together, strict=True)):
            best[index] = min(best[index], _timed(work, device, times) / times)
        runs += 1
    return best


def _best(work: Work, device: str, runs: int) -> float:
    return min(_timed(work, device, 1) for _ in range(runs + 1))


def _timed(work: Work, device: str, times: int) -> float:
    """Seconds that the work takes so many times in a row."""
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(times):
        work()
    if cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
