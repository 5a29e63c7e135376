"""The report as a file: it holds all it shows, says how it was made, trusts nothing, and is written as it goes."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kryptondb.copy.report import cards
from kryptondb.copy.sinks import copy_to
from kryptondb.executor import Progress
from kryptondb.optimizer import physical as p
from tests.copy.report.conftest import Report
from tests.fakes import FakeExperiment, FakeModel, FakeModels, base_of, occlude, pictures, start


class Elements(HTMLParser):
    """The start tags of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, name: str, kind: str | None = None) -> list[dict[str, Any]]:
        """The attributes of the elements of a name, and of a class."""
        found = [attributes for tag, attributes in self.tags if tag == name]
        return [a for a in found if kind is None or kind in (a.get("class") or "").split()]


def picture_of(url: str) -> Image.Image:
    assert url.startswith("data:image/webp;base64,")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_each_image_has_a_card_with_its_prediction_and_a_layer_for_each_class(folder: Path, report: Report) -> None:
    path, _ = report(str(folder), classes=2)
    page = Elements(path)
    found = page.of("article", "card")
    assert [Path(card["data-name"]).name for card in found] == ["a.png", "b.png", "c.png"]
    assert [(card["data-label"], card["data-confidence"]) for card in found] == [
        ("tabby", "0.5"), ("tiger", "0.8"), ("tabby", "0.6"),
    ]  # fmt: skip
    assert [layer["data-name"] for layer in page.of("image", "layer")] == ["tabby", "tiger"] * 3
    assert len(page.of("ol", "guesses")) == 3
    assert "80.0 %" in page.text


def test_a_layer_holds_the_drops_to_the_last_digit(picture: str, report: Report) -> None:
    path, run = report(picture)
    (layer,) = Elements(path).of("image", "layer")
    cells = np.frombuffer(base64.b64decode(layer["data-cells"]), dtype="<f4").reshape(3, 4)
    expected = np.array([[(row * 10 + col) / 1000 for col in range(4)] for row in range(3)])
    assert np.array_equal(cells, expected.astype(np.float32))
    assert (layer["data-rows"], layer["data-cols"]) == ("3", "4")
    assert float(layer["data-base"]) == pytest.approx(base_of(0))
    assert run.stats.images == 1


def test_the_photograph_is_there_once_and_the_colors_are_transparent_where_nothing_depends(
    picture: str, report: Report
) -> None:
    path, _ = report(picture, classes=2, size=64)
    page = Elements(path)
    images = page.of("image")
    assert len(images) == 3 and len(page.of("use")) == 1
    photograph, colors = picture_of(images[0]["href"]), picture_of(images[1]["href"])
    assert photograph.mode == "RGB" and colors.mode == "RGBA"
    assert max(photograph.size) == 64 and photograph.size == colors.size
    alpha = np.asarray(colors)[:, :, 3]
    assert alpha[2, 2] < 20 and alpha[-3, -3] > 235  # the drops rise from 0 at the top left


def test_the_page_says_how_its_maps_were_made(picture: str, report: Report) -> None:
    path, _ = report(picture)
    text = Elements(path).text
    for said in ("f00d", "8 × 4", "2 × 4", "SELECT 1", "exact", "gray", "KryptonDB"):
        assert said in text


def test_a_picture_asked_about_twice_has_two_cards(picture: str, report: Report) -> None:
    path, _ = report([picture, picture], classes=2)
    page = Elements(path)
    assert [card["data-number"] for card in page.of("article")] == ["1", "2"]
    assert [layer["data-name"] for layer in page.of("image", "layer")] == ["tabby", "tiger"] * 2


def test_nothing_is_fetched_and_no_script_but_its_own_may_run(picture: str, report: Report) -> None:
    path, _ = report(picture)
    text = path.read_text()
    page = Elements(path)
    (policy,) = (meta["content"] for meta in page.of("meta") if "http-equiv" in meta)
    script = re.search(r"<script>(.*?)</script>", text, re.S)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(value.startswith(("data:image/", "#")) for value in links if value)


HOSTILE = "<img src=x onerror=alert(1)>\"'&</script>"


def test_what_comes_from_outside_is_text_and_never_markup(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "-") + ".png"
    folder = pictures(tmp_path / "in", name, "bad.png")
    (folder / "bad.png").write_bytes(b"<b>no picture</b>")
    (folder / "bad.png").rename(folder / "<b>bad.png")
    models = FakeModels(FakeModel(labels=(HOSTILE, "</style><b>", "{{ 7 * 7 }}", "\u202egnp")))
    root = p.HeatMaps(occlude(str(folder), classes=p.ClassChoice("top", 4)))
    path = tmp_path / "report.html"
    copy_to(start(root, models=models), str(path), {})
    page = Elements(path)
    assert {tag for tag, _ in page.tags}.isdisjoint({"img", "iframe", "object", "link"})
    assert len(page.of("script")) == 2 and len(page.of("style")) == 1
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    (card,) = page.of("article")
    assert card["data-name"].endswith(name) and card["data-label"] == HOSTILE
    assert "<b>bad.png: not a PNG" in page.text and "{{ 7 * 7 }}" in page.text


def test_an_image_that_could_not_be_read_is_named_on_the_page(folder: Path, report: Report) -> None:
    (folder / "b.png").write_text("no picture")
    path, run = report(str(folder))
    assert len(Elements(path).of("article")) == 2
    assert f"{folder / 'b.png'}: not a PNG" in Elements(path).text
    assert len(run.errors) == 1


def test_an_image_that_vanishes_before_it_is_drawn_is_named_too(folder: Path, report: Report) -> None:
    def vanish(progress: Progress) -> None:
        if progress.done == progress.total and progress.image.endswith("b.png"):
            (folder / "b.png").unlink()

    path, run = report(str(folder), progress=vanish)
    assert [Path(card["data-name"]).name for card in Elements(path).of("article")] == ["a.png", "c.png"]
    assert "1 image skipped" in Elements(path).text
    assert (run.stats.images, run.stats.failed) == (2, 1)


def test_no_map_is_a_page_without_cards(folder: Path, tmp_path: Path) -> None:
    root = p.HeatMaps(occlude(str(folder), classes=p.ClassChoice("list", indices=())))
    assert copy_to(start(root), str(tmp_path / "report.html"), {}).rows == 0
    assert Elements(tmp_path / "report.html").of("article") == []


def test_cards_are_written_while_the_query_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card is made as soon as the next picture's map shows that its own classes are complete."""
    experiment = FakeExperiment()
    made = cards._card
    monkeypatch.setattr(cards, "_card", lambda *arguments: (experiment.log.append("card"), made(*arguments))[1])
    copy_to(start(p.HeatMaps(occlude(str(folder))), experiment), str(tmp_path / "report.html"), {})
    order = [entry.split()[0] for entry in experiment.log if entry.startswith(("begin", "card"))]
    assert order == ["begin", "begin", "card", "begin", "card", "card"]
