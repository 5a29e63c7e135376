"""Pictures laid out as tokens: what stays in the algebra, and that all else says the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from kryptondb.network import Grid, Network, Rule, trace
from kryptondb.network.node import Axes
from kryptondb.network.tokens import merged_runs
from tests.network.test_regions import changed_outside_regions
from tests.networks import LAID_OUT, AsTokens, Mean, TokenStep, token_layers


def classifier(*layers: nn.Module, channels: int = 4) -> nn.Module:
    """Layers on a picture of four channels, and a mean; in float64."""
    torch.manual_seed(0)
    head = (nn.Conv2d(channels, 4, 3, padding=1), Mean(), nn.Linear(4, 3))
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *layers, *head).double().eval()


def traced(module: nn.Module, shape: tuple[int, int, int]) -> Network:
    """A network that says what its module says, of batches too."""
    network = trace(module, shape, "none")
    assert network.traced, network.failure
    images = torch.randn(3, *shape, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(network.run(images)[0], module(images), atol=1e-10, rtol=1e-10)
        network = network.to("cpu", torch.float64)
        channels_last = images.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network.run(channels_last)[0], module(images), atol=1e-10, rtol=1e-10)
    return network


def dense(network: Network) -> list[str]:
    """The operators that run on whole pictures, or on all of their tokens."""
    nodes = (node for node in network.nodes if node.rule is Rule.DENSE and network.varying[node.index])
    return [node.operator for node in nodes if len(node.shape) > 2]


class Laid(nn.Module):
    """A function of a picture and a linear layer and a norm over its channels."""

    def __init__(self, function: Callable[[Laid, torch.Tensor], torch.Tensor], channels: int = 4) -> None:
        super().__init__()
        self.function = function
        self.linear, self.norm = nn.Linear(channels, channels), nn.LayerNorm(channels)
        self.batch_norm, self.slopes = nn.BatchNorm1d(channels), nn.PReLU(channels, 0.3)
        nn.init.uniform_(self.batch_norm.running_mean)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAID_OUT)
def test_steps_on_every_token_by_itself_stay_in_the_algebra(layout: str) -> None:
    # A reshape of tokens whose batch is not the first dimension is not followed.
    reshaping = ("heads", "unbound") if layout == "batch second" else ()
    kinds = [kind for kind in TokenStep.KINDS if kind not in reshaping]
    network = traced(classifier(AsTokens(layout, *(TokenStep(kind, 4) for kind in kinds))), (3, 7, 5))
    assert network.tail is None and dense(network) == []


@pytest.mark.parametrize("layout", LAID_OUT)
def test_a_square_picture_is_put_back_as_it_was(layout: str) -> None:
    network = traced(classifier(AsTokens(layout, TokenStep("linear", 4))), (3, 6, 6))
    assert network.tail is None and dense(network) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", TokenStep.TOGETHER)
@pytest.mark.parametrize("layout", ["flatten", "reshape", "column by column"])
def test_steps_on_all_tokens_together_run_on_whole_pictures(layout: str, kind: str) -> None:
    steps = (TokenStep("residual", 4), TokenStep(kind, 4), TokenStep("norm", 4))
    network = traced(classifier(AsTokens(layout, *steps)), (3, 6, 6))
    assert network.tail is not None and "height or width" in network.tail.reason
    assert next(node for node in network.nodes if node.operator == "layer_norm").rule is Rule.POINTWISE
    merged = [node for node in network.nodes if node.operator in ("flatten", "reshape") and node.axes is None]
    assert len({str(node.args) for node in merged}) == len(merged), "tokens are made once of a picture"


#: What leaves the picture in the algebra: forms that the layouts above do not have.
KEPT: dict[str, Callable[[Laid, torch.Tensor], torch.Tensor]] = {
    "mT and back": lambda m, x: m.norm(x.flatten(2).mT).mT.reshape(x.shape),
    "reshape_as": lambda m, x: m.linear(x.flatten(2).mT).mT.reshape_as(x),
    "swapaxes": lambda m, x: m.linear(x.flatten(-2).swapaxes(-1, -2)).swapaxes(2, 1).unflatten(-1, x.shape[2:]),
    "heads out of channels": lambda m, x: x.reshape(len(x), 2, 2, -1).softmax(1).view(x.shape),
    "channels merged with rows": lambda m, x: x.flatten(1, 2).relu().reshape(x.shape),
    "channels merged with all": lambda m, x: functional.gelu(x.flatten(1)).unflatten(1, x.shape[1:]),
    "batch norm": lambda m, x: m.batch_norm(x.flatten(2)).reshape(x.shape),
    "slopes": lambda m, x: m.slopes(x.flatten(2)).reshape(x.shape),
    "channels shuffled": lambda m, x: functional.channel_shuffle(x.flatten(2), 2).reshape(x.shape),
    "channels taken": lambda m, x: x.flatten(2).index_select(1, torch.tensor([2, 0, 3, 1])).reshape(x.shape),
    "selected": lambda m, x: torch.stack([x.flatten(2).select(1, c) for c in (1, 0, 3, 2)], 1).reshape(x.shape),
    "expanded": lambda m, x: x.flatten(2)[:, :1].expand(-1, 4, -1).reshape(x.shape),
    "all of it": lambda m, x: x.flatten(2)[:, :, :].reshape(x.shape),
    "another type": lambda m, x: x.flatten(2).float().double().contiguous().reshape(x.shape),
    "dropped out": lambda m, x: functional.dropout(x.flatten(2), training=False).detach().reshape(x.shape),
    "twice": lambda m, x: m.norm(m.linear(x.flatten(2).mT).reshape(-1, 4)).view(len(x), -1, 4).mT.reshape(x.shape),
    "two at once": lambda m, x: torch.cat([x.flatten(2), x.relu().flatten(2)], 1)[:, 2:6].reshape(x.shape),
    "a constant of three dimensions": lambda m, x: (x.flatten(2) * m.linear.bias[None, :, None]).reshape(x.shape),
    "written through nothing else": lambda m, x: torch.relu_((x + 1).flatten(2)).reshape(x.shape),
    "written after a copy": lambda m, x: _before_and_after(m.norm(x.flatten(2).mT), torch.clone).mT.reshape(x.shape),
    "split by sizes": lambda m, x: torch.cat(x.flatten(2).split([1, 3], 1)[::-1], 1).reshape(x.shape),
    "columns first and rows first": lambda m, x: (
        x + m.norm(x.transpose(2, 3).flatten(2).mT).unflatten(1, x.shape[:1:-1]).permute(0, 3, 2, 1)
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_tokens_stay_in_the_algebra_however_they_are_written(name: str) -> None:
    network = traced(classifier(Laid(KEPT[name])), (3, 7, 5))
    assert network.tail is None and dense(network) == []


#: What runs on whole pictures, and how many operators do before the convolution at the end.
WHOLE: dict[str, Callable[[Laid, torch.Tensor], torch.Tensor]] = {
    "rows read as columns": lambda m, x: m.norm(x.flatten(2).mT).mT.reshape(len(x), 4, *x.shape[:1:-1]),
    "a class token": lambda m, x: torch.cat([m.linear.bias.expand(len(x), 1, -1), m.norm(x.flatten(2).mT)], 1)[
        :, 1:
    ].mT.reshape(x.shape),
    "a softmax of all": lambda m, x: x.flatten(2).softmax(-1).reshape(x.shape),
    "tokens mixed": lambda m, x: (x.flatten(2) @ torch.ones(30, 30, dtype=x.dtype)).reshape(x.shape),
    "tokens moved": lambda m, x: x.flatten(2).roll(1, -1).reshape(x.shape),
    "tokens left out": lambda m, x: x.flatten(2)[..., 5:].reshape(len(x), 4, 5, 5),
    "a norm over tokens": lambda m, x: functional.layer_norm(x.flatten(2), (4, 30)).reshape(x.shape),
    "channels among the tokens": lambda m, x: x.permute(0, 2, 3, 1).flatten(1).reshape(x.shape),
    "two orders": lambda m, x: (x.flatten(2) + x.transpose(2, 3).flatten(2)).reshape(x.shape),
    "halves of the picture": lambda m, x: torch.cat(x.flatten(2).chunk(2, -1)[::-1], -1).reshape(x.shape),
    "written through a view": lambda m, x: _written(m.norm(x.flatten(2).mT)).mT.reshape(x.shape),
    "written under another name": lambda m, x: _before_and_after(
        m.norm(x.flatten(2).mT), lambda t: t.reshape(len(x), *x.shape[2:], 4)
    ).mT.reshape(x.shape),
    "a mean taken away": lambda m, x: (x.flatten(2) - x.flatten(2).mean(-1, keepdim=True)).reshape(x.shape),
}


def _written(t: torch.Tensor) -> torch.Tensor:
    t[:, 3:7].mul_(2)
    t[..., :2].add_(1)
    return t


def _before_and_after(t: torch.Tensor, other: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Tokens that are written, and what another name then says of them."""
    before = other(t)
    t.mul_(2)
    return before.reshape(t.shape) + t


@pytest.mark.parametrize("name", WHOLE)
def test_what_looks_into_the_tokens_runs_on_whole_pictures(name: str) -> None:
    network = traced(classifier(Laid(WHOLE[name])), (3, 6, 5))
    assert network.tail is not None and dense(network)


@pytest.mark.parametrize("shape", [(3, 1, 6), (3, 6, 1), (3, 1, 1)], ids=str)
def test_a_picture_of_one_row_or_column_says_the_same(shape: tuple[int, int, int]) -> None:
    for layout in ("flatten", "reshape", "with the batch"):
        assert traced(classifier(AsTokens(layout, TokenStep("residual", 4))), shape).tail is None
    traced(classifier(Laid(lambda m, x: x.squeeze().reshape(x.shape))), shape)


ENDS: dict[str, Callable[[Laid, torch.Tensor], torch.Tensor]] = {
    "mean": lambda m, x: m.norm(x.flatten(2).mT).mean(1),
    "mean, kept": lambda m, x: m.norm(x.flatten(2).mT).mean(1, keepdim=True).squeeze(1),
    "pool": lambda m, x: functional.adaptive_avg_pool1d(m.linear(x.flatten(2).mT).mT, 1).flatten(1),
    "norm of the mean": lambda m, x: m.norm(m.linear(x.flatten(2).mT).mean(dim=-2)),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_mean_of_all_tokens_is_that_of_all_places(name: str) -> None:
    network = traced(nn.Sequential(nn.Conv2d(3, 4, 3), Laid(ENDS[name])).double().eval(), (3, 7, 6))
    assert network.tail is None
    assert [node.rule for node in network.nodes].count(Rule.AVERAGE) == 1


def test_tokens_may_be_the_scores() -> None:
    module = nn.Sequential(nn.Conv2d(3, 1, 3), Laid(lambda m, x: x.relu().flatten(1).mul(2), 1)).double().eval()
    network = traced(module, (3, 5, 4))
    assert network.classes == 6
    assert [node.operator for node in network.nodes if node.rule is Rule.DENSE] == ["reshape"]


def test_layers_on_tokens_have_their_names_and_operations() -> None:
    blocks = (AsTokens("flatten", TokenStep("residual", 4)), AsTokens("with the batch", TokenStep("residual", 4)))
    network = traced(classifier(*blocks), (3, 6, 5))
    layers = {node.name: node.total_flops for node in network.nodes if node.operator == "linear"}
    assert layers == {f"{block}.steps.0.linear": 2.0 * 30 * 4 * 4 for block in (1, 2)} | {"5": 2.0 * 4 * 3}


@pytest.mark.slow
@given(st.data())
@settings(max_examples=8, deadline=None)
def test_any_steps_on_tokens_keep_changes_in_their_regions(data: st.DataObject) -> None:
    shape = (3, data.draw(st.integers(2, 7)), data.draw(st.integers(2, 7)))
    layers = [data.draw(token_layers(4)) for _ in range(data.draw(st.integers(1, 2)))]
    module = classifier(*layers, nn.Conv2d(4, 4, 3, padding=1))
    traced(module, shape)
    grid = Grid(*shape[1:], (1, 2), (2, 3))
    assert changed_outside_regions(module, shape, grid) == []


@pytest.mark.parametrize(
    ("before", "axes", "after", "runs"),
    [
        ((1, 8, 5, 7), Axes(0, 2, 3), (1, 8, 35), ((1,), (8,), (5, 7))),
        ((1, 5, 7, 8), Axes(0, 1, 2), (35, 8), ((1, 5, 7), (8,))),
        ((1, 8, 7, 5), Axes(0, 3, 2), (1, 8, 35), ((1,), (8,), (7, 5))),
        ((1, 8, 5, 7), Axes(0, 2, 3), (1, 2, 4, 35, 1), ((1,), (2,), (4,), (5, 7), (1,))),
        ((1, 8, 5, 7), Axes(0, 2, 3), (2, 4, 35), ((1, 2), (4,), (5, 7))),
        ((1, 8, 5, 7), Axes(0, 2, 3), (1, 280), ((1,), (8, 5, 7))),
        ((1, 4, 4, 4), Axes(0, 2, 3), (1, 4, 16), ((1,), (4,), (4, 4))),
        ((1, 4, 4, 4), Axes(0, 2, 3), (1, 16, 4), ((1,), (4, 4), (4,))),
        ((1, 1, 5, 7), Axes(0, 2, 3), (1, 35), ((1,), (5, 7))),
        ((1, 8, 1, 7), Axes(0, 2, 3), (1, 8, 7), ((1,), (8,), (1, 7))),
        ((1, 5, 1, 8), Axes(0, 1, 2), (5, 8), ((1, 5, 1), (8,))),
        ((1, 8, 5, 7), Axes(0, 2, 3), (1, 8, 7, 5), None),
        ((1, 8, 6, 6), Axes(0, 2, 3), (1, 8, 2, 3, 6), None),
        ((1, 8, 1, 7), Axes(0, 2, 3), (1, 56), None),
        ((1, 0, 4, 4), Axes(0, 2, 3), (1, 0), None),
    ],
)
def test_a_reshape_merges_runs_of_dimensions(
    before: tuple[int, ...], axes: Axes, after: tuple[int, ...], runs: tuple[tuple[int, ...], ...] | None
) -> None:
    assert merged_runs(before, axes, after) == runs
    if runs is not None:
        picture = np.arange(np.prod(before))
        sizes = [size for run in runs for size in run]
        assert (picture.reshape(sizes).reshape(after) == picture.reshape(before).reshape(after)).all()
