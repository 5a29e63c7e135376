"""The questions that `benchmarks.dropin` asks a peer and the class that takes its place."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.subject import build

Maps = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Case:
    """One question.

    Attributes:
        peer: 'Captum' or 'MONAI'.
        network: what is explained.
        question: windows, and what else is particular about it.
        theirs: asks the peer; its maps.
        ours: asks the class that takes its place; the maps, and what ran.
    """

    peer: str
    network: str
    question: str
    theirs: Callable[[], Maps]
    ours: Callable[[], tuple[Maps, str]]


@dataclass(frozen=True)
class Extent:
    """How much is computed.

    Attributes:
        side: of the images.
        window, stride: of the windows on them, in pixels.
        networks: torchvision's, for a plain question each; the first is also asked in every other way.
    """

    side: int
    window: int
    stride: int
    networks: tuple[str, ...]


LARGE = Extent(
    224, 32, 12, ("resnet18", "vgg16", "mobilenet_v2", "squeezenet1_1", "densenet121", "resnet50", "efficientnet_b0")
)
SMALL = Extent(64, 32, 24, ("squeezenet1_1",))


def cases(extent: Extent) -> Iterator[Case]:
    """Every question, one network after the other: plain ones, then all that the classes take."""
    for name in extent.networks:
        module, _, _, image = build(name, extent.side, seed=0)
        plain = _windows(extent)
        yield captum(name, module, image, plain, "one image", target=_likeliest(module, image))
        yield monai(name, module, image, extent, "one image")
    name = extent.networks[0]
    module, _, _, image = build(name, extent.side, seed=0)
    yield from _images(name, module, image, extent)
    yield from _modes(name, module, image, extent)
    yield from _others(extent)


def _images(name: str, module: nn.Module, image: torch.Tensor, extent: Extent) -> Iterator[Case]:
    """Captum's arguments on images."""
    pair = torch.cat([image, image.flip(3)])
    noise = torch.rand(pair.shape, generator=torch.Generator().manual_seed(1))
    plain = _windows(extent)
    uneven = {
        "sliding_window_shapes": (3, extent.window - 2, extent.window + 5),
        "strides": (3, extent.stride + 1, extent.stride - 1),
    }
    channels = {
        "sliding_window_shapes": (1, extent.window, extent.window),
        "strides": (1, extent.stride, extent.stride),
    }
    yield captum(name, module, pair, plain, "2 images, a target each", target=[1, 3])
    yield captum(name, module, pair, plain, "2 images, a baseline each", target=1, baselines=noise)
    yield captum(name, module, image, uneven, "oblong windows, baseline 0.3", target=(1,), baselines=0.3)
    yield captum(name, module, image, channels, "channel by channel", target=torch.tensor(2))
    yield captum(name, lambda x: module(x).softmax(1), image, plain, "behind a softmax", target=1)
    yield captum(name, lambda x: module(x)[:, 1], image, plain, "one number per image")
    yield captum(name, lambda x: module(x).softmax(1)[:, 1].sum(), image, plain, "one number per batch", per_eval=1)


def _modes(name: str, module: nn.Module, image: torch.Tensor, extent: Extent) -> Iterator[Case]:
    """MONAI's arguments on images."""
    for mode in ("mean_patch", "mean_img", 0.3):
        yield monai(name, module, image, extent, f"mode {mode}", mode=mode)
    yield monai(name, module, image, extent, "scores as they are", activate=False)
    half = extent.side // 2
    yield monai(name, module, image, extent, "a box", b_box=[half // 2, half, -1, -1])


def _others(extent: Extent) -> Iterator[Case]:
    """What cannot run incrementally."""
    torch.manual_seed(0)
    lines = nn.Sequential(
        nn.Conv1d(4, 32, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 3)
    ).eval()
    line = {"sliding_window_shapes": (4, 8), "strides": (4, 4)}
    yield captum("Conv1d", lines, torch.rand(2, 4, 16 * extent.side), line, "signals", target=1)
    columns = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 3)).eval()
    yield captum("Linear", columns, torch.rand(8, 64), {"sliding_window_shapes": (1,)}, "columns of a table", target=1)
    small = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    images = torch.rand(2, 3, extent.side, extent.side)

    def both(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = small(first) * (1 + second)
        return features

    shape = (3, extent.window, extent.window)
    yield captum(
        "Conv2d", both, (images, torch.rand(2, 16)), {"sliding_window_shapes": (shape, (4,)), "strides": (shape, 4)},
        "two inputs", target=2,
    )  # fmt: skip
    yield captum(
        "Conv2d", lambda x, factor: small(x) * factor, images, _windows(extent), "additional arguments", target=2,
        additional_forward_args=(0.5,),
    )  # fmt: skip
    volumes = nn.Sequential(
        nn.Conv3d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3)
    ).eval()
    yield monai("Conv3d", volumes, torch.rand(1, 1, 24, 24, 24), Extent(24, 8, 8, ()), "a volume")


def captum(
    name: str,
    forward: Callable[..., Any],
    inputs: torch.Tensor | tuple[torch.Tensor, ...],
    windows: dict[str, Any],
    question: str,
    per_eval: int = 16,
    **arguments: Any,
) -> Case:
    """A question to Captum's `Occlusion`."""
    from captum.attr import Occlusion as Peer  # type: ignore[import-untyped]

    from kryptondb.compat.captum import Occlusion

    asked = {"inputs": inputs, "perturbations_per_eval": per_eval, **windows, **arguments}
    peer, own = Peer(forward), Occlusion(forward)

    def ours() -> tuple[Maps, str]:
        maps = own.attribute(**asked)
        return _all(maps), own.explanation

    return Case("Captum", name, question, lambda: _all(peer.attribute(**asked)), ours)


def monai(
    name: str, module: nn.Module, image: torch.Tensor, extent: Extent, question: str, b_box: Any = None, **options: Any
) -> Case:
    """A question to MONAI's `OcclusionSensitivity`: the map, and how probable the most probable class is."""
    from monai.visualize import OcclusionSensitivity as Peer

    from kryptondb.compat.monai import OcclusionSensitivity

    chosen: dict[str, Any] = {
        "mask_size": extent.window,
        "overlap": 1 - extent.stride / extent.window,
        "n_batch": 16,
        "verbose": False,
        **options,
    }
    peer, own = Peer(module, **chosen), OcclusionSensitivity(module, **chosen)

    def theirs() -> Maps:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it indexes with lists, which torch warns of
            maps, classes = peer(image, b_box=b_box)
        return _likeliest_of(maps.as_tensor(), classes.as_tensor())

    def ours() -> tuple[Maps, str]:
        return _likeliest_of(*own(image, b_box=b_box)), own.explanation

    return Case("MONAI", name, question, theirs, ours)


def _windows(extent: Extent) -> dict[str, Any]:
    shape, strides = (3, extent.window, extent.window), (3, extent.stride, extent.stride)
    return {"sliding_window_shapes": shape, "strides": strides}


def _likeliest(module: nn.Module, image: torch.Tensor) -> int:
    with torch.no_grad():
        return int(module(image).argmax())


def _likeliest_of(maps: torch.Tensor, classes: torch.Tensor) -> Maps:
    """The map, and its values at the classes that were found the most probable: ties may be broken either way."""
    return maps, maps.gather(1, classes)


def _all(maps: torch.Tensor | Maps) -> Maps:
    return maps if isinstance(maps, tuple) else (maps,)
