"""Transforms and convolutions of differences against direct convolution in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.executor.kernels.choice import blocks_for
from kryptondb.executor.kernels.winograd import MOST_POINTS, Winograd, Workspace, transforms

KERNELS = [(3, 3), (1, 7), (7, 1), (1, 3), (5, 5), (2, 2), (3, 5)]


@pytest.mark.parametrize("taps", range(1, 8))
def test_transforms_multiply_polynomials(taps: int) -> None:
    for cells in range(1, MOST_POINTS - taps + 2):
        found = transforms(cells, taps)
        values, weights = np.random.default_rng(cells).standard_normal((2, max(cells, taps)))
        products = (found.input @ values[:cells]) * (found.kernel @ weights[:taps])
        np.testing.assert_allclose(found.output @ products, np.convolve(values[:cells], weights[:taps]), atol=1e-11)


def test_more_points_than_are_accurate_are_refused() -> None:
    with pytest.raises(ValueError, match="no accurate transform of 9 cells and 3 taps"):
        transforms(9, 3)


@given(st.sampled_from(KERNELS), st.data())
@settings(deadline=None, max_examples=60)
def test_what_a_difference_adds_is_its_full_convolution(kernel: tuple[int, int], data: st.DataObject) -> None:
    block = data.draw(st.sampled_from(blocks_for(kernel)))
    height, width = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 13))
    torch.manual_seed(height * 16 + width)
    weight = torch.randn(5, 3, *kernel, dtype=torch.float64)
    new = torch.randn(2, height, width, 3, dtype=torch.float64)
    base = torch.randn(data.draw(st.sampled_from([1, 2])), height, width, 3, dtype=torch.float64)
    layer = Winograd.prepare(weight, block)
    before = torch.randn(2, layer.reach(height, 0), layer.reach(width, 1), 5, dtype=torch.float64)
    target = before.clone()
    layer.add(new, base, target, Workspace())
    padding = (kernel[0] - 1, kernel[1] - 1)
    full = torch.conv2d((new - base).permute(0, 3, 1, 2), weight, padding=padding).permute(0, 2, 3, 1)
    expected = before.clone()
    expected[:, : full.shape[1], : full.shape[2]] += full
    torch.testing.assert_close(target, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_block_is_accurate_in_float32_on_ordinary_weights(kernel: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(16, 64, *kernel, generator=generator) / (64 * kernel[0] * kernel[1]) ** 0.5
    new = torch.randn(1, 12, 12, 64, generator=generator).relu()
    full = torch.conv2d(new.permute(0, 3, 1, 2).double(), weight.double(), padding=(kernel[0] - 1, kernel[1] - 1))
    full = full.permute(0, 2, 3, 1)
    for block in blocks_for(kernel):
        layer = Winograd.prepare(weight, block)
        target = torch.zeros(1, layer.reach(12, 0), layer.reach(12, 1), 16)
        layer.add(new, torch.zeros_like(new), target, Workspace())
        error = target[:, : full.shape[1], : full.shape[2]].double() - full
        assert float(error.square().mean().sqrt() / full.square().mean().sqrt()) < 1.5e-5, block


def test_a_1_x_1_kernel_has_no_blocks_and_a_large_one_few() -> None:
    assert blocks_for((1, 1)) == ()
    assert blocks_for((11, 11)) == ()
    assert (1, 4) in blocks_for((1, 7)) and (1, 5) not in blocks_for((1, 7))


def test_a_workspace_hands_the_same_memory_out_again_and_grows() -> None:
    workspace, like = Workspace(), torch.zeros(1)
    first = workspace.take("a", (4, 5), like)
    assert workspace.take("a", (2, 3), like).data_ptr() == first.data_ptr()
    assert workspace.take("b", (4, 5), like).data_ptr() != first.data_ptr()
    assert workspace.take("a", (40, 5), like).shape == (40, 5)
    assert workspace.take("a", (2,), like.double()).dtype == torch.float64
