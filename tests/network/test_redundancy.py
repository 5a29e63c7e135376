"""Redundancy ratios of real architectures, and of a network small enough to count by hand.

The architectures live on torch's meta device: geometry needs shapes and no weights.
"""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from kryptondb.network import Grid, Network, trace
from kryptondb.network.redundancy import redundancy_table


def architecture(name: str) -> Network:
    size = 299 if name == "inception_v3" else 224
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        module = getattr(torchvision.models, name)(weights=None, **options).eval()
    return trace(module, (3, size, size))


# Patch 16, stride 4, mean over the positions: all positions with the largest region, and each with its own.
MEASURED = {
    "vgg16": (6.54, 9.14),
    "resnet18": (2.19, 2.83),
    "resnet50": (2.07, 2.69),
    "densenet121": (1.99, 2.32),
    "mobilenet_v2": (1.81, 2.21),
    "squeezenet1_0": (4.93, 7.18),
    "alexnet": (2.38, 3.56),
    # An independent count said 1.74 and 1.88. Brute force on real activations (test_regions.py) shows that nothing
    # changes outside the regions that give these.
    "inception_v3": (1.80, 1.94),
    # Every squeeze-and-excitation gate scales every place by something that any place can change: from the first one on
    # all of the network has to run again.
    "efficientnet_b0": (1.04, 1.04),
}


@pytest.mark.parametrize("name", MEASURED)
def test_the_whole_grids_ratio_is_the_measured_one_to_two_decimals(name: str) -> None:
    network = architecture(name)
    _, height, width = network.input_shape
    total = redundancy_table(network, Grid(height, width, (16, 16), (4, 4)))[-1]
    assert (round(total.uniform_ratio, 2), round(total.ratio, 2)) == MEASURED[name]


def test_without_its_gates_efficientnet_has_the_ratio_of_its_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.ops.misc.SqueezeExcitation, "forward", lambda self, x: x)
    total = redundancy_table(architecture("efficientnet_b0"), Grid(224, 224, (16, 16), (4, 4)))[-1]
    assert (round(total.uniform_ratio, 2), round(total.ratio, 2)) == (1.57, 1.78)


def test_a_patch_at_the_centre_is_the_worst_case_of_figure_5() -> None:
    total = redundancy_table(architecture("vgg16"), Grid(224, 224, (16, 16), (4, 4)))[-1]
    assert total.centre_ratio <= total.ratio
    assert total.centre_ratio == pytest.approx(6.5, abs=0.1)


def test_every_layer_adds_up_to_the_total_and_to_the_counted_operations() -> None:
    network = trace(
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 100, 3)).eval(), (2, 10, 10)
    )
    conv, linear, total = redundancy_table(network, Grid(10, 10, (2, 2), (8, 8)))
    assert conv.gflops_full * 1e9 == 2 * (2 * 3 * 3) * (4 * 10 * 10)  # equation 16, two operations a multiply-add
    assert conv.gflops_incremental * 1e9 == 2 * (2 * 3 * 3) * 4 * 9  # a corner changes 3 x 3 places
    assert linear.gflops_full == linear.gflops_incremental == 2 * 400 * 3 / 1e9
    assert total.gflops_full == pytest.approx(conv.gflops_full + linear.gflops_full)
    assert total.ratio == pytest.approx(total.gflops_full / total.gflops_incremental)
    assert (conv.channels, conv.height, conv.width) == (4, 10, 10)


def test_an_untraced_network_has_no_table() -> None:
    network = Network((), 0, (3, 8, 8), 2, nn.Identity(), failure="data-dependent branch")
    with pytest.raises(ValueError, match="data-dependent branch"):
        redundancy_table(network, Grid(8, 8, (2, 2), (2, 2)))
