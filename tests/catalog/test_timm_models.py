"""timm('name'): its architectures, their own sizes and statistics, and weights without running anybody's code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kryptondb.catalog import timm_models, weights
from kryptondb.catalog.build import build_model
from kryptondb.errors import BindError, ModelError
from kryptondb.images.torchvision_guard import declare_missing_operators

declare_missing_operators()  # timm imports torchvision
timm = pytest.importorskip("timm")

SMALL = "test_resnet"  # of timm's own tests: half a million parameters, 160 x 160
RANDOM = {"weights": "random"}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Empty caches, and no server that answers; where the caches are."""
    import huggingface_hub

    def cached(repo_id: str, filename: str, revision: str | None = None) -> str | None:
        path = tmp_path / repo_id / filename
        return str(path) if path.is_file() else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(timm_models, "unreachable", lambda _: "Name or service not known")
    monkeypatch.setattr(weights, "unreachable", lambda _: "Name or service not known")
    return tmp_path


def test_an_architecture_has_its_own_size_and_statistics() -> None:
    model = build_model("net", "timm", SMALL, RANDOM)
    assert model.input_shape == (3, 160, 160) and model.classes == 1000
    assert model.labels[285] == "Egyptian cat"
    assert (model.architecture, model.weights) == (f"timm {SMALL}", "random (seed 0)")
    assert model.preprocess.mean == (0.5, 0.5, 0.5)


def test_the_same_random_weights_come_every_time() -> None:
    before = torch.get_rng_state()
    first, second = (build_model("net", "timm", SMALL, RANDOM) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert torch.equal(torch.get_rng_state(), before)


def test_the_users_classes_channels_and_size_are_built() -> None:
    model = build_model("net", "timm", SMALL, {**RANDOM, "classes": 2, "channels": "L", "size": (96, 64)})
    assert (model.input_shape, model.classes) == ((1, 96, 64), 2)
    assert model.module(torch.rand(1, 1, 96, 64)).shape == (1, 2)


def test_a_transformer_is_built_for_the_size_that_is_asked_for() -> None:
    model = build_model("net", "timm", "test_vit", {**RANDOM, "size": 64})
    assert model.input_shape == (3, 64, 64)
    assert model.module(torch.rand(1, 3, 64, 64)).shape == (1, 1000)


def test_a_tag_picks_the_configuration_of_its_weights() -> None:
    plain, other = (timm_models.preprocess_of(timm_models._published("resnet18", tag)) for tag in ("", "tv_in1k"))
    assert (plain.interpolation, other.interpolation) == ("bicubic", "bilinear")


@pytest.mark.parametrize(
    "name", ["resnet18.a1_in1k", "resnet18.tv_in1k", "vit_base_patch16_clip_224.openai", "convnext_small.fb_in22k"]
)
@pytest.mark.parametrize("size", [(300, 200), (180, 260)])
def test_pictures_are_prepared_as_timm_does(name: str, size: tuple[int, int]) -> None:
    published = timm.get_pretrained_cfg(name)
    config = timm.data.resolve_data_config({}, pretrained_cfg=published.to_dict())
    smooth = np.kron(np.random.default_rng(3).integers(0, 256, (6, 5, 3)), np.ones((50, 52, 1)))[: size[0], : size[1]]
    image = Image.fromarray(smooth.astype(np.uint8))
    expected = timm.data.create_transform(**config)(image)
    from kryptondb.images.arrays import from_array

    preprocess = timm_models.preprocess_of(published)
    found = preprocess.normalize(preprocess.pixels(from_array(np.asarray(image), "picture")))
    assert found.shape == expected.shape
    # its pixels are rounded to 8 bits between the steps, and places differ by up to half a pixel
    assert float((found - expected).abs().mean()) < 0.05


def test_a_picture_is_squashed_or_fitted_in_where_the_weights_want_it() -> None:
    squashed = timm_models.preprocess_of(timm.get_pretrained_cfg("convnext_small.in12k_ft_in1k_384"))
    assert (squashed.resize, squashed.crop, squashed.letterbox) == (None, False, None)
    fitted = timm_models.preprocess_of(timm.get_pretrained_cfg("deepseek_vit_412m"))
    assert fitted.letterbox is not None and not fitted.crop


def test_weights_from_a_file_are_the_models(tmp_path: Path) -> None:
    module = timm.create_model(SMALL, num_classes=4)
    path = tmp_path / "net.pth"
    torch.save(module.state_dict(), path)
    model = build_model("net", "timm", SMALL, {"weights": str(path), "classes": 4})
    images = torch.rand(2, 3, 160, 160)
    torch.testing.assert_close(model.module(images), module.eval()(images))
    with pytest.raises(ModelError, match="If only the classifier differs: classes => 4"):
        build_model("net", "timm", SMALL, {"weights": str(path)})


def test_published_weights_in_a_cache_need_no_network(no_network: Path) -> None:
    from safetensors.torch import save_file

    module = timm.create_model(SMALL)
    folder = no_network / timm.get_pretrained_cfg(SMALL).hf_hub_id
    folder.mkdir(parents=True)
    save_file(module.state_dict(), folder / "model.safetensors")
    model = build_model("net", "timm", SMALL, {})
    assert model.weights.startswith(f"timm {SMALL}.") and model.files == (str(folder / "model.safetensors"),)
    images = torch.rand(1, 3, 160, 160)
    torch.testing.assert_close(model.module(images), module.eval()(images))


def test_published_weights_without_a_network_say_what_to_do(no_network: Path) -> None:
    with pytest.raises(ModelError) as caught:
        build_model("net", "timm", SMALL, {})
    message = str(caught.value)
    assert f"the weights of timm's {SMALL} cannot be downloaded: Name or service not known" in message
    assert "weights => 'file.pth' or weights => 'random'" in message and "model.safetensors of https://" in message


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (SMALL, {"classes": 3}, "have 1,000 classes, not 3"),
        (SMALL, {"channels": "L"}, "read 3 channels, not 1"),
        ("test_vit", {"size": 64}, r"need size => \(160, 160\)"),
        ("resnet18", {"layout": "channels_last"}, 'option "layout" does not apply to a timm model'),
    ],
)
def test_published_weights_that_do_not_fit_are_refused_before_they_are_fetched(
    no_network: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ModelError, BindError), match=message):
        build_model("net", "timm", name, options)


def test_unknown_architectures_and_tags_name_the_nearest() -> None:
    with pytest.raises(BindError, match='timm has no architecture "resnet81"\nDid you mean "resnet'):
        build_model("net", "timm", "resnet81", RANDOM)
    with pytest.raises(BindError, match='timm has no weights "a1_in2k" of resnet18\nDid you mean "a1_in1k"'):
        build_model("net", "timm", "resnet18.a1_in2k", RANDOM)


@pytest.mark.parametrize(
    "name", ["hf-hub:someone/something", "hf_hub:timm/resnet18", "local-dir:/tmp", "../resnet18", ""]
)
def test_only_architectures_are_built_and_nothing_is_fetched_from_strangers(name: str) -> None:
    with pytest.raises(BindError, match="timm has no architecture"):
        build_model("net", "timm", name, RANDOM)


def test_a_backbone_without_a_classifier_says_so(no_network: Path) -> None:
    with pytest.raises(ModelError, match="has no classifier of its own\nclasses => n"):
        build_model("net", "timm", "vit_small_patch14_dinov2", {})


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    timm_models.architectures.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r'needs the package timm\npip install "kryptondb\[timm\]"'):
        build_model("net", "timm", SMALL, RANDOM)
