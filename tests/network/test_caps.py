"""Capped regions: how large they are, where they lie, and what they save."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kryptondb.network import AxisWindow, Cap, Grid, Network, Rule, trace
from kryptondb.network.caps import Course
from kryptondb.network.regions import Regions, Spans, regions, through_window
from tests.network.test_redundancy import architecture
from tests.networks import small_cnns

CAPS = st.builds(Cap, st.floats(0.05, 1.0), st.floats(0.05, 1.0))


def axes(located: Regions, index: int) -> list[Spans]:
    return [spans for spans in (located.y[index], located.x[index]) if spans is not None]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    for shares in ((share, 0.5), (0.5, share)):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            Cap(*shares)


def test_a_cap_is_a_share_of_the_extent_rounded_up_and_never_nothing() -> None:
    assert [Cap(0.28, 0.28).cells(extent, 0.7) for extent in (25, 26, 3, 1)] == [7, 8, 1, 1]
    assert [Cap(0.6, 0.2).cells(10, depth) for depth in (0.0, 0.5, 1.0)] == [6, 4, 2]


@given(small_cnns(), CAPS, st.data())
@settings(max_examples=60, deadline=None)
def test_on_any_cnn_capped_regions_lie_inside_the_exact_ones_and_are_no_larger_than_the_cap(
    drawn: tuple[nn.Module, tuple[int, int, int]], cap: Cap, data: st.DataObject
) -> None:
    module, shape = drawn
    network = trace(module, shape)  # takes longest: all that holds on any network is looked at here
    patch = (data.draw(st.integers(1, shape[1])), data.draw(st.integers(1, shape[2])))
    grid = Grid(shape[1], shape[2], patch, (data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))))
    exact, capped = regions(network, grid), regions(network, grid, cap)
    for node in network.nodes:
        most = (cap.cells(extent, 0.0 if cap.tau > cap.tau_deep else 1.0) for extent in (node.height, node.width))
        for whole, part, cells in zip(axes(exact, node.index), axes(capped, node.index), most, strict=False):
            assert (part.first >= whole.first).all() and (part.last <= whole.last).all()
            assert part.sizes.min() >= 1
            assert node.rule not in (Rule.WINDOW, Rule.MERGE) or part.sizes.max() <= cells
    regions_stay_where_nodes_compute_on_them_as_they_stand(capped)
    positions_are_free_where_no_region_is_cut(exact, capped)
    whole_caps_change_nothing(exact, regions(network, grid, Cap(1.0, 1.0)))


def regions_stay_where_nodes_compute_on_them_as_they_stand(capped: Regions) -> None:
    network = capped.network
    for node in network.nodes:
        if node.rule is Rule.LOCAL and network.regional[node.index]:
            (source,) = {index for index in node.inputs if network.regional[index]}
            for own, its in zip(axes(capped, node.index), axes(capped, source), strict=True):
                np.testing.assert_array_equal((own.first, own.last), (its.first, its.last))


def positions_are_free_where_no_region_is_cut(exact: Regions, capped: Regions) -> None:
    for wholes, parts, free in ((exact.y, capped.y, capped.free_y), (exact.x, capped.x, capped.free_x)):
        uncut = np.ones(len(free), dtype=bool)
        for whole, part in zip(wholes, parts, strict=True):
            if whole is not None and part is not None:
                uncut &= whole.sizes == part.sizes
        np.testing.assert_array_equal(free, uncut)
    assert capped.free(np.array([0]), np.array([-1])) == capped.free_y[0] & capped.free_x[-1]


def whole_caps_change_nothing(exact: Regions, capped: Regions) -> None:
    for node in exact.network.nodes:
        for whole, part in zip(axes(exact, node.index), axes(capped, node.index), strict=True):
            np.testing.assert_array_equal((whole.first, whole.last), (part.first, part.last))


def test_a_region_stays_in_the_middle_of_what_it_is_cut_out_of_and_moves_inside_at_a_border() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 7, padding=3), nn.Flatten(), nn.Linear(2 * 400, 2)).eval()
    located = regions(trace(module, (1, 20, 20)), Grid(20, 20, (2, 2), (1, 1)), Cap(0.3, 0.3))
    spans = next(y for y, node in zip(located.y, located.network.nodes, strict=True) if node.rule is Rule.WINDOW)
    assert spans is not None
    assert spans.sizes.tolist() == [5, *[6] * 17, 5]  # at either end the border cuts off more than the cap does
    assert spans.first.tolist() == [0, 0, *range(0, 14), 14, 14, 15]


@st.composite
def windows(draw: st.DrawFn) -> list[AxisWindow]:
    found, inputs = [], 1000
    for _ in range(draw(st.integers(1, 5))):
        size, stride = draw(st.integers(1, 7)), draw(st.integers(1, 3))
        before = draw(st.integers(0, size - 1))
        found.append(AxisWindow(size, stride, before, inputs, (inputs + before - size) // stride + 1))
        inputs = found[-1].outputs
    return found


@given(windows(), st.integers(0, 900), st.integers(1, 9))
def test_the_middle_of_a_region_follows_the_patch_exactly_through_strides_and_padding(
    stack: list[AxisWindow], start: int, patch: int
) -> None:
    course = Course(np.array([start]), np.array([start + patch - 1]))
    spans = Spans(course.first, course.last)
    middle = Fraction(2 * start + patch - 1, 2)
    for window in stack:
        course, spans = course.through(window), through_window(spans, window)
        middle = (middle + window.before - Fraction(window.size - 1, 2)) / window.stride
        assert Fraction(int(course.first[0] + course.last[0]), 2 * course.parts) == middle
        for cells in (1, 2, 5):
            around = int(course.centred(cells)[0]) + Fraction(cells - 1, 2)
            assert abs(around - middle) <= Fraction(1, 2)
        if spans.first[0] > 0 and spans.last[0] < window.outputs - 1:
            assert abs(Fraction(int(spans.first[0] + spans.last[0]), 2) - middle) < 1


def test_branches_of_different_strides_have_a_middle_in_common() -> None:
    coarse, fine = Course(np.array([3]), np.array([9]), 2), Course(np.array([2]), np.array([7]), 3)
    both = coarse.union(fine)
    assert (both.first.tolist(), both.last.tolist(), both.parts) == ([4], [27], 6)


# The ratios that the caps reach, each position with its own region: patch 16, stride 4, mean over the grid.
TAUS = (1.0, 0.6, 0.45, 0.3, 0.2)
RATIOS = {"vgg16": [9.14, 9.78, 10.93, 15.10, 24.05], "resnet18": [2.83, 4.16, 5.78, 9.60, 20.17]}


def ratio(network: Network, cap: Cap) -> float:
    located = regions(network, Grid(224, 224, (16, 16), (4, 4)), cap)
    sizes = {node.index: located.sizes(node) for node in network.nodes}
    return network.flops / sum(
        node.flops * float(sizes[node.index][0].mean() * sizes[node.index][1].mean()) for node in network.nodes
    )


@pytest.mark.parametrize("name", RATIOS)
def test_a_smaller_share_saves_more_as_measured(name: str) -> None:
    network = architecture(name)
    found = [ratio(network, Cap(tau, tau)) for tau in TAUS]
    assert found == pytest.approx(RATIOS[name], abs=0.01)
    falling = ratio(network, Cap(0.6, 0.3))
    assert found[1] < falling < found[3]
