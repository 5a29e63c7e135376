"""Both operators against the naive loop: every position one occluded image through the original module."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.errors import ExecutionError
from kryptondb.executor.kernels.choice import blocks_for, transformable
from kryptondb.executor.operators import Full, ImageContext, Incremental, Scores
from kryptondb.executor.tiles.base import materialize
from kryptondb.executor.tiles.tile_run import TileRun
from kryptondb.executor.tiles.tiles import Tile, even, tiles_of
from kryptondb.executor.tiles.tilings import Tiling, extents_of
from kryptondb.executor.tiles.workers import shrinking
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Workload, mask_of_runs, runs_of_mask
from tests.networks import FAMILIES, Mean, Nhwc, family, for_families, small_cnns, token_layers, traced_family


def probabilities(scores: torch.Tensor) -> np.ndarray:
    return torch.softmax(scores.double(), 1).numpy()


def patches_for(image: torch.Tensor, grid: Grid) -> Any:
    """Patches that differ from position to position, as `patch_mean` and `blur` do."""

    def patches(ys: np.ndarray, xs: np.ndarray) -> torch.Tensor:
        height, width = grid.patch
        covered = [image[0, :, y : y + height, x : x + width] for y, x in zip(ys.tolist(), xs.tolist(), strict=True)]
        return torch.stack([part.mean((1, 2), keepdim=True).expand_as(part) * 0.5 + 1.0 for part in covered])

    return patches


def naive(module: torch.nn.Module, image: torch.Tensor, grid: Grid, mask: np.ndarray) -> np.ndarray:
    patches = patches_for(image, grid)
    rows = []
    with torch.inference_mode():
        for row, col in zip(*np.nonzero(mask), strict=True):
            y, x = grid.ys[row], grid.xs[col]
            occluded = image.clone()
            occluded[:, :, y : y + grid.patch[0], x : x + grid.patch[1]] = patches(grid.ys[[row]], grid.xs[[col]])
            rows.append(probabilities(module(occluded))[0])
    return np.array(rows)


def run(operator: Any, network: Network, image: torch.Tensor, grid: Grid, mask: np.ndarray) -> np.ndarray:
    context = ImageContext(network, grid, mask, image, patches_for(image, grid), probabilities)
    cells = np.full((grid.rows, grid.cols, network.classes), np.nan)
    with torch.inference_mode():
        operator.prepare(context)
        for scores in operator.run(context):
            assert np.isnan(cells[scores.rows, scores.cols]).all(), "a cell was computed twice"
            cells[scores.rows, scores.cols] = scores.scores
    assert (~np.isnan(cells[..., 0]) == mask).all()
    return cells[mask]


def full_mask(grid: Grid) -> np.ndarray:
    return np.ones((grid.rows, grid.cols), dtype=bool)


def drawn_cells(shape: tuple[int, int, int], data: st.DataObject) -> tuple[Grid, torch.Tensor, np.ndarray]:
    """A grid over pictures of a shape, a picture in float64 [1, C, H, W], and some of the grid's cells."""
    patch = (data.draw(st.integers(1, shape[1])), data.draw(st.integers(1, shape[2])))
    grid = Grid(shape[1], shape[2], patch, (data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))))
    image = torch.randn(1, *shape, dtype=torch.float64, generator=torch.random.manual_seed(1))
    mask = np.zeros((grid.rows, grid.cols), dtype=bool)
    mask.flat[data.draw(st.lists(st.integers(0, grid.size - 1), min_size=1, max_size=14, unique=True))] = True
    return grid, image, mask


@pytest.mark.slow
@given(small_cnns(), st.data())
@settings(max_examples=60, deadline=None)
def test_both_operators_agree_with_the_naive_loop_on_any_cnn(
    drawn: tuple[torch.nn.Module, tuple[int, int, int]], data: st.DataObject
) -> None:
    module, shape = drawn
    grid, image, mask = drawn_cells(shape, data)
    network = trace(module, shape)
    assert network.traced, network.failure
    expected = naive(module, image, grid, mask)
    tile = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
    head = data.draw(st.sampled_from([0, 1, 7]))
    np.testing.assert_allclose(
        run(Incremental(tile, (), head), network, image, grid, mask), expected, atol=1e-9, rtol=0
    )
    winograd = tuple(
        (node.index, *data.draw(st.sampled_from(blocks_for(shape.kernel))))
        for node in network.nodes
        if (shape := transformable(network, node)) is not None
    )
    if winograd:
        workers = data.draw(st.sampled_from([1, 2]))
        found = run(Incremental(tile, winograd, head, workers), network, image, grid, mask)
        np.testing.assert_allclose(found, expected, atol=1e-9, rtol=0)
    full = Full(data.draw(st.sampled_from([1, 2, 5])))
    np.testing.assert_allclose(run(full, network, image, grid, mask), expected, atol=1e-9, rtol=0)


@pytest.mark.slow
@given(token_layers(4), token_layers(4), st.data())
@settings(max_examples=10, deadline=None)
def test_a_picture_laid_out_as_tokens_is_updated_where_it_changed(
    first: torch.nn.Module, second: torch.nn.Module, data: st.DataObject
) -> None:
    layers = [torch.nn.Conv2d(3, 4, 3), first, torch.nn.Conv2d(4, 4, 3, 2), second, Mean(), torch.nn.Linear(4, 3)]
    module, shape = torch.nn.Sequential(*layers).double().eval(), (3, 11, 9)
    grid, image, mask = drawn_cells(shape, data)
    network = trace(module, shape)
    found = run(Incremental((2, 3)), network, image, grid, mask)
    np.testing.assert_allclose(found, naive(module, image, grid, mask), atol=1e-9, rtol=0)


@pytest.mark.slow
@given(small_cnns(), st.data())
@settings(max_examples=30, deadline=None)
def test_activations_inside_convolutions_change_no_answer_wherever_others_come_from_differences(
    drawn: tuple[torch.nn.Module, tuple[int, int, int]], data: st.DataObject
) -> None:
    module, shape = drawn
    grid = Grid(shape[1], shape[2], (3, 4), (3, 3))
    image = torch.randn(1, *shape, generator=torch.random.manual_seed(1))
    mask = np.zeros((grid.rows, grid.cols), dtype=bool)
    mask.flat[data.draw(st.lists(st.integers(0, grid.size - 1), min_size=1, max_size=8, unique=True))] = True
    expected = naive(module, image.double(), grid, mask)
    network = trace(module.float(), shape)
    able = ((node.index, transformable(network, node)) for node in network.nodes)
    blocks = [(index, *blocks_for(shape.kernel)[0]) for index, shape in able if shape is not None]
    winograd = tuple(block for block in blocks if data.draw(st.booleans()))
    tile = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    found = run(Incremental(tile, winograd), network, image, grid, mask)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(run(Full(3), network, image, grid, mask), expected, atol=1e-5, rtol=0)


@for_families()
def test_incremental_agrees_with_full_and_with_the_module_on_every_torchvision_family(name: str) -> None:
    subject = traced_family(name)
    size = subject.size
    grid = Grid(size, size, (size // 4, size // 4), (size // 3, size // 3))
    mask = full_mask(grid)
    full = run(Full(4), subject.network, subject.image, grid, mask)
    assert np.ptp(full, axis=0).max() > 1e-3, "the network does not notice the patch: the test shows nothing"
    found = run(Incremental((2, 2)), subject.network, subject.image, grid, mask)
    np.testing.assert_allclose(found, full, atol=1e-5, rtol=0)
    # Rounding aside (random networks amplify it), both are what the untouched module says.
    some = mask.copy()
    some[1:, :] = False
    module, image = copy.deepcopy(subject.module).double(), subject.image.double()
    double = trace(module, (3, size, size))  # in the other, batch norms were folded and rounded
    expected = naive(module, image, grid, some)
    for operator in (Incremental((2, 2)), Full(4)):
        np.testing.assert_allclose(run(operator, double, image, grid, some), expected, atol=1e-9, rtol=0)


def test_a_network_that_turns_its_axes_first_is_incremental_to_the_end() -> None:
    module = Nhwc(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()))
    network = trace(module.eval(), (3, 12, 12))
    assert network.tail is None or network.tail.operator == "flatten"
    image = torch.randn(1, 3, 12, 12)
    grid = Grid(12, 12, (3, 3), (4, 4))
    expected = naive(module, image, grid, full_mask(grid))
    np.testing.assert_allclose(run(Incremental((2, 2)), network, image, grid, full_mask(grid)), expected, atol=1e-6)


SEVERAL_RESULTS = {
    "largest": lambda x: x.flatten(2).max(2)[0],
    "largest and its place": lambda x: sum(x.flatten(2).max(2)),
    "median": lambda x: x.flatten(2).median(2).values,
    "third": lambda x: x.flatten(2).kthvalue(3, 2).values,
    "spread": lambda x: torch.std_mean(x, (2, 3))[0],
    "range": lambda x: torch.aminmax(x.flatten(2), dim=2).max,
    "halves": lambda x: torch.cat(x.mean((2, 3)).split([1, 3], 1)[::-1], 1),
}


@pytest.mark.parametrize("name", SEVERAL_RESULTS)
def test_tiles_may_share_a_head_behind_an_operator_that_gives_several_results(name: str) -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(SEVERAL_RESULTS[name](self.conv(x)))

    network = trace(Network().eval(), (3, 12, 12))
    assert network.traced and network.head is not None
    image = torch.randn(1, 3, 12, 12)
    grid = Grid(12, 12, (3, 3), (4, 4))
    expected = naive(network.module, image, grid, full_mask(grid))
    for head in (0, 9):
        found = run(Incremental((2, 2), head=head), network, image, grid, full_mask(grid))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_tail_is_named_with_its_reason() -> None:
    network = trace(family("mobilenet_v3_small").eval(), (3, 48, 48))
    assert network.tail is not None
    assert network.tail.operator == "mul"
    assert "changes with any of them" in network.tail.reason


def test_a_module_that_cannot_be_traced_answers_by_the_full_operator() -> None:
    class Undecided(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.linear(x.mean((2, 3)))
            return scores if float(scores.detach().sum()) > 0 else scores * 2

    module = Undecided().eval()
    network = trace(module, (3, 8, 8))
    assert not network.traced and network.failure
    grid = Grid(8, 8, (4, 4), (4, 4))
    image = torch.randn(1, 3, 8, 8)
    workload = Workload(network, grid, None, 1, "cpu", 1 << 30)
    assert Incremental.candidates(workload, Rates(), {}) == []
    (full,) = Full.candidates(workload, Rates(), {"batch": 1})
    expected = naive(module, image, grid, full_mask(grid))
    np.testing.assert_allclose(run(full, network, image, grid, full_mask(grid)), expected, atol=1e-6)


def test_a_network_that_normalizes_over_the_batch_runs_images_one_by_one() -> None:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4, track_running_stats=False), torch.nn.Flatten(),
        torch.nn.Linear(4 * 36, 3),
    ).eval()  # fmt: skip
    network = trace(module, (3, 8, 8))
    workload = Workload(network, Grid(8, 8, (4, 4), (4, 4)), None, 1, "cpu", 1 << 30)
    assert Incremental.candidates(workload, Rates(), {}) == []
    assert Full.candidates(workload, Rates(), {}) == [Full(1)]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
def test_tiles_hold_every_asked_cell_once_and_no_other(rows: int, cols: int, seed: int, tall: int, wide: int) -> None:
    mask = np.random.default_rng(seed).random((rows, cols)) < 0.6
    counts = np.zeros((rows, cols), dtype=int)
    for tile in tiles_of(mask, (tall, wide)):
        counts[np.ix_(tile.rows, tile.cols)] += 1
        assert len(tile.rows) <= tall and len(tile.cols) <= wide
    assert (counts == mask).all()


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.9])
def test_cells_without_a_pattern_come_in_few_tiles_with_regions_of_like_sizes(share: float) -> None:
    network = trace(family("vgg11").eval(), (3, 32, 32))
    grid = Grid(32, 32, (4, 4), (1, 1))
    mask = np.random.default_rng(0).random((grid.rows, grid.cols)) < share
    tiling = Tiling.of(network, grid, mask, (6, 6))
    counts = np.zeros((grid.rows, grid.cols), dtype=int)
    for tile in tiling.tiles:
        rows, cols = tile.positions()
        np.add.at(counts, (rows, cols), 1)
        assert len(rows) == tile.size <= 36
        assert sum(half.size for half in tile.halves()) == tile.size
    np.testing.assert_array_equal(counts, mask)
    assert len(tiling.tiles) <= 3 * mask.sum() / 36 + 1
    assert tiling.flops < 1.4 * tiling.ideal_flops


@pytest.mark.parametrize(("at_once", "expected"), [(1, [11, 11, 11]), (2, [9, 8, 8, 8]), (3, [11, 11, 11])])
def test_cells_without_a_pattern_come_in_as_many_tiles_as_keep_all_workers_busy(
    at_once: int, expected: list[int]
) -> None:
    network = trace(family("vgg11").eval(), (3, 32, 32))
    grid = Grid(32, 32, (4, 4), (1, 1))
    mask = np.zeros(grid.rows * grid.cols, dtype=bool)
    mask[np.random.default_rng(0).permutation(mask.size)[:33]] = True
    tiling = Tiling.of(network, grid, mask.reshape(grid.rows, grid.cols), (4, 4), at_once=at_once)
    assert [tile.size for tile in tiling.tiles] == expected


def test_runs_that_are_to_be_a_multiple_are_never_empty() -> None:
    assert [len(run) for run in even(np.arange(2), 4, 3)] == [1, 1]


def test_tiles_end_where_the_border_cuts_regions_off() -> None:
    network = trace(family("vgg11").eval(), (3, 32, 32))
    grid = Grid(32, 32, (4, 4), (1, 1))
    extents = extents_of(network, grid)
    tiles = list(tiles_of(full_mask(grid), (8, 8), extents))
    counts = np.zeros((grid.rows, grid.cols), dtype=int)
    for tile in tiles:
        counts[np.ix_(tile.rows, tile.cols)] += 1
        assert len(tile.rows) <= 8 and len(tile.cols) <= 8
    assert (counts == 1).all()

    def work(tiles: list[Tile]) -> float:
        flops = np.array([node.flops for node in network.nodes])
        return sum(float(flops @ extents.of(tile).locations) * tile.size for tile in tiles)

    assert work(tiles) < work(list(tiles_of(full_mask(grid), (8, 8))))


def test_a_tile_that_fails_in_a_worker_for_want_of_memory_is_halved_and_loses_no_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = trace(family("resnet18").eval(), (3, 48, 48))
    grid = Grid(48, 48, (8, 8), (8, 8))
    image = torch.randn(1, 3, 48, 48)
    expected = run(Incremental((2, 2)), network, image, grid, full_mask(grid))
    original, failures = TileRun.run, []

    def scarce(self: TileRun, patches: torch.Tensor, last: int | None = None) -> torch.Tensor:
        if patches.shape[0] > 2:
            failures.append(patches.shape[0])
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory")
        return original(self, patches, last)

    monkeypatch.setattr(TileRun, "run", scarce)
    found = run(Incremental((2, 2), (), 8, 2), network, image, grid, full_mask(grid))
    assert failures
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_runs_and_masks_are_the_same_thing(rows: int, cols: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, cols)) < 0.5
    assert (mask_of_runs(runs_of_mask(mask), rows, cols) == mask).all()


def test_running_out_of_memory_halves_the_tile_and_loses_no_cell() -> None:
    tile, tried = Tile(np.arange(4), np.arange(4)), []

    def compute(part: Tile) -> Scores:
        tried.append(part.size)
        if part.size > 4:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory")
        rows, cols = np.repeat(part.rows, len(part.cols)), np.tile(part.cols, len(part.rows))
        return Scores(rows, cols, np.zeros((len(rows), 1)))

    cells = {(r, c) for s in shrinking([tile], compute, Tile.halves) for r, c in zip(s.rows, s.cols, strict=True)}
    assert len(cells) == 16
    assert tried[:3] == [16, 8, 4]


def test_a_position_that_does_not_fit_by_itself_is_an_execution_error() -> None:
    def compute(part: Tile) -> Scores:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ExecutionError, match="not enough memory for a single position"):
        list(shrinking([Tile(np.arange(2), np.arange(2))], compute, Tile.halves))


def test_an_error_that_is_not_about_memory_is_not_hidden() -> None:
    def compute(part: Tile) -> Scores:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(shrinking([Tile(np.arange(2), np.arange(2))], compute, Tile.halves))


def test_a_memory_limit_makes_tiles_and_batches_smaller() -> None:
    network = trace(family("resnet18").eval(), (3, 48, 48))
    grid = Grid(48, 48, (8, 8), (2, 2))
    sizes = []
    for limit in (1 << 30, 44 << 20):
        workload = Workload(network, grid, None, 1, "cpu", limit)
        (incremental,) = Incremental.candidates(workload, Rates(), {})
        (full,) = Full.candidates(workload, Rates(), {})
        assert incremental.estimate(workload, Rates()).memory <= limit
        assert full.estimate(workload, Rates()).memory <= limit
        sizes.append((incremental.tile, full.batch))
    assert sizes[1][0] <= sizes[0][0] and sizes[1][1] < sizes[0][1]


@pytest.mark.parametrize("name", ["googlenet", "swin_t", "convnext_tiny", "mobilenet_v3_small"])
def test_a_tile_runs_on_another_device_with_nothing_left_behind(name: str) -> None:
    # The meta device computes shapes alone and refuses tensors of another: what a GPU would refuse, without one.
    size = FAMILIES[name]
    with torch.device("meta"):
        options = {"init_weights": False} if name == "googlenet" else {}
        module = getattr(torchvision.models, name)(weights=None, **options)
    network = trace(module.eval(), (3, size, size)).to("meta", torch.float32)
    grid = Grid(size, size, (8, 8), (8, 8))
    (tile,) = list(tiles_of(full_mask(grid), (2, 3)))[:1]
    with torch.inference_mode():
        base = materialize(network, torch.empty(1, 3, size, size, device="meta"))
        patches = torch.empty(tile.size, 3, 8, 8, device="meta")
        scores = TileRun(network, base, extents_of(network, grid).of(tile)).run(patches)
    assert (scores.shape, scores.device.type) == ((tile.size, network.classes), "meta")
