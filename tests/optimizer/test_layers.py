"""Which shapes of convolutions a network has."""

from __future__ import annotations

import torch
from torch import nn

from kryptondb.network import trace
from kryptondb.optimizer.cost import LayerShape, layer_shapes, shape_of
from tests.networks import Gate


def shapes(*layers: nn.Module) -> tuple[LayerShape, ...]:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2))
    module = nn.Sequential(*layers, *head)
    module(torch.zeros(1, 4, 12, 12))
    return layer_shapes(trace(module.eval(), (4, 12, 12)))


def test_every_shape_of_convolution_is_named_once_in_the_order_of_the_network() -> None:
    again = (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    assert shapes(nn.Conv2d(4, 8, (5, 3), stride=(2, 1)), *again, nn.MaxPool2d(2), *again) == (
        LayerShape(4, 8, (5, 3), (2, 1)),
        LayerShape(8, 8),
    )


def test_groups_belong_to_the_shape_and_padding_does_not() -> None:
    assert shapes(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, 1, 2, groups=8)) == (
        LayerShape(4, 8, groups=2),
        LayerShape(8, 8, groups=8),
    )


def test_a_dilated_convolution_has_no_shape() -> None:
    assert shapes(nn.Conv2d(4, 4, 3, dilation=2)) == ()


def test_what_runs_on_the_whole_picture_has_a_shape_but_not_what_runs_on_one_place() -> None:
    assert shapes(Gate(4), nn.Conv2d(4, 5, 3)) == (LayerShape(4, 5),)


def test_only_convolutions_have_a_shape() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network = trace(module.eval(), (4, 12, 12))
    assert [node.operator for node in network.nodes if shape_of(node, network)] == ["conv2d"]
