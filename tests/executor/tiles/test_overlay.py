"""Gather and overlay from places on a device, against the slices that the processor copies."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.executor.tiles.overlay import Rectangles, gathered, kernel_is_present, kernel_runs, overlaid_in_torch
from kryptondb.executor.tiles.regions_on_tensors import Table, lay_over
from kryptondb.network import Axes

NCHW = Axes(0, 2, 3)


@st.composite
def readings(draw: st.DrawFn) -> tuple[Table, Rectangles, float, torch.Tensor, Rectangles]:
    """A base, rectangles to read that may reach outside, and patches that may stick out of them or miss them."""
    height, width, channels = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.integers(1, 5))
    rows, cols = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    outside = draw(st.sampled_from([0.0, float("-inf"), 0.1]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    base = torch.arange(channels * height * width, dtype=dtype).view(1, channels, height, width) + 1
    table = Table.of(base, NCHW, tuple(sorted({0.0, outside})))

    def rectangles(smallest: int, largest: int) -> Rectangles:
        def starts(count: int) -> torch.Tensor:
            return torch.tensor(draw(st.lists(st.integers(smallest, largest), min_size=count, max_size=count)))

        return Rectangles(starts(rows), starts(cols), draw(st.integers(1, 6)), draw(st.integers(1, 6)))

    read, covered = rectangles(-3, 7), rectangles(-3, 7)
    patches = -1 - torch.arange(read.count * channels * covered.height * covered.width, dtype=dtype)
    patches = patches.view(read.count, channels, covered.height, covered.width).permute(0, 2, 3, 1)
    return table, read, outside, patches, covered


def by_slices(table: Table, read: Rectangles, outside: float, patches: torch.Tensor, covered: Rectangles) -> Any:
    ys, xs = read.ys.numpy(), read.xs.numpy()
    expected = table.gather(ys, read.height, xs, read.width, outside)
    lay_over(expected, patches, covered.ys.numpy() - ys, covered.xs.numpy() - xs)
    return expected


@given(readings())
@settings(max_examples=200, deadline=None)
def test_places_on_a_device_gather_what_places_on_the_processor_do(drawn: tuple[Any, ...]) -> None:
    table, read, outside, _, _ = drawn
    expected = table.gather(read.ys.numpy(), read.height, read.xs.numpy(), read.width, outside)
    assert torch.equal(gathered(table, read, outside), expected)


@given(readings())
@settings(max_examples=200, deadline=None)
def test_an_overlay_in_one_step_is_a_gather_with_slices_copied_over_it(drawn: tuple[Any, ...]) -> None:
    assert torch.equal(overlaid_in_torch(*drawn), by_slices(*drawn))


def test_an_overlay_reads_no_place_back_to_the_processor() -> None:
    # The meta device has shapes and no numbers: what asked for a number would fail.
    table = Table.of(torch.empty(1, 3, 5, 5, device="meta"), NCHW, (0.0,))
    read, covered = (
        Rectangles(
            torch.empty(2, dtype=torch.int64, device="meta"), torch.empty(4, dtype=torch.int64, device="meta"), *s
        )
        for s in ((3, 4), (2, 2))
    )
    patches = torch.empty(8, 2, 2, 3, device="meta")
    assert overlaid_in_torch(table, read, 0.0, patches, covered).shape == (8, 3, 4, 3)


def test_a_network_with_several_dimensions_of_channels_keeps_them() -> None:
    base = torch.arange(2.0 * 3 * 4 * 5).view(1, 2, 3, 4, 5)
    table = Table.of(base, Axes(0, 3, 4), (0.0,))
    read = Rectangles(torch.tensor([0, 1]), torch.tensor([2]), 2, 3)
    patches = -torch.ones(2, 1, 1, 2, 3)
    covered = Rectangles(torch.tensor([1, 1]), torch.tensor([3]), 1, 1)
    found = overlaid_in_torch(table, read, 0.0, patches, covered)
    assert found.shape == (2, 2, 3, 2, 3)
    assert torch.equal(found, by_slices(table, read, 0.0, patches, covered))
    assert (found == -1).sum() == 2 * 6


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., torch.Tensor]]:
    """The kernel as Triton's interpreter runs it, on tensors of the processor: a copy of its module, for this test."""
    if not kernel_is_present():
        pytest.skip("Triton is not installed (it is built for Linux)")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    spec = importlib.util.find_spec("kryptondb.executor.tiles.overlay_kernel")
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.overlaid


def test_the_fused_kernel_computes_what_its_reference_does(interpreted: Callable[..., torch.Tensor]) -> None:
    @given(readings())
    @settings(max_examples=60, deadline=None)
    def agree(drawn: tuple[Any, ...]) -> None:
        assert torch.equal(interpreted(*drawn), overlaid_in_torch(*drawn))

    agree()


def test_the_fused_kernel_takes_more_channels_and_places_than_one_program_holds(
    interpreted: Callable[..., torch.Tensor],
) -> None:
    generator = np.random.default_rng(0)
    table = Table.of(torch.randn(1, 200, 6, 6), NCHW, (float("-inf"), 0.0))
    read = Rectangles(torch.tensor([-1, 2, 4]), torch.tensor([0, 3]), 4, 3)
    covered = Rectangles(torch.tensor([0, 3, 3]), torch.tensor([1, 3]), 2, 2)
    patches = torch.as_tensor(generator.random((6, 2, 2, 200)), dtype=torch.float32)
    arguments = (table, read, float("-inf"), patches, covered)
    assert torch.equal(interpreted(*arguments), overlaid_in_torch(*arguments))


def test_the_fused_kernel_compiles_for_a_gpu_which_takes_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The interpreter is kinder than the compiler, which knows types and refuses most of Python.
    triton = pytest.importorskip("triton", reason="Triton is not installed (it is built for Linux)")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from kryptondb.executor.tiles import overlay_kernel

    kernel = overlay_kernel._overlay
    signature = dict.fromkeys(kernel.arg_names, "i32")
    signature |= dict.fromkeys(("read_ys", "read_xs", "patch_ys", "patch_xs"), "*i64")
    signature |= dict.fromkeys(("output", "rows", "patches"), "*fp32")
    signature |= dict.fromkeys(("ALONG", "ACROSS"), "constexpr")
    source = ASTSource(kernel, signature, {"ALONG": 16, "ACROSS": 64})
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert "st.global" in compiled.asm["ptx"]
    assert any(tmp_path.iterdir())  # it was compiled, not found


def test_where_the_kernel_does_not_run_torch_does_its_part_and_says_so() -> None:
    if not kernel_is_present():
        pytest.skip("Triton is not installed (it is built for Linux)")
    kernel_runs.cache_clear()
    with pytest.warns(UserWarning, match="Triton is installed and does not work on cpu"):
        assert not kernel_runs(torch.device("cpu"))  # its compiler knows GPUs only
    kernel_runs.cache_clear()
