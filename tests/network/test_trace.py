"""Tracing: what becomes of a module, operator by operator, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional

from kryptondb.catalog.scores import ScoreAdapter, probabilities
from kryptondb.errors import ModelError
from kryptondb.network import Network, Rule, trace
from kryptondb.network.node import Ref
from tests.networks import Gate, Pad, Shuffle, Slice, ToChannelsLast, small_cnns


def rules(network: Network) -> dict[str, Rule]:
    return {node.operator: node.rule for node in network.nodes}


def classifier(*body: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)).eval()


@pytest.mark.slow
@given(small_cnns())
@settings(max_examples=25, deadline=None)
def test_a_traced_network_says_what_its_module_says(drawn: tuple[nn.Module, tuple[int, int, int]]) -> None:
    module, shape = drawn
    network = trace(module, shape)
    assert network.traced, network.failure
    images = torch.randn(3, *shape, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(network.run(images)[0], module(images), atol=1e-10, rtol=1e-10)


def test_the_module_is_left_as_it_was() -> None:
    module = classifier(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), channels=4)
    before = copy.deepcopy(module.state_dict())
    network = trace(module, (3, 8, 8))
    with torch.inference_mode():
        network.run(torch.randn(2, 3, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_batch_norm_folds_into_the_convolution_before_it() -> None:
    network = trace(classifier(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), channels=4), (3, 8, 8))
    assert "batch_norm" not in rules(network)


def test_batch_norm_folds_where_regions_have_ended() -> None:
    gated = classifier(Gate(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), channels=4)
    gated[2].running_mean.normal_()
    network = trace(gated.double(), (3, 8, 8))
    assert rules(network)["conv2d"] is Rule.DENSE
    assert "batch_norm" not in rules(network)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(network.run(images)[0], gated(images), atol=1e-12, rtol=1e-12)


def test_a_gate_is_multiplied_onto_its_picture_where_it_lies() -> None:
    network = trace(classifier(nn.Conv2d(3, 4, 3), Gate(4), channels=4), (3, 8, 8))
    (gate,) = (node for node in network.nodes if node.operator == "mul")
    assert gate.in_place is not None and network.may_write(gate)
    assert gate.args[0] == Ref(next(node.index for node in network.nodes if node.operator == "conv2d"))


def test_nothing_is_written_over_while_a_view_of_it_is_read_later() -> None:
    class Viewed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x * 2
            view = x.transpose(2, 3)
            return (torch.relu(x) + view).mean((2, 3))

    network = trace(Viewed(), (3, 8, 8))
    (relu,) = (node for node in network.nodes if node.operator == "relu")
    assert relu.in_place is not None and not network.may_write(relu)


def test_a_convolution_that_reads_channel_by_channel_says_the_same_where_it_lay_before() -> None:
    network = trace(classifier(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), channels=4), (3, 8, 8))
    nodes = [node.index for node in network.nodes if node.operator == "conv2d"]
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    network = network.to("cpu", torch.float64)
    output, kept = network.run(images, keep=nodes)
    planar, as_well = network.run(images, keep=nodes, planar=nodes)
    torch.testing.assert_close(planar, output, atol=1e-12, rtol=0)
    for node in nodes:
        torch.testing.assert_close(as_well[node], kept[node], atol=1e-12, rtol=0, check_stride=True)


class Standardized(nn.Conv2d):
    """A convolution whose weights are standardized before each use."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        flat = functional.batch_norm(self.weight.reshape(1, self.out_channels, -1), None, None, training=True)
        return functional.conv2d(image, flat.reshape_as(self.weight), self.bias, padding=1)


class Scaled(nn.Module):
    """A picture times a parameter a channel, which is kept flat."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(channels))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mul(self.gamma.reshape(1, -1, 1, 1).expand(1, -1, 1, 1))


def test_what_is_computed_from_parameters_alone_is_computed_once() -> None:
    module = classifier(Standardized(3, 4, 3), Scaled(4), channels=4).double()
    network = trace(module, (3, 8, 8))
    assert network.tail is None and rules(network)["conv2d"] is Rule.WINDOW
    assert not {"batch_norm", "reshape", "reshape_as", "expand"} & set(rules(network))
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(network.run(images)[0], module(images), atol=1e-12, rtol=1e-12)


def test_a_constant_that_is_written_into_is_the_same_the_next_time() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Parameter(torch.zeros(3))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            scores = (self.start + 1).clone()
            scores[0:1] += 1
            return scores + image.mean((2, 3))

    network = trace(Counting().eval(), (3, 8, 8))
    images = torch.randn(1, 3, 8, 8)
    assert network.traced, network.failure
    with torch.inference_mode():
        for _ in range(3):
            torch.testing.assert_close(network.run(images)[0], images.mean((2, 3)) + torch.tensor([2.0, 1.0, 1.0]))


def test_random_numbers_are_drawn_anew() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.level = nn.Parameter(torch.full((3,), 0.5))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.mean((2, 3)) + torch.bernoulli(self.level)

    assert "bernoulli" in rules(trace(Noisy().eval(), (3, 8, 8)))


def test_batch_norm_stays_where_the_convolution_is_read_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return (x + self.norm(x)).mean((2, 3))

    assert rules(trace(Twice().eval(), (3, 8, 8)))["batch_norm"] is Rule.POINTWISE


class Picked(nn.Module):
    """Chosen places along a dimension."""

    def __init__(self, dim: int, places: tuple[int, ...]) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("places", torch.tensor((*places, *places) if dim == 1 else places))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.index_select(self.dim, self.places)


@pytest.mark.parametrize(
    ("layer", "operator", "rule"),
    [
        (nn.Conv2d(4, 4, 3, stride=2, padding=1, dilation=2, groups=2), "conv2d", Rule.WINDOW),
        (nn.Conv2d(4, 4, (2, 4), padding="same"), "conv2d", Rule.WINDOW),
        (nn.MaxPool2d(3, 2, 1, dilation=1, ceil_mode=True), "max_pool2d", Rule.WINDOW),
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), "avg_pool2d", Rule.WINDOW),
        (nn.AdaptiveAvgPool2d(4), "adaptive_avg_pool2d", Rule.WINDOW),
        (Pad((1, 0, 2, -1), 0.5), "pad", Rule.WINDOW),
        (Slice(1, 2, 2), "slice", Rule.WINDOW),
        (nn.Hardswish(), "hardswish", Rule.POINTWISE),
        (nn.PReLU(4), "prelu", Rule.POINTWISE),
        (Shuffle(), "transpose", Rule.POINTWISE),
        (ToChannelsLast(4), "layer_norm", Rule.POINTWISE),
        (ToChannelsLast(4), "linear", Rule.DENSE),  # the classifier's own comes last under this name
        (nn.AdaptiveAvgPool2d(3), "adaptive_avg_pool2d", Rule.DENSE),
        (nn.GroupNorm(2, 4), "group_norm", Rule.DENSE),
        (nn.ConvTranspose2d(4, 4, 3), "conv_transpose2d", Rule.DENSE),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "upsample_bilinear2d", Rule.DENSE),
        (nn.Upsample(scale_factor=2), "upsample_nearest2d", Rule.WINDOW),
        (nn.Upsample(scale_factor=(3, 0.5)), "upsample_nearest2d", Rule.WINDOW),
        (nn.Upsample(size=(11, 5), mode="nearest-exact"), "_upsample_nearest_exact2d", Rule.WINDOW),
        (Picked(2, (0, 0, 0, 1, 1, 1, 2, 2, 2)), "index_select", Rule.DENSE),  # three of eight rows
        (Picked(3, (0, 2, 4, 6)), "index_select", Rule.WINDOW),
        (Picked(1, (3, 1)), "index_select", Rule.POINTWISE),
        (Picked(2, (7, 6, 5, 4, 3, 2, 1, 0)), "index_select", Rule.DENSE),
        (Pad((1, 1, 1, 1), 0.0, "reflect"), "pad", Rule.WINDOW),
        (Gate(4), "mul", Rule.DENSE),
    ],
)
def test_every_operator_has_its_rule_and_every_network_its_answer(layer: nn.Module, operator: str, rule: Rule) -> None:
    # 8 x 8 before the layer; the global mean behind it reads the name of the operator under test, so a maximum ends it.
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.layer = nn.Conv2d(3, 4, 3, padding=1), layer
            self.last = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.layer(self.first(x)).amax((2, 3)))

    module = Network().double().eval()
    network = trace(module, (3, 8, 8))
    assert network.traced, network.failure
    assert rules(network)[operator] is rule
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(network.run(images)[0], module(images))


def test_a_dense_node_says_why_and_so_does_the_tail() -> None:
    network = trace(classifier(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), channels=4), (3, 8, 8))
    assert network.tail is not None
    assert (network.tail.operator, network.tail.reason) == (
        "group_norm",
        "group_norm is not an operator of the algebra",
    )


def test_a_network_of_regions_and_a_mean_has_no_tail() -> None:
    assert trace(classifier(nn.Conv2d(3, 4, 3), nn.ReLU(), channels=4), (3, 8, 8)).tail is None


def test_a_write_in_place_is_seen_by_whoever_reads_the_old_name() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            x.relu_()
            return x.mean((2, 3))

    module = Forgetful().eval()
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(trace(module, (3, 8, 8)).run(images)[0], module(images))


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x[:, :2].mul_(3.0),
        lambda x: x.narrow(1, 0, 2).mul_(3.0),
        lambda x: x.select(1, 2).mul_(3.0),
        lambda x: x.view(len(x), -1).add_(1.0),
        lambda x: x.flatten(1).add_(1.0).mul_(2.0),
        lambda x: x.squeeze().mul_(3.0),
        lambda x: x.view_as(x).mul_(3.0),
        lambda x: x.expand_as(x).mul_(3.0),
        lambda x: x.swapaxes(2, 3).mul_(3.0),
        lambda x: x.movedim(1, 3).mul_(3.0),
        lambda x: x.ravel().mul_(3.0),
        lambda x: x.tensor_split(2, 1)[0].mul_(3.0),
        lambda x: x.chunk(2, 1)[1].mul_(3.0),
    ],
)
def test_a_write_through_a_view_reaches_what_it_is_a_view_of(write: Callable[[torch.Tensor], object]) -> None:
    class Through(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            write(x)
            return x.mean((2, 3))

    module = Through().eval()
    network = trace(module, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(network.run(images)[0], module(images))


def test_a_write_into_a_view_that_nobody_else_sees_stays_in_the_algebra() -> None:
    class Flattened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(144, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.relu_(self.conv(x).flatten(1)))

    module = Flattened().eval()
    network = trace(module, (3, 8, 8))
    assert not any("in place" in node.reason for node in network.nodes)
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(network.run(images)[0], module(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    "before",
    [
        lambda x: functional.batch_norm(x, None, None, training=True),
        lambda x: (x - x.mean()) / x.std(),
        lambda x: x / x.abs().max(),
        lambda x: x - x.mean(0),
        lambda x: x * (x.max() < 100),
        lambda x: torch.where(x.amin((0, 2, 3), keepdim=True) > -100, x, -x),
        lambda x: x if x.mean() < 100 else -x,
        lambda x: x if x.mean().item() < 100 else -x,
        lambda x: x if x.numpy().max() < 100 else -x,
        lambda x: x if max(x.flatten().tolist()) < 100 else -x,
        lambda x: x if len((x > 100).nonzero()) < 5 else -x,
        lambda x: x * (x.max() < 100) if torch.equal(x[:1], x[:1]) else x,
    ],
)
def test_a_network_whose_answers_depend_on_the_batch_is_found_out(
    before: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    class Together(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(before(x)).relu().mean((2, 3))

    assert trace(Together().eval(), (3, 8, 8)).batch_statistics
    assert not trace(classifier(nn.Conv2d(3, 4, 3), nn.ReLU(), channels=4), (3, 8, 8)).batch_statistics


@pytest.mark.slow
@pytest.mark.parametrize(
    "before",
    [
        lambda x: x * torch.eye(8).type_as(x),
        lambda x: x + x.new_ones(8, 8).triu(),
        lambda x: functional.instance_norm(x),
        lambda x: x.flatten(0, 1).softmax(1).view_as(x),
        lambda x: torch.stack([each * each.amax() for each in x.unbind()]) if len(x) < 3 else x,
        lambda x: [x, x.sum(), x.new_zeros(3)][0],
    ],
)
def test_a_network_whose_pictures_do_not_mix_runs_batches(before: Callable[[torch.Tensor], torch.Tensor]) -> None:
    class Apart(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return before(x).mean((2, 3))

    assert not trace(Apart().eval(), (3, 8, 8)).batch_statistics


@pytest.mark.parametrize("branches", [False, True], ids=["traced or not", "untraced"])
def test_a_module_may_write_into_the_pictures_that_it_is_given(branches: bool) -> None:
    class Standardizing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = classifier(nn.Conv2d(3, 4, 3), nn.ReLU(), channels=4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.sub_(0.5).mul_(3)
            return self.scores(x if not branches or float(x.sum()) < 1e9 else -x)

    module, images = Standardizing().eval(), torch.rand(2, 3, 8, 8)
    network = trace(module, (3, 8, 8))
    assert network.unsteady is None and network.batch_statistics == branches
    before = images.clone()
    with torch.inference_mode():
        found = network.run(images)[0]
        torch.testing.assert_close(images, before, atol=0, rtol=0)
        torch.testing.assert_close(found, module(before))


@pytest.mark.parametrize(
    ("last", "activation"),
    [(nn.Softmax(1), "softmax"), (nn.LogSoftmax(1), "softmax"), (nn.Sigmoid(), "sigmoid"), (nn.Identity(), "softmax")],
    ids=["softmax", "log-softmax", "sigmoid", "none"],
)
def test_a_network_that_cannot_be_traced_leaves_its_last_activation_to_the_score_too(
    last: nn.Module, activation: str
) -> None:
    class Undecided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = classifier(nn.Conv2d(3, 4, 3), nn.ReLU(), channels=4)
            self.last = last

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.scores(x)
            return self.last(scores if float(x.sum()) < 1e9 else -scores)

    module = Undecided().eval()
    network = trace(module, (3, 8, 8), activation)
    assert network.failure is not None
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        found = probabilities(network.run(images)[0], activation)
        torch.testing.assert_close(found, probabilities(module.scores(images), activation))


@pytest.mark.parametrize(
    ("last", "activation"),
    [
        ((nn.Softmax(1), nn.LogSoftmax(1)), "softmax"),
        ((nn.Softmax(1), nn.Softmax(1)), "softmax"),
        ((nn.LogSoftmax(1), nn.Softmax(1)), "softmax"),
        ((nn.Sigmoid(), nn.Sigmoid()), "sigmoid"),
    ],
    ids=str,
)
def test_of_two_activations_at_the_end_the_score_undoes_no_more_than_it_makes(
    last: tuple[nn.Module, ...], activation: str
) -> None:
    module = nn.Sequential(classifier(nn.Conv2d(3, 4, 3), nn.ReLU(), channels=4), *last).eval()
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        said = module(images)
        found = probabilities(trace(module, (3, 8, 8), activation).run(images)[0], activation)
        torch.testing.assert_close(found, said.exp() if isinstance(last[-1], nn.LogSoftmax) else said)


def test_a_branch_on_the_pictures_values_cannot_be_traced_and_says_so() -> None:
    class Undecided(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = x.mean((2, 3))
            return scores if float(scores.sum()) > 0 else -scores

    network = trace(Undecided().eval(), (3, 8, 8))
    assert not network.traced
    assert network.failure
    images = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(network.run(images)[0], Undecided()(images))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x: (x.mean((2, 3)), x), "returns a tuple"),
        (lambda x: {"out": x.mean((2, 3))}, "returns a dict"),
        (lambda x: x, r"shape \(1, 3, 8, 8\)"),
        (lambda x: functional.linear(x, torch.zeros(2, 5)), "cannot take an image of 3x8x8"),
    ],
)
def test_a_module_that_gives_no_scores_is_refused_with_what_it_gives(forward: object, message: str) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> object:
            return forward(x)  # type: ignore[operator]

    with pytest.raises(ModelError, match=message):
        trace(Odd().eval(), (3, 8, 8))


def test_dropout_disappears() -> None:
    network = trace(classifier(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Dropout2d(inplace=True), channels=4), (3, 8, 8))
    assert not any("dropout" in node.operator for node in network.nodes)


def test_a_network_moves_to_another_device_with_all_that_it_makes_on_the_way() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            ramp = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)
            return (x * ramp + x.new_zeros(x.shape[-1])).mean((2, 3))

    moved = trace(Masked().eval(), (3, 8, 8)).to("meta", torch.float64)
    scores, _ = moved.run(torch.empty(5, 3, 8, 8, device="meta", dtype=torch.float64))
    assert (scores.shape, scores.dtype, scores.device.type) == ((5, 4), torch.float64, "meta")


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.Softmax(-1), nn.LogSoftmax(1)], ids=str)
def test_a_softmax_at_the_end_is_left_to_the_score(last: nn.Module) -> None:
    scores = classifier(nn.Conv2d(3, 4, 3), nn.ReLU(), channels=4)
    network = trace(nn.Sequential(scores, last).eval(), (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(network.run(images)[0], scores(images))


class Sized(nn.Module):
    def __init__(self, size: Callable[[torch.Tensor], int]) -> None:
        super().__init__()
        self.conv, self.size = nn.Conv2d(3, 4, 3, padding=1), size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x.reshape(self.size(x), 4, 8, 8).mean((2, 3))


def test_the_number_of_pictures_may_be_asked_for_as_the_length_of_the_batch() -> None:
    module = Sized(len).eval()
    network = trace(module, (3, 8, 8))
    assert network.traced and network.tail is None
    images = torch.randn(3, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(network.run(images)[0], module(images))


def test_maxima_of_a_pooling_stay_in_the_algebra_with_their_places() -> None:
    class Unpooled(nn.Module):
        def __init__(self, reads: bool) -> None:
            super().__init__()
            self.conv, self.reads = nn.Conv2d(3, 4, 3, padding=1), reads

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maxima, places = functional.max_pool2d(self.conv(x), 2, return_indices=True)
            return (functional.max_unpool2d(maxima, places, 2) if self.reads else maxima).mean((2, 3))

    images = torch.randn(3, 3, 8, 8)
    for reads in (False, True):
        module = Unpooled(reads).eval()
        network = trace(module, (3, 8, 8))
        assert rules(network)["max_pool2d"] is Rule.WINDOW and (network.tail is None) == (not reads)
        with torch.inference_mode():
            torch.testing.assert_close(network.run(images)[0], module(images))


CHANNELS = torch.linspace(0.5, 1.5, 4)[None, :, None, None]
TWINS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]] = {
    "subtract_": (lambda x: x.subtract_(CHANNELS), lambda x: x - CHANNELS),
    "multiply_": (lambda x: x.multiply_(CHANNELS), lambda x: x * CHANNELS),
    "divide, rounded": (lambda x: torch.divide(x, CHANNELS, rounding_mode="floor"), lambda x: (x / CHANNELS).floor()),
    "div, not rounded": (lambda x: torch.div(x, CHANNELS, rounding_mode=None), lambda x: x / CHANNELS),
    "true_divide_": (lambda x: x.true_divide_(CHANNELS), lambda x: x / CHANNELS),
    "clip_": (lambda x: torch.clip_(x, max=1.0), lambda x: x.clamp(max=1.0)),
    "fix": (torch.fix, torch.trunc),
    "fix_": (lambda x: x.fix_(), torch.trunc),
    "absolute_": (lambda x: x.absolute_(), torch.abs),
    "negative_": (lambda x: x.negative_(), torch.neg),
    "moveaxis": (lambda x: x.moveaxis((1, 2), (3, 1)).mul(2).moveaxis((3, 1), (1, 2)), lambda x: x * 2),
    "swapdims": (lambda x: x.swapdims(1, 3).mul(2).swapdims(1, 3), lambda x: x * 2),
    "special_expm1": (torch.special.expm1, torch.expm1),
    "arctan2": (lambda x: torch.arctan2(x, CHANNELS), lambda x: torch.atan2(x, CHANNELS)),
    "min of two": (lambda x: torch.min(x, CHANNELS), lambda x: torch.minimum(x, CHANNELS)),
    "where": (lambda x: torch.where(x > 0, x, 0.1 * x), lambda x: functional.leaky_relu(x, 0.1)),
    "greater, as a factor": (lambda x: x * torch.greater(x, 0), torch.relu),
    "greater in place": (lambda x: x * x.clone().gt_(0), torch.relu),
    "addcmul": (lambda x: torch.addcmul(x, x, CHANNELS, value=2), lambda x: x + 2 * x * CHANNELS),
    "expand_as": (lambda x: x[:, :1].expand_as(x), lambda x: torch.cat([x[:, :1]] * 4, 1)),
    "type_as": (lambda x: x.type_as(CHANNELS).to(x.dtype), lambda x: x * 1),
    "a norm over channels": (
        lambda x: x / (1 + torch.linalg.vector_norm(x, dim=1, keepdim=True)),
        lambda x: x / (1 + x.square().sum(1, keepdim=True).sqrt()),
    ),
    "a constant worked out in place": (
        lambda x: x * torch.add(CHANNELS, 1).rsqrt_().mul_(2),
        lambda x: x * (2 / (CHANNELS + 1).sqrt()),
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_an_operator_is_one_under_all_of_its_names(name: str) -> None:
    class Said(nn.Module):
        def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.function = nn.Conv2d(3, 4, 3), function

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.function(self.conv(x)).mean((2, 3))

    module, twin = (Said(function).eval() for function in TWINS[name])
    network = trace(module, (3, 8, 8), "none")
    assert network.traced and network.tail is None, network.tail
    images = torch.randn(3, 3, 8, 8)
    with torch.inference_mode():
        expected = twin(images)
        torch.testing.assert_close(module(images), expected)
        torch.testing.assert_close(network.run(images)[0], expected)


def test_layers_have_the_names_of_the_users_module_and_no_two_the_same() -> None:
    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4, 4, 3, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.conv2d(functional.conv2d(x, self.a), self.b).mean((2, 3))

    def layers(module: nn.Module) -> list[str]:
        return [node.name for node in trace(module.eval(), (3, 9, 9)).nodes if node.flops]

    wrapped = ScoreAdapter(ScoreAdapter(Functions(), None, False, False), None, False, False)
    assert layers(Functions()) == layers(wrapped) == ["conv2d", "conv2d_1"]
    assert layers(nn.Sequential(Functions())) == ["0.conv2d", "0.conv2d_1"]
    assert layers(ScoreAdapter(classifier(nn.Conv2d(3, 4, 3), channels=4), None, False, False)) == ["0", "3"]


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float16, torch.float64])
def test_a_function_of_scores_of_any_type_is_traced(dtype: torch.dtype) -> None:
    class Counts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.mean((2, 3)).abs() * 100).to(dtype)

    module, images = Counts().eval(), torch.rand(3, 3, 8, 8)
    network = trace(module, (3, 8, 8), activation="none")
    assert network.traced, network.failure
    torch.testing.assert_close(network.run(images)[0], module(images))
