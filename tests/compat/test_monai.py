"""The same maps as the installed MONAI gives, whatever runs under them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kryptondb.compat.monai import OcclusionSensitivity
from tests.compat.conftest import Counted
from tests.networks import normalized_network

visualize = pytest.importorskip("monai.visualize")

IMAGE = torch.rand(1, 3, 17, 22, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def quiet_peer() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it indexes with lists, which torch warns of
        yield


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    return normalized_network()


def same(module: nn.Module, x: torch.Tensor, b_box: Any = None, /, call: Any = None, **options: Any) -> str:
    """Asserts that MONAI says the same; what ran."""
    options = {"mask_size": 5, "n_batch": 4, "verbose": False} | options
    sensitivity = OcclusionSensitivity(module, **options)
    ours, classes = sensitivity(x, b_box=b_box, **(call or {}))
    peer, peer_classes = visualize.OcclusionSensitivity(module, **options)(x, b_box=b_box, **(call or {}))
    assert ours.shape == peer.shape
    assert ours.dtype == peer.dtype
    torch.testing.assert_close(ours, peer.as_tensor(), atol=1e-6, rtol=1e-5, equal_nan=True)
    assert torch.equal(classes, peer_classes.as_tensor())
    return sensitivity.explanation


@pytest.mark.usefixtures("tracing_pays")
class TestTheTracedNetwork:
    @pytest.mark.parametrize("mode", ["gaussian", "mean_patch", "mean_img", 0.4])
    @pytest.mark.parametrize("box", [None, [2, 11, 3, 18], [-1, -1, 4, 15], [0, 12, -1, -1]], ids=str)
    def test_agrees_for_every_mode_and_box(self, network: nn.Module, mode: Any, box: Any) -> None:
        assert "inference" in same(network, IMAGE, box, mode=mode, mask_size=(4, 7))

    @pytest.mark.parametrize("overlap", [0.0, 0.3, (0.6, 0.9)], ids=str)
    def test_agrees_for_every_overlap(self, network: nn.Module, overlap: Any) -> None:
        assert "inference" in same(network, IMAGE, overlap=overlap)

    @pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1e38], ids=str)
    def test_agrees_for_an_image_that_is_not_finite_or_becomes_so(self, network: nn.Module, odd: float) -> None:
        image = IMAGE.clone()
        image[0, :, 3, 4] = odd
        same(network, image, mode=0.4, overlap=(0.0, 0.6), activate=False)

    @pytest.mark.parametrize("activate", [True, False, torch.sigmoid], ids=["on", "off", "sigmoid"])
    def test_agrees_for_every_activation(self, network: nn.Module, activate: Any) -> None:
        assert "inference" in same(network, IMAGE, activate=activate)

    def test_agrees_for_images_of_one_channel_which_get_a_sigmoid(self) -> None:
        assert "inference" in same(normalized_network(channels=1), IMAGE[:, :1])

    def test_agrees_for_a_mask_that_hides_everything(self, network: nn.Module) -> None:
        same(network, IMAGE, mask_size=(17, 22), mode="mean_img")

    def test_is_asked_and_not_the_module(self, network: nn.Module) -> None:
        counted = Counted(network)
        OcclusionSensitivity(counted, mask_size=3, n_batch=4, verbose=False)(IMAGE)
        assert counted.images < 20


@pytest.mark.usefixtures("tracing_pays")
class TestBatchesRunFor:
    @pytest.mark.parametrize("mode", ["gaussian", "mean_patch", "mean_img", 0.4])
    def test_volumes(self, mode: Any) -> None:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 3))
        volume = torch.rand(1, 1, 6, 7, 5)
        explanation = same(module, volume, [1, 4, -1, -1, -1, -1], mode=mode, mask_size=3, overlap=0.4)
        assert explanation.startswith("batches of 4: the input is not an image")

    def test_other_arguments(self) -> None:
        class Scaled(nn.Module):
            def forward(self, x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
                return x.mean((2, 3)) * factor

        assert "other arguments" in same(Scaled(), IMAGE, None, call={"factor": 3.0})


def test_a_function_hides_what_it_is_given(network: nn.Module) -> None:
    def black(image: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        assert image.shape == IMAGE.shape
        return torch.zeros_like(hidden)

    options: dict[str, Any] = {"mask_size": 5, "verbose": False}
    by_function, _ = OcclusionSensitivity(network, mode=black, **options)(IMAGE)
    by_number, _ = OcclusionSensitivity(network, mode=0.0, **options)(IMAGE)
    torch.testing.assert_close(by_function, by_number)


def test_the_module_is_asked_in_eval_mode_and_left_in_its_own() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Flatten()).train()
    module[0].eval()
    options: dict[str, Any] = {"mask_size": 9, "verbose": False}
    found, _ = OcclusionSensitivity(module, **options)(IMAGE)
    assert [part.training for part in module.modules()] == [True, False, True, True]
    torch.testing.assert_close(found, OcclusionSensitivity(module.eval(), **options)(IMAGE)[0])


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"mode": "gausian"}, {}),
        ({"mode": None}, {}),
        ({"n_batch": 0}, {}),
        ({"overlap": 1.0}, {}),
        ({"mask_size": 30}, {}),
        ({"mask_size": (3, 3, 3)}, {}),
        ({}, {"b_box": [0, 4, 1]}),
        ({}, {"b_box": [9, 4, 3, 2]}),
        ({}, {"x": torch.zeros(2, 3, 17, 22)}),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(network: nn.Module, options: Any, call: Any) -> None:
    with pytest.raises(ValueError):
        OcclusionSensitivity(network, **({"mask_size": 5, "verbose": False} | options))(**({"x": IMAGE} | call))


@pytest.mark.parametrize("options", [{"mask_size": np.array([5, 6])}, {"overlap": np.array([0.5, 0.3])}], ids=str)
def test_arrays_are_numbers_for_each_axis(network: nn.Module, options: Any) -> None:
    same(network, IMAGE, **options)


def test_maps_are_float32_whatever_the_image_is() -> None:
    same(normalized_network().double(), IMAGE.double())
