"""What networks read and give beside one softmax of a channels-first picture: each option against the module itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

import kryptondb

RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8)
QUERY = "SELECT HEATMAP FROM occlude(net, ?, patch => 4, stride => 4{})"


class Body(nn.Module):
    """Scores [n, outputs] of pictures [n, channels, 16, 16]."""

    def __init__(self, outputs: int, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(x)
        return scores


class ChannelsLast(Body):
    """The same of pictures [n, 16, 16, channels]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 3, 1, 2))


class Named(Body):
    """The same with others beside it."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"features": x.mean((2, 3)), "logits": super().forward(x)}


class Paired(Body):
    """The same as the second of two."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return x.mean((2, 3)), super().forward(x)


class Precise(Body):
    """The same, its last layer in float64 with weights that are kept in float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last = self.layers[3]
        assert isinstance(last, nn.Linear)
        features = self.layers[:3](x).double()
        return nn.functional.linear(features, last.weight.double(), last.bias.double()).float()


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]


def occluded(body: Body, picture: np.ndarray, row: int, col: int) -> torch.Tensor:
    image = tensor(picture)
    image[:, :, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4] = 0.5
    with torch.no_grad():
        return body.layers(image)[0]


@pytest.fixture
def db() -> Iterator[kryptondb.Session]:
    with kryptondb.connect() as session:
        yield session


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (ChannelsLast(3), {"layout": "channels_last"}),
        (Named(3), {"output": "logits"}),
        (Paired(3), {"output": 1}),
    ],
    ids=["channels_last", "dict", "tuple"],
)
def test_inputs_and_outputs_of_other_shapes(db: kryptondb.Session, module: Body, options: dict[str, object]) -> None:
    db.register("net", module.eval(), size=16, **options)
    result = db.sql(QUERY.format(", class => 1") + " USING operator => 'incremental'", [PICTURE])
    with torch.no_grad():
        base = torch.softmax(module.layers(tensor(PICTURE)), 1)[0, 1]
    expected = float(base - torch.softmax(occluded(module, PICTURE, 2, 3), 0)[1])
    assert result.heatmaps()[0][2, 3] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("operator", ["full", "incremental"])
def test_a_layer_that_casts_to_float64_computes_in_it(db: kryptondb.Session, operator: str) -> None:
    module = Precise(3).eval()
    db.register("net", module, size=16)
    result = db.sql(QUERY.format(", class => 1") + f" USING operator => '{operator}'", [PICTURE])
    with torch.no_grad():
        base = torch.softmax(module(tensor(PICTURE)), 1)[0, 1]
    expected = float(base - torch.softmax(occluded(module, PICTURE, 2, 3), 0)[1])
    assert result.heatmaps()[0][2, 3] == pytest.approx(expected, abs=1e-6)
    for precision in ("float64", "bfloat16"):
        near = db.sql(QUERY.format(", class => 1") + f" USING precision => '{precision}'", [PICTURE])
        assert near.heatmaps()[0][2, 3] == pytest.approx(expected, abs=1e-6 if precision == "float64" else 0.05)


def test_classes_that_exclude_nothing_are_sigmoids(db: kryptondb.Session) -> None:
    module = Body(3).eval()
    db.register("net", module, size=16, activation="sigmoid", labels=["a", "b", "c"])
    result = db.sql(QUERY.format(", class => ALL"), [PICTURE])
    with torch.no_grad():
        base = torch.sigmoid(module.layers(tensor(PICTURE)))[0]
    expected = base - torch.sigmoid(occluded(module, PICTURE, 1, 0))
    np.testing.assert_allclose([found[1, 0] for found in result.heatmaps()], expected.numpy(), atol=1e-6)


def test_a_measure_is_mapped_itself_and_has_no_probability(db: kryptondb.Session) -> None:
    module = Body(1).eval()
    db.register("net", module, size=16, activation="none")
    found = db.sql(QUERY.format(""), [PICTURE]).heatmaps()[0][3, 1]
    with torch.no_grad():
        base = float(module.layers(tensor(PICTURE))[0, 0])
    assert found == pytest.approx(base - float(occluded(module, PICTURE, 3, 1)[0]), abs=1e-5)
    with pytest.raises(kryptondb.BindError, match="gives no probabilities"):
        db.sql(QUERY.format(", score => 'probability'"), [PICTURE])


def test_one_number_is_no_softmax(db: kryptondb.Session) -> None:
    db.register("net", Body(1).eval(), size=16)
    with pytest.raises(kryptondb.BindError, match="as a softmax it would always be 1"):
        db.sql(QUERY.format(""), [PICTURE])
    assert db.sql(QUERY.format(", score => 'output'"), [PICTURE]).heatmaps().shape == (1, 4, 4)


def test_pictures_of_five_channels_are_read_as_they_are(db: kryptondb.Session) -> None:
    module = Body(3, channels=5).eval()
    db.register("net", module, size=16, channels=5)
    picture = RANDOM.random((16, 16, 5)).astype(np.float32)
    found = db.sql(QUERY.format(", class => 0, score => 'logit'"), [picture]).heatmaps()[0][0, 2]
    image = torch.from_numpy(picture).permute(2, 0, 1)[None]
    hidden = image.clone()
    hidden[:, :, 0:4, 8:12] = 0.5
    with torch.no_grad():
        expected = float((module.layers(image) - module.layers(hidden))[0, 0])
    assert found == pytest.approx(expected, abs=1e-5)
    with pytest.raises(kryptondb.ImageError, match="has 3 channels, the model reads 5"):
        db.sql(QUERY.format(""), [PICTURE]).heatmaps()


@pytest.mark.parametrize(
    "options", [{"letterbox": True}, {"crop": True}, {"crop": False}, {"resize": 20, "crop": True}]
)
def test_the_map_lies_where_the_target_is_in_the_picture(db: kryptondb.Session, options: dict[str, object]) -> None:
    """A module that looks at brightness alone, and a bright square: the map's weight lies on it, in picture pixels."""
    from kryptondb.images.preprocess import Preprocess

    class Brightness(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total = x.mean((1, 2, 3))
            return torch.stack([40 * total, torch.zeros_like(total)], 1)

    db.register("net", Brightness().eval(), size=16, labels=["bright", "dark"], **options)
    picture = np.zeros((48, 32, 3), dtype=np.uint8)
    picture[18:24, 12:18] = 255  # its middle at 21, 15
    heatmap = db.sql(
        "SELECT HEATMAP FROM occlude(net, ?, patch => 2, stride => 1, class => 0, fill => 'black')", [picture]
    )
    drops = np.maximum(heatmap.heatmaps()[0], 0)
    preprocess: Preprocess = db.database.models.get("net").preprocess
    top, left, height, width = preprocess.window(48, 32)
    rows, cols = np.indices(drops.shape)
    weight = drops.sum()
    y = top + ((rows + 1) * drops).sum() / weight * height / 16
    x = left + ((cols + 1) * drops).sum() / weight * width / 16
    assert (y, x) == (pytest.approx(21, abs=1.5), pytest.approx(15, abs=1.5))
