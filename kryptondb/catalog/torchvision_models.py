"""`torchvision('resnet18')`: every classification architecture of torchvision; weights from a file, its own or none."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from kryptondb.catalog.model import SourceModel
from kryptondb.catalog.options import ModelOptions, imagenet_labels
from kryptondb.catalog.weights import torch_hub_file, weighted
from kryptondb.errors import BindError, ModelError, did_you_mean

if TYPE_CHECKING:
    import torch

    from kryptondb.images.preprocess import Preprocess

WITH_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}  # heads that only train
IMAGENET_CLASSES = 1000


@functools.lru_cache(maxsize=1)
def architectures() -> tuple[str, ...]:
    """The names of torchvision's classification architectures."""
    from kryptondb.images.torchvision_guard import declare_missing_operators

    declare_missing_operators()  # before torchvision, everywhere
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


def build(source: str, options: ModelOptions) -> SourceModel:
    """Builds an architecture. Without `weights` it gets torchvision's own, downloaded once and kept by torch.

    Raises BindError for an unknown architecture (with the nearest names), ModelError when weights do not fit or cannot
    be downloaded.
    """
    options.without("a torchvision model", "output", "layout")
    name = source.strip().lower()
    if name not in architectures():
        raise BindError(
            f'torchvision has no classification architecture "{source}"',
            hint=did_you_mean(source, architectures()) or "For example 'resnet18', 'vgg16' or 'efficientnet_b0'.",
        )
    weights = options.weights or "default"
    classes = options.classes or IMAGENET_CLASSES
    published = _published(name)
    if weights == "default":
        _check_default(name, options, classes, published)

    def fetched() -> tuple[str, str]:
        path = torch_hub_file(str(published.url), f"torchvision's weights for {name}")
        return path, f"torchvision {published.name}"

    def make() -> torch.nn.Module:
        return _made(name, classes, options)

    called = f"torchvision {name}"
    module, origin, files = weighted(called, make, weights, fetched, WITH_AUXILIARY.get(name, ()))
    return SourceModel(
        architecture=called,
        structure=f"torchvision {name} classes={classes} channels={options.channels or 'RGB'} {_extra(name, options)}",
        module=module,
        preprocess=default_preprocess(name),
        weights=origin,
        labels=imagenet_labels(),
        files=files,
        batch=1,
    )


def default_preprocess(name: str) -> Preprocess:
    """How torchvision evaluates this architecture: resize, centre crop, mean and std; nothing is downloaded."""
    from kryptondb.images.preprocess import Preprocess

    transforms = _published(name).transforms()
    side = int(transforms.crop_size[0])
    # torchvision feeds these two ImageNet statistics and then maps them to (p - 0.5) / 0.5 inside the network
    # (`transform_input`); the network is built without that layer, so the mapping is done here.
    half = name in WITH_AUXILIARY
    return Preprocess(
        height=side,
        width=side,
        mean=(0.5,) * 3 if half else tuple(transforms.mean),
        std=(0.5,) * 3 if half else tuple(transforms.std),
        resize=int(transforms.resize_size[0]),
        crop=True,
        interpolation="bicubic" if transforms.interpolation.value == "bicubic" else "bilinear",
    )


def _published(name: str) -> Any:
    """The best weights torchvision has for an architecture: a WeightsEnum member with url, meta and transforms."""
    from kryptondb.images.torchvision_guard import declare_missing_operators

    declare_missing_operators()
    from torchvision.models import get_model_weights

    return get_model_weights(name).DEFAULT


def _extra(name: str, options: ModelOptions) -> dict[str, Any]:
    """What an architecture needs besides the class count: transformers have their input size built in."""
    if name in WITH_AUXILIARY:
        return {"aux_logits": False, "init_weights": False}  # its truncated normals come from scipy: 30 s
    if name.startswith("vit_"):
        height, width = options.size or (_side(name), _side(name))
        if height != width:
            raise BindError("size must be square for a vision transformer", hint="Give one number.", option="size")
        return {"image_size": height}
    if name.startswith("maxvit"):
        return {"input_size": options.size or (_side(name), _side(name))}
    return {}


def _side(name: str) -> int:
    return int(_published(name).transforms().crop_size[0])


def _made(name: str, classes: int, options: ModelOptions) -> torch.nn.Module:
    """The architecture with random weights."""
    import torch
    from torchvision.models import get_model

    module: torch.nn.Module = get_model(name, weights=None, num_classes=classes, **_extra(name, options))
    if name in WITH_AUXILIARY:  # its own initialization was left out; without any, signals fade to nothing
        for part in module.modules():
            if isinstance(part, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(part.weight)
    if options.channels == "L":
        _single_channel_stem(module, name)
    return module


def _single_channel_stem(module: torch.nn.Module, name: str) -> None:
    """Replaces the first convolution, in place, by one that reads a single channel."""
    import torch

    for path, part in module.named_modules():
        if isinstance(part, torch.nn.Conv2d) and part.in_channels == 3 and part.groups == 1:
            stem = torch.nn.Conv2d(
                1,
                part.out_channels,
                part.kernel_size,  # type: ignore[arg-type]
                part.stride,  # type: ignore[arg-type]
                part.padding,  # type: ignore[arg-type]
                part.dilation,  # type: ignore[arg-type]
                bias=part.bias is not None,
            )
            torch.nn.init.kaiming_normal_(stem.weight)
            parent, _, child = path.rpartition(".")
            setattr(module.get_submodule(parent), child, stem)
            return
    raise ModelError(f"torchvision {name} has no stem that could read one channel", hint="channels => 'RGB' works.")


def _check_default(name: str, options: ModelOptions, classes: int, published: Any) -> None:
    """Refuses options that its own weights do not fit: other classes, one channel, another size of a transformer."""
    if classes != IMAGENET_CLASSES:
        raise ModelError(
            f"torchvision's weights for {name} have {IMAGENET_CLASSES:,} classes, not {classes:,}",
            hint="Give weights => 'file.pth' of a network with that many classes, or weights => 'random'.",
        )
    if options.channels == "L":
        raise ModelError(
            f"torchvision's weights for {name} read RGB, not one channel",
            hint="Omit channels => (gray pictures become RGB), or give weights => 'file.pth' or 'random'.",
        )
    side = int(published.transforms().crop_size[0])
    if name.startswith(("vit_", "maxvit")) and options.size not in (None, (side, side)):
        raise ModelError(f"torchvision's weights for {name} need size => {side}")
