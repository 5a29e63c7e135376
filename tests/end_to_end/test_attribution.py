"""ATTRIBUTION, a value a pixel as Captum's, and `edges`: what happens where no whole patch fits any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import kryptondb
from kryptondb.compat.captum import Occlusion
from tests.networks import small_network

SIDE = 30
PICTURE = np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
FROM = "FROM occlude(net, ?, patch => {patch}, stride => {stride}, class => (0, 2), fill => 'black'{more})"


@pytest.fixture
def db() -> Iterator[kryptondb.Session]:
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=SIDE, mean=(0, 0, 0), std=(1, 1, 1), labels=["a", "b", "c"])
        yield session


def query(items: str, patch: object = 7, stride: object = 4, more: str = ", edges => 'cover'", end: str = "") -> str:
    return f"SELECT {items} " + FROM.format(patch=patch, stride=stride, more=more) + end


@pytest.mark.slow
@pytest.mark.parametrize(("patch", "stride"), [((7, 7), (4, 4)), ((8, 5), (5, 2)), ((6, 6), (6, 6)), ((30, 9), (1, 9))])
@pytest.mark.parametrize("hint", ["", " USING operator => 'full'"])
def test_attributions_to_the_edges_are_those_of_the_drop_in_class(
    db: kryptondb.Session, patch: tuple[int, int], stride: tuple[int, int], hint: str
) -> None:
    found = db.sql(query("ATTRIBUTION", patch, stride, end=hint), [PICTURE]).arrow()
    assert found.schema.names == ["image", "class", "label", "base", "attribution"]
    assert found.schema.field("attribution").type == pa.fixed_shape_tensor(pa.float32(), (SIDE, SIDE))
    model = small_network()
    image = torch.from_numpy(PICTURE).permute(2, 0, 1)[None] / 255
    occlusion = Occlusion(lambda images: model(images).softmax(1))
    for index, attribution in zip((0, 2), found["attribution"].combine_chunks().to_numpy_ndarray(), strict=True):
        expected = occlusion.attribute(image, (3, *patch), strides=(3, *stride), baselines=0, target=index)
        np.testing.assert_allclose(attribution, expected[0, 0].numpy(), atol=1e-5)


def test_a_pixel_is_the_mean_of_the_cells_that_cover_it(db: kryptondb.Session) -> None:
    cells = db.sql(query("y, x, height, width, drop", end=" WHERE class = 2"), [PICTURE]).arrow().to_pylist()
    sums, counts = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for cell in cells:
        covered = np.s_[cell["y"] : cell["y"] + cell["height"], cell["x"] : cell["x"] + cell["width"]]
        sums[covered] += cell["drop"]
        counts[covered] += 1
    attribution = db.sql(query("ATTRIBUTION", end=" WHERE class = 2"), [PICTURE]).heatmaps()
    assert counts.min() >= 1
    np.testing.assert_allclose(attribution[0], sums / counts, atol=1e-6)


def test_cells_at_the_edges_are_smaller(db: kryptondb.Session) -> None:
    cells = db.sql(query("row, y, height", end=" WHERE class = 0 AND col = 0"), [PICTURE]).df()
    assert cells["y"].tolist() == [0, 4, 8, 12, 16, 20, 24]
    assert cells["height"].tolist() == [7, 7, 7, 7, 7, 7, 6]
    assert len(db.sql(query("row", more="", end=" WHERE class = 0 AND col = 0"), [PICTURE]).df()) == 6


def test_the_cells_of_whole_patches_are_the_same_with_either_edges(db: kryptondb.Session) -> None:
    fit, cover = (db.sql(query("HEATMAP", more=more), [PICTURE]).heatmaps() for more in ("", ", edges => 'cover'"))
    np.testing.assert_allclose(cover[:, :-1, :-1], fit, atol=1e-6)
    assert cover.shape == (2, 7, 7)


def test_the_operators_agree_on_cut_patches_of_every_fill(db: kryptondb.Session) -> None:
    for fill in ("'gray'", "'patch_mean'", "'blur'", "'gaussian'", "'mean'"):
        text = query("HEATMAP").replace("'black'", fill)
        fast, full = (
            db.sql(f"{text} USING operator => '{name}'", [PICTURE]).heatmaps() for name in ("incremental", "full")
        )
        np.testing.assert_allclose(fast, full, atol=1e-5)


def test_a_predicate_picks_cut_patches_by_their_size(db: kryptondb.Session) -> None:
    result = db.sql(query("y, x", end=" WHERE class = 0 AND height < 7 AND width < 7"), [PICTURE])
    assert result.arrow().to_pylist() == [{"y": 24, "x": 24}]
    assert result.stats.positions == 1


def test_pixels_that_no_computed_cell_covers_are_nan(db: kryptondb.Session) -> None:
    fit = db.sql(query("ATTRIBUTION", more=""), [PICTURE]).heatmaps()
    assert np.isfinite(fit[:, :27, :27]).all() and np.isnan(fit[:, 27:]).all() and np.isnan(fit[:, :, 27:]).all()
    some = db.sql(query("ATTRIBUTION", end=" WHERE y >= 8 AND x = 0"), [PICTURE]).heatmaps()
    assert np.isfinite(some[:, 8:, :7]).all() and np.isnan(some[:, :8]).all() and np.isnan(some[:, :, 7:]).all()


def test_a_predicate_on_drops_leaves_other_cells_out_of_each_class(db: kryptondb.Session) -> None:
    cells = db.sql(query("class, y, x, drop"), [PICTURE]).df()
    low = float(cells["drop"].median())
    first, second = db.sql(query("ATTRIBUTION", end=f" WHERE drop > {low:.9f}"), [PICTURE]).heatmaps()
    assert np.isnan(first).any() and np.isnan(second).any()
    assert (np.isnan(first) != np.isnan(second)).any()
    assert np.nanmin(first) > low


def test_heat_map_and_attribution_come_together_in_the_order_they_are_asked_for(db: kryptondb.Session) -> None:
    both = db.sql(query("PREDICTION, ATTRIBUTION, HEATMAP"), [PICTURE]).arrow()
    assert both.schema.names == ["image", "class", "label", "base", "prediction", "attribution", "heatmap"]
    named = db.sql(query("label, ATTRIBUTION AS pixels"), [PICTURE])
    assert named.schema.names == ["label", "pixels"]
    np.testing.assert_array_equal(named.heatmaps(), both["attribution"].combine_chunks().to_numpy_ndarray())


def test_the_metadata_says_how_the_edges_were_treated(db: kryptondb.Session) -> None:
    metadata = db.sql(query("ATTRIBUTION"), [PICTURE]).schema.metadata
    assert (metadata[b"kryptondb.edges"], metadata[b"kryptondb.heatmap"]) == (b"cover", b"drop")
    assert json.loads(metadata[b"kryptondb.plan"])
    assert "edges cover" in str(db.sql("EXPLAIN " + query("ATTRIBUTION"), [PICTURE]).message)


@pytest.mark.slow
def test_a_picture_and_a_page_of_attributions_are_written(db: kryptondb.Session, work: Path) -> None:
    Image.fromarray(PICTURE).save("picture.png")
    text = query("ATTRIBUTION").replace("?", "'picture.png'")
    db.sql(f"COPY ({text.replace('(0, 2)', '0')}) TO 'map.png'")
    assert min(Image.open("map.png").size) > 100
    db.sql(f"COPY ({text}) TO 'report.html'")
    page = Path("report.html").read_text(encoding="utf-8")
    assert "Each pixel has the mean over the patches that cover it." in page


@pytest.mark.slow
def test_a_profile_is_of_one_kind_of_edges(db: kryptondb.Session) -> None:
    options = "patch => 7, stride => 4, fill => 'black', class => (0, 2)"
    db.sql(f"ANALYZE net USING ? WITH ({options}, edges => 'cover')", [[PICTURE] * 2])
    assert "edges cover" in db.sql("SHOW PROFILES").arrow()["stride"][0].as_py()
    plan = "EXPLAIN " + query("HEATMAP", more="{}", end=" WITH SSIM >= 0.1 CONFIDENCE 0.5")
    told = {more: str(db.sql(plan.format(more), [PICTURE]).message) for more in ("", ", edges => 'cover'")}
    assert "no profile" in told[""] and "no profile" not in told[", edges => 'cover'"]


@pytest.mark.parametrize(
    ("more", "stride", "message"),
    [
        (", edges => 'wrap'", 4, "edges must be"),
        (", edges => 'cover'", 9, "leaves gaps between patches of 7 x 7"),
        (", edges => 1", 4, "edges must be"),
    ],
)
def test_edges_that_cannot_be_are_refused(db: kryptondb.Session, more: str, stride: int, message: str) -> None:
    with pytest.raises(kryptondb.BindError, match=message):
        db.sql(query("HEATMAP", stride=stride, more=more), [PICTURE])


def test_attribution_has_no_order_and_stands_alone(db: kryptondb.Session) -> None:
    with pytest.raises(kryptondb.BindError, match="stands alone"):
        db.sql(query("drop + attribution"), [PICTURE])
    with pytest.raises(kryptondb.ParseError):
        db.sql(query("attributions"), [PICTURE])
    with pytest.raises(kryptondb.BindError, match="no order"):
        db.sql(query("ATTRIBUTION, label", end=" ORDER BY 1"), [PICTURE])
