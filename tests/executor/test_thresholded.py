"""Projective field thresholding against its definition: after each node, all outside the capped region is as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.executor.kernels.choice import blocks_for, transformable
from kryptondb.executor.operators import ImageContext, Incremental, Scores, Thresholded
from kryptondb.executor.operators.thresholded import TAUS
from kryptondb.network import Cap, Grid, Network, trace
from kryptondb.network.regions import regions
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Workload
from tests.executor.test_operators import drawn_cells, full_mask, patches_for, probabilities, run
from tests.networks import FAMILIES, HalfAndHalf, family, for_families, small_cnns, standardized, traced_family


def reference(network: Network, image: torch.Tensor, grid: Grid, cap: Cap, mask: np.ndarray) -> np.ndarray:
    """Whole pictures through one node after the other; what lies outside a node's region is set back to the base."""
    located, patches = regions(network, grid, cap), patches_for(image, grid)
    every = set(range(len(network.nodes)))
    base: dict[int, Any] = {}
    answers = []
    with torch.inference_mode():
        for node in network.nodes:
            base[node.index] = network.run_node(node, base, image, 1, every)
        for row, col in zip(*np.nonzero(mask), strict=True):
            y, x = grid.ys[row], grid.xs[col]
            occluded = image.clone()
            occluded[:, :, y : y + grid.patch[0], x : x + grid.patch[1]] = patches(grid.ys[[row]], grid.xs[[col]])
            values: dict[int, Any] = {}
            for node in network.nodes:
                value = network.run_node(node, values, occluded, 1, every)
                vertical, horizontal = located.y[node.index], located.x[node.index]
                if vertical is not None and horizontal is not None:
                    assert node.axes is not None
                    region: list[slice] = [slice(None)] * value.ndim
                    region[node.axes.y] = slice(vertical.first[row], vertical.last[row] + 1)
                    region[node.axes.x] = slice(horizontal.first[col], horizontal.last[col] + 1)
                    kept = base[node.index].clone()
                    kept[tuple(region)] = value[tuple(region)]
                    value = kept
                values[node.index] = value
            answers.append(probabilities(values[network.output])[0])
    return np.array(answers)


def scores(operator: Any, network: Network, image: torch.Tensor, grid: Grid) -> list[Scores]:
    context = ImageContext(network, grid, full_mask(grid), image, patches_for(image, grid), probabilities)
    with torch.inference_mode():
        operator.prepare(context)
        return list(operator.run(context))


@pytest.mark.slow
@given(small_cnns(), st.data())
@settings(max_examples=60, deadline=None)
def test_any_cnn_gives_what_the_definition_says_and_with_a_cap_of_one_what_incremental_does_bit_for_bit(
    drawn: tuple[torch.nn.Module, tuple[int, int, int]], data: st.DataObject
) -> None:
    module, shape = drawn
    grid, image, mask = drawn_cells(shape, data)
    network = trace(module, shape)
    cap = Cap(data.draw(st.floats(0.05, 1.0)), data.draw(st.floats(0.05, 1.0)))
    expected = reference(network, image, grid, cap, mask)
    tile = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
    head = data.draw(st.sampled_from([0, 7]))
    exact = run(Incremental(tile, (), head), network, image, grid, mask)
    whole = run(Thresholded(tile, (), head, cap=Cap(1.0, 1.0)), network, image, grid, mask)
    np.testing.assert_array_equal(whole, exact)
    found = run(Thresholded(tile, (), head, cap=cap), network, image, grid, mask)
    np.testing.assert_allclose(found, expected, atol=1e-9, rtol=0)
    winograd = tuple(
        (node.index, *data.draw(st.sampled_from(blocks_for(layer.kernel))))
        for node in network.nodes
        if (layer := transformable(network, node)) is not None
    )
    if winograd:
        found = run(Thresholded(tile, winograd, head, cap=cap), network, image, grid, mask)
        np.testing.assert_allclose(found, expected, atol=1e-9, rtol=0)


@for_families("vgg11", "resnet18", "squeezenet1_1")
def test_real_architectures_give_what_the_definition_says(name: str) -> None:
    subject = traced_family(name)
    network, image, size = subject.network, subject.image, subject.size
    grid = Grid(size, size, (size // 6, size // 6), (size // 4, size // 4))
    mask = full_mask(grid)
    exact = run(Incremental((2, 2)), network, image, grid, mask)
    np.testing.assert_array_equal(run(Thresholded((2, 2), cap=Cap(1.0, 1.0)), network, image, grid, mask), exact)
    for cap in (Cap(0.5, 0.5), Cap(0.6, 0.3)):
        found = run(Thresholded((2, 2), cap=cap), network, image, grid, mask)
        np.testing.assert_allclose(found, reference(network, image, grid, cap, mask), atol=1e-5, rtol=0)
        assert np.abs(found - exact).max() > 1e-4, "the cap cuts nothing off: the test shows nothing"


def test_a_branch_that_has_grown_to_the_whole_picture_is_cut_where_it_is_merged() -> None:
    # What goes on as it is covers all of 2 x 2 cells, a cap of one half leaves one of them where the halves meet again.
    halves = HalfAndHalf(torch.nn.Conv2d(1, 1, 2, padding="same"))
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 4, stride=2), halves, torch.nn.Flatten())
    module.append(torch.nn.Linear(8, 5)).eval()
    image = torch.randn(1, 1, 6, 6, dtype=torch.float64, generator=torch.random.manual_seed(2))
    network = trace(standardized(module.double(), image), (1, 6, 6))
    grid, cap = Grid(6, 6, (3, 3), (1, 1)), Cap(1.0, 0.5)
    mask = full_mask(grid)
    found = run(Thresholded((2, 2), cap=cap), network, image, grid, mask)
    np.testing.assert_allclose(found, reference(network, image, grid, cap, mask), atol=1e-9, rtol=0)
    assert np.abs(found - run(Incremental((2, 2)), network, image, grid, mask)).max() > 1e-4


def test_cells_that_no_cap_touches_are_exact_and_say_so() -> None:
    # Three layers make a patch of 4 cells 10 cells wide, 7 at the border; the cap cuts off at 9.
    module = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)), torch.nn.Flatten())
    module.append(torch.nn.Linear(3 * 24 * 24, 5)).eval()
    image = torch.randn(1, 3, 24, 24, generator=torch.random.manual_seed(2))
    network = trace(standardized(module, image), (3, 24, 24))
    grid = Grid(24, 24, (4, 4), (4, 4))
    exact, found = (np.full((6, 6, network.classes), np.nan) for _ in range(2))
    for block in scores(Incremental((2, 2)), network, image, grid):
        assert np.all(block.exact)
        exact[block.rows, block.cols] = block.scores
    said = np.zeros((6, 6), dtype=bool)
    for block in scores(Thresholded((2, 2), cap=Cap(0.375, 0.375)), network, image, grid):
        said[block.rows, block.cols] = block.exact
        found[block.rows, block.cols] = block.scores
    assert np.argwhere(said).tolist() == [[0, 0], [0, 5], [5, 0], [5, 5]]
    np.testing.assert_allclose(found[said], exact[said], atol=1e-6, rtol=0)
    assert (np.abs(found[~said] - exact[~said]).max(1) > 1e-6).all()


def test_a_run_counts_the_operations_that_were_estimated_and_they_fall_with_tau() -> None:
    size = FAMILIES["resnet18"]
    image = torch.randn(1, 3, size, size, generator=torch.random.manual_seed(2))
    network = trace(family("resnet18"), (3, size, size))
    grid = Grid(size, size, (8, 8), (8, 8))
    workload = Workload(network, grid, None, 1, "cpu", 1 << 30)
    (exact,) = Incremental.candidates(workload, Rates(), {})
    flops = [exact.estimate(workload, Rates()).flops]
    for tau in (0.8, 0.5, 0.2):
        (operator,) = Thresholded.candidates(workload, Rates(), {"tau": tau})
        assert isinstance(operator, Thresholded) and operator.cap == Cap(tau, tau)
        cost = operator.estimate(workload, Rates())
        context = ImageContext(network, grid, full_mask(grid), image, patches_for(image, grid), probabilities)
        with torch.inference_mode():
            operator.prepare(context)
            assert sum(len(block.rows) for block in operator.run(context)) == grid.size
        assert context.flops == pytest.approx(cost.flops)
        flops.append(cost.flops)
    assert flops == sorted(flops, reverse=True) and len(set(flops)) == 4


def test_without_a_hint_there_is_a_candidate_for_every_share_of_the_ladder() -> None:
    network = trace(family("vgg11"), (3, 32, 32))
    workload = Workload(network, Grid(32, 32, (8, 8), (8, 8)), None, 1, "cpu", 1 << 30)
    found = Thresholded.candidates(workload, Rates(), {"batch": 4})
    assert [operator.cap for operator in found if isinstance(operator, Thresholded)] == [Cap(tau, tau) for tau in TAUS]
    assert found[0].describe(workload).startswith("tau 0.8, float32, tiles 2 x 2")
