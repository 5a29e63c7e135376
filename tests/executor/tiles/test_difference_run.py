"""Tiles whose regions hold differences: unrounded against the naive loop, and rounded beside a network that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kryptondb.errors import PlanError
from kryptondb.executor.operators import DrillDown, Full, ImageContext, Incremental, Refined, Thresholded
from kryptondb.executor.quality import ssim
from kryptondb.network import Cap, Grid, Network, trace
from kryptondb.network.differences import effects_of
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.plan_json import decode, encode
from kryptondb.optimizer.workload import Workload
from tests.executor.test_operators import drawn_cells, full_mask, naive, patches_for, probabilities, run
from tests.executor.test_thresholded import reference
from tests.networks import family, for_families, small_cnns, standardized, traced_family


def run_on_differences(
    operator: Any, network: Network, image: torch.Tensor, grid: Grid, mask: np.ndarray, dtype: torch.dtype | None = None
) -> np.ndarray:
    """The probabilities of the mask's cells, in reading order; differences are rounded to `dtype`, or not at all."""
    rounded = network if dtype is None else network.to("cpu", dtype)
    context = ImageContext(network, grid, mask, image, patches_for(image, grid), probabilities, rounded=rounded)
    cells = np.full((grid.rows, grid.cols, network.classes), np.nan)
    with torch.inference_mode():
        operator.prepare(context)
        for scores in operator.run(context):
            cells[scores.rows, scores.cols] = scores.scores
    return cells[mask]


@pytest.mark.slow
@given(small_cnns(), st.data())
@settings(max_examples=80, deadline=None)
def test_differences_that_are_not_rounded_give_what_the_naive_loop_does_on_any_cnn(
    drawn: tuple[nn.Module, tuple[int, int, int]], data: st.DataObject
) -> None:
    module, shape = drawn
    grid, image, mask = drawn_cells(shape, data)
    network = trace(module, shape)
    tile = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
    head, workers = data.draw(st.sampled_from([0, 1, 7])), data.draw(st.sampled_from([1, 2]))
    found = run_on_differences(Incremental(tile, (), head, workers, rounded=True), network, image, grid, mask)
    np.testing.assert_allclose(found, naive(module, image, grid, mask), atol=1e-9, rtol=0)
    cap = Cap(data.draw(st.floats(0.05, 1.0)), data.draw(st.floats(0.05, 1.0)))
    found = run_on_differences(Thresholded(tile, (), head, rounded=True, cap=cap), network, image, grid, mask)
    np.testing.assert_allclose(found, reference(network, image, grid, cap, mask), atol=1e-9, rtol=0)


@for_families()
def test_every_torchvision_family_agrees_with_full_inference(name: str) -> None:
    subject = traced_family(name)
    network, image, size = subject.network, subject.image, subject.size
    grid = Grid(size, size, (size // 4, size // 4), (size // 3, size // 3))
    mask = full_mask(grid)
    found = run_on_differences(Incremental((2, 2), rounded=True), network, image, grid, mask)
    np.testing.assert_allclose(found, run(Full(4), network, image, grid, mask), atol=1e-5, rtol=0)


@for_families("vgg11", "resnet18", "mobilenet_v3_small", "inception_v3")
def test_rounded_differences_lose_a_small_part_of_what_rounded_activations_do(name: str) -> None:
    subject = traced_family(name)
    network, image, size = subject.network, subject.image, subject.size
    grid = Grid(size, size, (size // 8, size // 8), (size // 8, size // 8))
    mask = full_mask(grid)
    exact = run(Incremental((4, 4)), network, image, grid, mask)
    rounded, half = network.to("cpu", torch.bfloat16), image.bfloat16()
    activations = run(Incremental((4, 4)), rounded, half, grid, mask)
    differences = run_on_differences(
        Incremental((4, 4), rounded=True), network, image, grid, mask, dtype=torch.bfloat16
    )
    errors = [np.sqrt(((found - exact) ** 2).mean()) for found in (activations, differences)]
    assert 0 < errors[1] < errors[0] / 4
    shape = (grid.rows, grid.cols)
    likeness = min(ssim(e.reshape(shape), d.reshape(shape)) for e, d in zip(exact.T, differences.T, strict=True))
    assert likeness > 0.99


class Odd(nn.Module):
    """Operators that a difference must not go through as it is, beside some that it may."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1, groups=3, bias=False)
        self.shared = nn.Parameter(torch.randn(6))
        self.norm = nn.BatchNorm2d(6)
        self.norm.weight = self.shared
        self.norm.running_mean += torch.randn(6)
        self.norm.running_var *= 2
        nn.init.normal_(self.norm.bias)
        self.head = nn.Linear(6, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = nn.functional.conv2d(image, self.first.weight, self.shared, stride=2, padding=1)
        x = nn.functional.pad(x, (1, 1, 1, 1), value=0.7)
        x = torch.cat([x, x.clamp(-0.3, 0.4)], 1)[:, 2:8] * self.shared[None, :, None, None]
        y = nn.functional.max_pool2d(self.second(x), 3, 2, 1, ceil_mode=True)
        z = nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False, ceil_mode=True)
        x = nn.functional.hardtanh(y - z) + torch.sigmoid(y) * z + 0.5
        return self.head(self.norm(-x).mean((2, 3)))


@pytest.mark.parametrize("cap", [Cap(1.0, 1.0), Cap(0.5, 0.7)])
def test_operators_that_need_whole_values_get_them(cap: Cap) -> None:
    torch.manual_seed(3)
    module = Odd().double().eval()
    image = torch.randn(1, 3, 21, 24, dtype=torch.float64)
    network = trace(standardized(module, image), (3, 21, 24))
    effects = effects_of(network)
    whole, linear, clamps = (
        [network.nodes[index].operator for index in sorted(found)]
        for found in (effects.whole, effects.linear, effects.clamps)
    )
    # A bias that also scales stays where it is: its convolution sees whole values.
    assert sorted(whole) == ["add", "conv2d", "max_pool2d", "mul", "pad", "sigmoid"]
    assert clamps == ["clamp", "hardtanh"]
    assert {"conv2d", "avg_pool2d", "cat", "slice", "mul", "batch_norm", "sub", "add", "neg"} <= {*linear}
    grid = Grid(21, 24, (5, 4), (3, 3))
    mask = full_mask(grid)
    found = run_on_differences(Thresholded((3, 2), rounded=True, cap=cap), network, image, grid, mask)
    np.testing.assert_allclose(found, reference(network, image, grid, cap, mask), atol=1e-9, rtol=0)


def test_plans_in_a_reduced_precision_round_differences_on_a_processor_and_all_stages_do() -> None:
    network = trace(family("resnet18").eval(), (3, 48, 48))
    work = Workload(network, Grid(48, 48, (8, 8), (4, 4)), None, 1, "cpu", 1 << 32, "bfloat16")
    (plan,) = Incremental.candidates(work, Rates(), {})
    assert plan.rounded and not plan.winograd and plan.describe(work).startswith("bfloat16 differences, tiles ")
    assert decode(encode(plan, ()), Incremental, (), (Incremental,)) == plan
    for kind in (DrillDown, Refined):
        (staged,) = kind.candidates(work, Rates(), {})
        stages = [stage for stage in (staged.accurate, staged.cheap) if stage is not None]
        assert staged.rounded and all(stage.rounded for stage in stages)
    (single,) = Incremental.candidates(Workload(network, work.grid, None, 1, "cpu", 1 << 32), Rates(), {})
    assert not single.rounded
    with pytest.raises(PlanError, match="every convolution runs directly"):
        Incremental((2, 2), ((0, 4, 4),), rounded=True)


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: x * x,
        lambda x: x.mul_(x),
        lambda x: x / (x * x + 1),
        lambda x: (x * x).mean(1, keepdim=True) + x,
        lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    ],
)
def test_what_is_no_linear_function_of_one_picture_sees_whole_values(
    layer: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.last(layer(self.first(x)).mean((2, 3)))
            return scores

    torch.manual_seed(0)
    module = Squared().double().eval()
    grid, image = Grid(12, 12, (4, 4), (2, 2)), torch.rand(1, 3, 12, 12, dtype=torch.float64)
    network, mask = trace(module, (3, 12, 12)), full_mask(grid)
    found = run_on_differences(Incremental((2, 2), rounded=True), network, image, grid, mask)
    np.testing.assert_allclose(found, naive(module, image, grid, mask), atol=1e-9, rtol=0)
