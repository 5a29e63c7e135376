"""NaN and infinity: whatever is fast, they become what torch makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kryptondb.executor.kernels.choice import blocks_for, transformable
from kryptondb.executor.operators import Full, ImageContext, Incremental
from kryptondb.network import Grid, Network, trace
from kryptondb.network.finite import hiding, watched
from tests.networks import Gate, Mean

SIZE = 12
INF, NAN = float("inf"), float("nan")


class Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def convolution(channels: int, out: int, scale: float = 1.0) -> nn.Conv2d:
    layer = nn.Conv2d(channels, out, 3, padding=1)
    with torch.no_grad():
        layer.weight.mul_(scale)
    return layer


def one_sign(scale: float) -> nn.Conv2d:
    layer = convolution(4, 4, scale)
    with torch.no_grad():
        layer.weight.abs_()
    return layer


BODIES: dict[str, Callable[[], list[nn.Module]]] = {
    "ReLU": lambda: [convolution(4, 4), nn.ReLU(), convolution(4, 4)],
    "ReLU6": lambda: [convolution(4, 4), nn.ReLU6(), convolution(4, 4), nn.Hardswish()],
    "clamps": lambda: [convolution(4, 4), nn.Hardtanh(-0.5, 0.5), Function(lambda x: x.clamp(min=-0.1))],
    "maxima": lambda: [nn.MaxPool2d(3, 2, 1), convolution(4, 4), nn.ReLU()],
    "averages": lambda: [nn.AvgPool2d(3, 2, 1), convolution(4, 4), nn.ReLU()],
    "batch norms": lambda: [convolution(4, 4), nn.BatchNorm2d(4), nn.ReLU(), convolution(4, 4)],
    "a gate": lambda: [convolution(4, 4), nn.ReLU(), Gate(4), convolution(4, 4), nn.ReLU()],
    "cleaned": lambda: [convolution(4, 4), nn.ReLU(), Function(lambda x: torch.nan_to_num(x, 1.0, 2.0, 3.0))],
    "overflow": lambda: [convolution(4, 4, 1e25), nn.ReLU(), convolution(4, 4, 1e25), nn.ReLU(), convolution(4, 4)],
    # Of infinities of both signs, the order of a sum decides which are NaN: these are of one.
    "overflow before a clamp": lambda: [nn.ReLU(), one_sign(1e30), one_sign(1e30), nn.ReLU6(), convolution(4, 4)],
    "roots": lambda: [Function(lambda x: torch.sqrt(x - 0.1)), convolution(4, 4), nn.ReLU()],
    "logarithms": lambda: [Function(torch.log), convolution(4, 4), nn.ReLU6(), convolution(4, 4)],
    "quotients": lambda: [Function(lambda x: x / x.sum(1, keepdim=True)), convolution(4, 4), nn.ReLU()],
}


def network_of(body: list[nn.Module]) -> tuple[nn.Module, Network]:
    torch.manual_seed(0)
    module = nn.Sequential(convolution(3, 4), *body, Mean(), nn.Linear(4, 3)).eval()
    return module, trace(module, (3, SIZE, SIZE), "none")


def operators(network: Network) -> list[Any]:
    able = [(node.index, transformable(network, node)) for node in network.nodes]
    winograd = tuple((index, *blocks_for(shape.kernel)[0]) for index, shape in able if shape is not None)
    return [Full(3), Incremental((2, 2)), Incremental((2, 3), winograd), Incremental((1, 1), head=3)]


def scores_of(operator: Any, network: Network, image: torch.Tensor, grid: Grid, fill: float) -> torch.Tensor:
    def patches(ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
        return torch.full((len(ys), 3, *grid.patch), fill)

    mask = np.ones((grid.rows, grid.cols), dtype=bool)
    context = ImageContext(network, grid, mask, image, patches, lambda output: output.numpy())
    found = torch.empty(grid.rows, grid.cols, network.classes)
    with torch.inference_mode():
        operator.prepare(context)
        for scores in operator.run(context):
            found[scores.rows, scores.cols] = torch.from_numpy(scores.scores)
    return found


def naive(module: nn.Module, image: torch.Tensor, grid: Grid, fill: float) -> torch.Tensor:
    rows = []
    with torch.inference_mode():
        for y in grid.ys.tolist():
            for x in grid.xs.tolist():
                occluded = image.clone()
                occluded[:, :, y : y + grid.patch[0], x : x + grid.patch[1]] = fill
                rows.append(module(occluded)[0])
    return torch.stack(rows).view(grid.rows, grid.cols, -1)


def agree(module: nn.Module, network: Network, image: torch.Tensor, fill: float) -> None:
    grid = Grid(SIZE, SIZE, (3, 3), (4, 4))
    expected = naive(module, image, grid, fill)
    if network.traced:
        image = image.contiguous(memory_format=torch.channels_last)
    for operator in operators(network) if network.traced else [Full(3)]:
        found = scores_of(operator, network, image, grid, fill)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def picture(*odd: float) -> torch.Tensor:
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) + 0.5
    for place, number in enumerate(odd):
        image[0, place, 5 + place, 5] = number
    return image


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("fill", [0.0, NAN, INF, -INF, 1e30], ids=str)
def test_a_fill_that_is_not_finite_or_becomes_so_gives_torchs_scores(name: str, fill: float) -> None:
    module, network = network_of(BODIES[name]())
    assert network.traced, network.failure
    agree(module, network, picture(), fill)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("odd", [(NAN,), (INF,), (INF, -INF)], ids=str)
def test_a_picture_that_is_not_finite_gives_torchs_scores_also_where_the_patch_covers_that(
    name: str, odd: tuple[float, ...]
) -> None:
    module, network = network_of(BODIES[name]())
    agree(module, network, picture(*odd), 0.5)


@pytest.mark.parametrize("number", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("layer", [0, 1, -1])
@pytest.mark.parametrize("name", ["ReLU", "batch norms", "a gate"])
def test_weights_that_are_not_finite_give_torchs_scores(name: str, layer: int, number: float) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(convolution(3, 4), *BODIES[name](), Mean(), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        module[layer].weight.view(-1)[0] = number
    network = trace(module, (3, SIZE, SIZE), "none")
    assert network.damaged == (layer != -1)
    agree(module, network, picture(), 0.25)


def test_ordinary_networks_are_watched_at_few_places() -> None:
    deep = [layer for _ in range(12) for layer in (convolution(4, 4), nn.ReLU())]
    _, network = network_of(deep)
    delicate = hiding(network)
    assert delicate
    assert 1 <= len(watched(network, delicate, False)) <= 3
