"""torchvision's architectures."""

from __future__ import annotations

import contextlib
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch

from kryptondb.catalog import build_model, torchvision_models, weights
from kryptondb.catalog.torchvision_models import architectures, default_preprocess
from kryptondb.errors import BindError, ModelError
from tests.patience import PATIENCE

SMALL = "mnasnet0_5"  # 0.9 M parameters with 4 classes
OPTIONS = {"weights": "random", "classes": 4, "size": 32}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """No server can be reached, and torch's cache is empty; the list fills with what was asked for."""
    asked: list[str] = []

    def fail(request: Any, **_: object) -> None:
        asked.append(request.full_url)
        raise OSError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return asked


def test_every_classification_architecture_is_there_with_a_preprocessing() -> None:
    assert len(architectures()) >= 80
    assert {"vgg16", "resnet18", "inception_v3", "vit_b_16"} <= set(architectures())
    assert not {"fcn_resnet50", "fasterrcnn_resnet50_fpn", "r3d_18"} & set(architectures())
    for name in architectures():
        preprocess = default_preprocess(name)
        assert preprocess.channel_count == 3 and preprocess.crop and preprocess.resize
    assert (default_preprocess("inception_v3").height, default_preprocess("inception_v3").resize) == (299, 342)
    assert default_preprocess("efficientnet_b0").interpolation == "bicubic"
    assert default_preprocess("resnet18").mean == (0.485, 0.456, 0.406)
    assert default_preprocess("googlenet").mean == (0.5, 0.5, 0.5)


def test_random_weights_are_the_same_every_time_and_leave_the_callers_numbers_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build_model("a", "torchvision", SMALL, OPTIONS)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    second = build_model("b", "torchvision", "MNASNet0_5 ", OPTIONS)
    assert first.fingerprint == second.fingerprint
    assert first.architecture == f"torchvision {SMALL}" and first.weights == "random (seed 0)"
    assert first.input_shape == (3, 32, 32) and first.labels == ("class 0", "class 1", "class 2", "class 3")
    assert not first.module.training


def test_a_thousand_classes_have_imagenets_names() -> None:
    model = build_model("net", "torchvision", "squeezenet1_1", {"weights": "random", "size": 32})
    assert model.classes == 1000 and model.labels[285] == "Egyptian cat" and model.parameters == 1_235_496


def test_one_channel_gets_a_stem_of_one_channel() -> None:
    model = build_model("net", "torchvision", SMALL, {**OPTIONS, "channels": "L"})
    assert model.input_shape == (1, 32, 32)
    assert next(model.module.parameters()).shape[1] == 1


def test_weights_from_a_file_are_the_models(tmp_path: Path) -> None:
    module = build_model("net", "torchvision", SMALL, OPTIONS).module
    with torch.no_grad():
        next(module.parameters()).mul_(2)
    path = tmp_path / "net.pth"
    torch.save(module.state_dict(), path)
    model = build_model("net", "torchvision", SMALL, {**OPTIONS, "weights": str(path)})
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model.module(images), module(images))
    assert model.weights == str(path) and model.files == (str(path),)
    with pytest.raises(ModelError, match="If only the classifier differs: classes => 4"):
        build_model("net", "torchvision", SMALL, {"weights": str(path), "size": 32})
    with pytest.raises(ModelError, match=r"layers\.0\.weight is .* x 3 x 3 x 3, expected .* x 1 x 3 x 3"):
        build_model("net", "torchvision", SMALL, {**OPTIONS, "weights": str(path), "channels": "L"})


def test_unknown_architectures_name_the_nearest() -> None:
    with pytest.raises(BindError, match='no classification architecture "resnet81"\nDid you mean "resnet18"'):
        build_model("net", "torchvision", "resnet81", {"weights": "random"})


def test_default_weights_without_a_network_say_what_to_do(no_network: list[str], tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        build_model("net", "torchvision", "resnet18", {})
    message = str(caught.value)
    assert "torchvision's weights for resnet18 cannot be downloaded: Name or service not known" in message
    assert "weights => 'file.pth' or weights => 'random'" in message
    assert no_network == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]
    assert not list(tmp_path.rglob("*.pth"))


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = threading.Event()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(weights, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: contextlib.nullcontext(release.wait(PATIENCE)))
    with pytest.raises(ModelError, match=r"no answer within 0\.05 seconds"):
        build_model("net", "torchvision", "resnet18", {})
    release.set()


def test_a_downloaded_file_that_is_not_what_was_published_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(weights, "unreachable", lambda _: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    served = tmp_path / "squeezenet1_1-b8a52dc0.pth"
    served.write_bytes(b"something else")
    published = torchvision_models._published("squeezenet1_1")
    monkeypatch.setattr(torchvision_models, "_published", lambda _: _At(published, served.as_uri()))
    with pytest.raises(ModelError, match="cannot be downloaded: invalid hash value"):
        build_model("net", "torchvision", "squeezenet1_1", {})


class _At:
    """Published weights at another address."""

    def __init__(self, published: Any, url: str) -> None:
        self.transforms, self.name, self.url = published.transforms, published.name, url


def test_default_weights_in_torchs_cache_need_no_network(no_network: list[str], tmp_path: Path) -> None:
    random = build_model("net", "torchvision", "squeezenet1_1", {"weights": "random", "size": 32})
    (tmp_path / "checkpoints").mkdir()
    torch.save(random.module.state_dict(), tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    model = build_model("net", "torchvision", "squeezenet1_1", {"size": 32})
    assert no_network == [] and model.weights == "torchvision IMAGENET1K_V1"
    assert model.fingerprint == random.fingerprint  # architecture, weights and preprocessing are the same


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 10}, "have 1,000 classes, not 10"),
        ({"channels": "L"}, "read RGB, not one channel"),
    ],
)
def test_default_weights_fit_imagenet_only(no_network: list[str], options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model("net", "torchvision", "resnet18", options)
    assert no_network == []


def test_transformers_have_their_size_built_in(no_network: list[str]) -> None:
    assert torchvision_models._extra("vit_b_16", torchvision_models.ModelOptions(size=(32, 32))) == {"image_size": 32}
    with pytest.raises(BindError, match="must be square"):
        torchvision_models._extra("vit_b_16", torchvision_models.ModelOptions(size=(32, 64)))
    with pytest.raises(ModelError, match="need size => 224"):
        build_model("net", "torchvision", "vit_b_16", {"size": 64})
    with pytest.raises(ModelError, match="vit_b_32 cannot be built"):
        build_model("net", "torchvision", "vit_b_32", {"size": 33, "weights": "random", "classes": 2})


def test_a_size_that_the_network_cannot_take_is_explained() -> None:
    with pytest.raises(ModelError, match='model "net" fails on an input of 1 x 3 x 8 x 8: .*\nSet size =>'):
        build_model("net", "torchvision", "alexnet", {"weights": "random", "size": 8, "classes": 2})
