"""Regions against brute force: occlude, run the whole network, and look which activations really changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.network import AxisWindow, Grid, trace
from kryptondb.network.regions import Spans, equation_size, regions, through_window
from tests.networks import FAMILIES, family, small_cnns


@st.composite
def windows(draw: st.DrawFn) -> AxisWindow:
    size, stride = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    before, inputs = draw(st.integers(0, size - 1)), draw(st.integers(8, 40))
    return AxisWindow(size, stride, before, inputs, (inputs + before - size) // stride + 1)


@given(windows(), st.data())
def test_a_span_holds_exactly_the_outputs_that_read_a_changed_input(window: AxisWindow, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, window.inputs - 1))
    last = data.draw(st.integers(first, window.inputs - 1))
    reading = [
        o
        for o in range(window.outputs)
        if o * window.stride - window.before <= last and o * window.stride - window.before + window.size > first
    ]
    spans = through_window(Spans(np.array([first]), np.array([last])), window)
    if reading:
        assert (spans.first[0], spans.last[0]) == (reading[0], reading[-1])
    else:
        assert spans.sizes[0] == 1


@given(windows(), st.data())
def test_a_span_is_never_larger_than_equation_23_says(window: AxisWindow, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, window.inputs - 1))
    last = data.draw(st.integers(first, window.inputs - 1))
    spans = through_window(Spans(np.array([first]), np.array([last])), window)
    assert spans.sizes[0] <= equation_size(last - first + 1, window)


def test_figure_4_a_window_as_wide_as_its_stride_changes_one_output_less_than_the_equation_says() -> None:
    window = AxisWindow(size=3, stride=3, before=0, inputs=12, outputs=4)
    aligned = through_window(Spans(np.array([3]), np.array([5])), window)
    across = through_window(Spans(np.array([4]), np.array([6])), window)
    assert (aligned.sizes[0], across.sizes[0], equation_size(3, window)) == (1, 2, 2)


def test_figure_4_a_patch_at_the_border_reaches_less_far_than_one_in_the_middle() -> None:
    window = AxisWindow(size=3, stride=1, before=1, inputs=9, outputs=9)
    spans = through_window(Spans(np.array([0, 4]), np.array([1, 5])), window)
    assert spans.sizes.tolist() == [3, 4]


def changed_outside_regions(
    module: torch.nn.Module, shape: tuple[int, int, int], grid: Grid, every: int = 1
) -> list[str]:
    """Names of nodes with a change outside the region; empty when the regions hold."""
    network = trace(module, shape)
    assert network.traced, network.failure
    located = regions(network, grid)
    generator = torch.random.manual_seed(0)
    image = torch.randn(1, *shape, dtype=torch.float64, generator=generator)
    watched = [node.index for node in network.nodes if located.y[node.index] is not None]
    wrong = []
    with torch.inference_mode():
        _, base = network.run(image, keep=watched)
        for number in range(0, grid.size, every):
            row, col = divmod(number, grid.cols)
            y, x = int(grid.ys[row]), int(grid.xs[col])
            occluded = image.clone()
            occluded[:, :, y : y + grid.patch[0], x : x + grid.patch[1]] = 3.0
            _, values = network.run(occluded, keep=watched)
            for index in watched:
                node, vertical, horizontal = network.nodes[index], located.y[index], located.x[index]
                assert node.axes is not None and vertical is not None and horizontal is not None
                different = (values[index] != base[index]).movedim((node.axes.y, node.axes.x), (0, 1))
                changed = different.flatten(2).any(2)
                changed[
                    vertical.first[row] : vertical.last[row] + 1, horizontal.first[col] : horizontal.last[col] + 1
                ] = False
                if bool(changed.any()):
                    wrong.append(f"{node.name} at {row}, {col}")
    return wrong


@given(small_cnns(), st.data())
@settings(max_examples=40, deadline=None)
def test_nothing_changes_outside_the_region_in_any_cnn(
    drawn: tuple[torch.nn.Module, tuple[int, int, int]], data: st.DataObject
) -> None:
    module, shape = drawn
    patch = (data.draw(st.integers(1, shape[1])), data.draw(st.integers(1, shape[2])))
    grid = Grid(shape[1], shape[2], patch, (data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))))
    assert changed_outside_regions(module, shape, grid, every=max(1, grid.size // 6)) == []


@pytest.mark.parametrize("name", ["resnet18", "inception_v3", "googlenet", "shufflenet_v2_x0_5", "convnext_tiny"])
def test_nothing_changes_outside_the_region_in_real_architectures(name: str) -> None:
    size = FAMILIES[name]
    grid = Grid(size, size, (7, 5), (size // 3, size // 4))
    assert changed_outside_regions(family(name).double(), (3, size, size), grid, every=3) == []
