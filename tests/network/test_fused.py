"""Activations inside convolutions: which of them, where, and that the network says the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional

from kryptondb.network import Network, fused, trace
from tests.networks import Gate, small_cnns

needs_fusion = pytest.mark.skipif(not fused.can_fuse(), reason="this build of torch has no oneDNN")


def network_of(*body: nn.Module, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Network]:
    module = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval().to(dtype)
    return module, trace(module, (3, 9, 9))


def taken_in(network: Network) -> set[str]:
    """The activations that run inside a convolution, by operator."""
    return {network.nodes[fusion.activation].operator for fusion in network.fusions.values()}


def node_of(network: Network, operator: str) -> Any:
    return next(node for node in network.nodes if node.operator == operator)


def both_say(module: nn.Module, network: Network) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(4, *network.input_shape)
    with torch.inference_mode():
        return network.run(images)[0], module(images)


@needs_fusion
@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.ReLU6(),
        nn.Hardtanh(),
        nn.Hardtanh(-0.3, 0.2),
        nn.SiLU(),
        nn.Hardswish(),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.LeakyReLU(),
        nn.LeakyReLU(0.3),
    ],
    ids=str,
)
def test_a_convolution_takes_in_the_activation_behind_it(activation: nn.Module) -> None:
    module, network = network_of(nn.Conv2d(3, 5, 3, stride=2, padding=(1, 2), bias=False), activation)
    assert len(taken_in(network)) == 1
    torch.testing.assert_close(*both_say(module, network), atol=1e-6, rtol=0)


@pytest.mark.slow
@given(small_cnns())
@settings(max_examples=25, deadline=None)
def test_any_cnn_says_in_float32_what_its_module_says(drawn: tuple[nn.Module, tuple[int, int, int]]) -> None:
    module, shape = drawn
    network = trace(module.float(), shape)
    assert network.traced, network.failure
    mine, theirs = (torch.softmax(scores.double(), 1) for scores in both_say(module, network))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


@needs_fusion
def test_depthwise_and_dilated_convolutions_and_gates_take_activations_in() -> None:
    body = (nn.Conv2d(3, 6, 3, dilation=2, groups=3), nn.BatchNorm2d(6), nn.SiLU(), Gate(6))
    module, network = network_of(*body)
    assert taken_in(network) == {"silu", "sigmoid"}
    torch.testing.assert_close(*both_say(module, network), atol=1e-6, rtol=0)


@needs_fusion
def test_nodes_keep_their_places_and_operations() -> None:
    _, network = network_of(nn.Conv2d(3, 5, 3), nn.ReLU())
    convolution, relu = node_of(network, "conv2d"), node_of(network, "relu")
    assert relu.inputs == (convolution.index,) and convolution.flops == 2 * 3 * 5 * 9
    assert set(network.fusions) == {convolution.index, relu.index}


@needs_fusion
def test_a_convolution_whose_own_value_is_wanted_runs_by_itself() -> None:
    module, network = network_of(nn.Conv2d(3, 5, 3), nn.ReLU())
    convolution, relu = node_of(network, "conv2d"), node_of(network, "relu")
    images = torch.randn(2, 3, 9, 9)
    with torch.inference_mode():
        scores, kept = network.run(images, keep=(convolution.index, relu.index))
        expected = module[0](images)
        torch.testing.assert_close(kept[convolution.index], expected)
        torch.testing.assert_close(kept[relu.index], torch.relu(expected))
        torch.testing.assert_close(scores, module(images))


def test_a_convolution_that_is_read_twice_takes_nothing_in() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return x + torch.relu(x)

    module, network = network_of(Twice())
    assert not network.fusions
    torch.testing.assert_close(*both_say(module, network))


def test_a_convolution_with_weights_of_the_image_takes_nothing_in() -> None:
    class Dynamic(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = x.mean((0, 2, 3))[None, :, None, None].expand(3, 3, 1, 1)
            return torch.relu(functional.conv2d(x, weight))

    assert not network_of(Dynamic())[1].fusions


@pytest.mark.parametrize("activation", [nn.GELU(), nn.ELU(), nn.Identity()], ids=str)
def test_other_activations_stay_by_themselves(activation: nn.Module) -> None:
    assert not network_of(nn.Conv2d(3, 5, 3), activation)[1].fusions


def test_only_float32_on_a_cpu_is_fused() -> None:
    body = (nn.Conv2d(3, 5, 3), nn.ReLU())
    assert not network_of(*body, dtype=torch.float64)[1].fusions
    _, network = network_of(*body)
    assert not network.to("cpu", torch.float64).fusions
    assert not network.to("meta", torch.float32).fusions


def test_a_torch_without_the_operator_runs_both_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "can_fuse", lambda: False)
    module, network = network_of(nn.Conv2d(3, 5, 3), nn.ReLU())
    assert not network.fusions
    torch.testing.assert_close(*both_say(module, network))
