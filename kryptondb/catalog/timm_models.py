"""`timm('mobilenetv3_small_100')`: every architecture of timm; weights from a file, those that are published, or none.

A name may have a tag behind a dot, which picks one of the published weights: `timm('resnet18.a1_in1k')`. Sizes, means
and standard deviations are those of timm's own configuration of these weights.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from kryptondb.catalog.model import SourceModel
from kryptondb.catalog.options import ModelOptions, channel_count, imagenet_labels
from kryptondb.catalog.weights import not_there, torch_hub_file, torch_hub_path, unreachable, weighted
from kryptondb.errors import BindError, ModelError, did_you_mean

if TYPE_CHECKING:
    import torch

    from kryptondb.images.preprocess import Preprocess

_SERVER = "https://huggingface.co"


@functools.lru_cache(maxsize=1)
def architectures() -> tuple[str, ...]:
    """The names of timm's architectures."""
    return tuple(_timm().list_models())


def build(source: str, options: ModelOptions) -> SourceModel:
    """Builds an architecture. Without `weights` it gets those that are published, fetched once and kept in their cache.

    Raises BindError for an unknown architecture (with the nearest names), ModelError without the package, and when
    weights do not fit or cannot be downloaded.
    """
    options.without("a timm model", "output", "layout")
    source = source.strip()
    name, _, tag = source.partition(".")
    if name not in architectures():  # a name alone: `hf-hub:...` would fetch code's configuration, and is none
        raise BindError(
            f'timm has no architecture "{name}"',
            hint=did_you_mean(name, architectures()) or "For example 'resnet18', 'convnext_tiny' or 'resnetv2_50'.",
        )
    published = _published(name, tag)
    weights = options.weights or "default"
    classes = options.classes or int(published.num_classes)
    channels = int(published.input_size[0]) if options.channels is None else channel_count(options.channels)
    if classes < 1:
        raise ModelError(f"timm's {source} has no classifier of its own", hint="classes => n gives it one.")
    if weights == "default":
        _check_default(source, options, classes, channels, published)
    sizes = _sizes(options, published)

    def fetched() -> tuple[str, str]:
        return _download(source, published), f"timm {'.'.join(part for part in (name, published.tag) if part)}"

    def make() -> torch.nn.Module:
        extra = {"img_size": sizes} if options.size is not None and sizes is not None else {}
        made: torch.nn.Module = _timm().create_model(
            name, pretrained=False, num_classes=classes, in_chans=channels, exportable=True, **extra
        )
        return made

    module, origin, files = weighted(f"timm {name}", make, weights, fetched)
    return SourceModel(
        architecture=f"timm {name}",
        structure=f"timm {name} classes={classes} channels={channels} size={sizes}",
        module=module,
        preprocess=preprocess_of(published),
        weights=origin,
        labels=imagenet_labels(),
        files=files,
        batch=1,
    )


def preprocess_of(published: Any) -> Preprocess:
    """How timm evaluates the network of such a configuration: its resize, crop, mean and std.

    Source: timm's `transforms_imagenet_eval`. Borders of a picture that is fitted in whole get one grey, the mean of
    the channels' means.
    """
    from kryptondb.images.preprocess import Preprocess

    channels, height, width = map(int, published.input_size)
    wanted = tuple(math.floor(side / published.crop_pct) for side in (height, width))
    resize: int | tuple[int, int] | None = max(wanted)
    crop, letterbox = True, None
    if published.crop_mode == "squash":
        crop = wanted != (height, width)
        resize = (wanted[0], wanted[1]) if crop else None
    elif published.crop_mode == "border":
        resize, crop, letterbox = None, False, float(sum(published.mean) / len(published.mean))
    return Preprocess(
        height=height,
        width=width,
        channels={1: "L", 3: "RGB"}.get(channels, channels),
        mean=tuple(published.mean),
        std=tuple(published.std),
        resize=resize,
        crop=crop,
        letterbox=letterbox,
        interpolation="bilinear" if published.interpolation == "bilinear" else "bicubic",
    )


def _timm() -> Any:
    from kryptondb.images.torchvision_guard import declare_missing_operators

    declare_missing_operators()  # timm imports torchvision
    try:
        import timm
    except ImportError:
        raise ModelError("timm('...') needs the package timm", hint='pip install "kryptondb[timm]"') from None
    return timm


def _published(name: str, tag: str) -> Any:
    """The configuration of the best weights of an architecture, or of those with a tag."""
    from timm.models import list_pretrained

    models = _timm().models
    tags = [found.partition(".")[2] for found in list_pretrained(name + ".*")]
    if tag and tag not in tags:
        raise BindError(
            f'timm has no weights "{tag}" of {name}',
            hint=did_you_mean(tag, tags) or (f"Available: {', '.join(tags)}." if tags else "It has none."),
        )
    found = models.get_pretrained_cfg(f"{name}.{tag}" if tag else name)
    if found is None:
        raise ModelError(
            f"timm does not describe the input of {name}", hint="db.register(name, module) takes any module."
        )
    return found


def _sizes(options: ModelOptions, published: Any) -> tuple[int, int] | None:
    """The input that an architecture must be built for; None where it takes any."""
    if not published.fixed_input_size:
        return None
    height, width = options.size or tuple(published.input_size[1:])
    return int(height), int(width)


def _check_default(source: str, options: ModelOptions, classes: int, channels: int, published: Any) -> None:
    """Refuses options that the published weights do not fit, and weights that only timm's own code could read."""
    files = "Give weights => 'file.safetensors' of a network like that, or weights => 'random'."
    if classes != published.num_classes:
        raise ModelError(f"the weights of {source} have {published.num_classes:,} classes, not {classes:,}", hint=files)
    if channels != published.input_size[0]:
        raise ModelError(f"the weights of {source} read {published.input_size[0]} channels, not {channels}", hint=files)
    sizes = tuple(published.input_size[1:])
    if published.fixed_input_size and options.size not in (None, sizes):
        raise ModelError(f"the weights of {source} need size => {sizes}")
    if published.custom_load or not (published.hf_hub_id or published.url):
        raise ModelError(
            f"timm publishes no weights for {source} that can be read without running its own code", hint=files
        )


def _download(source: str, published: Any) -> str:
    """The path of published weights, in the cache of Hugging Face's hub or of torch's, fetched where it is in neither.

    Only the file is fetched. Nothing of a repository is executed, and its configuration is not read.
    """
    what, url = f"the weights of timm's {source}", published.url
    if not published.hf_hub_id or (url and torch_hub_path(url).is_file()):
        return torch_hub_file(url, what)
    import huggingface_hub

    repository, _, revision = published.hf_hub_id.partition("@")
    asked = {
        "repo_id": repository,
        "filename": published.hf_hub_filename or "model.safetensors",
        "revision": revision or None,
    }
    kept = huggingface_hub.try_to_load_from_cache(**asked)
    if isinstance(kept, str):
        return kept
    failure = unreachable(_SERVER)
    if failure is None:
        try:
            return str(huggingface_hub.hf_hub_download(**asked))
        except Exception as error:  # network, disk, no such file: its errors have several roots
            failure = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise not_there(what, failure, f"fetch {asked['filename']} of {_SERVER}/{repository} and name it")
