"""The report in a browser: pointing, sorting, filtering, keys, light and dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser, find_chromium
from tests.copy.report.conftest import PREDICTIONS, Report, writer
from tests.fakes import pictures


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of this file: it takes a second to start."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with Browser(program, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three wide pictures and two classes."""
    work = tmp_path_factory.mktemp("report")
    (work / "in").mkdir()
    for name in PREDICTIONS:
        Image.new("RGB", (320, 240), "slategray").save(work / "in" / name)
    path, _ = writer(work)(str(work / "in"), classes=2, size=128)
    return path


@pytest.fixture
def page(browser: Browser, written: Path) -> Iterator[Browser]:
    """That report, open, with the pointer away from it."""
    browser.complaints.clear()
    browser.move_to(1, 1)
    browser.open(written)
    yield browser
    assert browser.complaints == []


def shown(page: Browser) -> list[str]:
    """The names of the cards that are shown, in their order."""
    found: list[str] = page.run(
        "[...document.querySelectorAll('.card')].filter(c => c.checkVisibility())"
        ".map(c => c.querySelector('h2').textContent)"
    )
    return found


def readout(page: Browser, card: int = 0) -> dict[str, str]:
    """What stands under the pictures of a card: probability, drop or largest drop, patch."""
    told: dict[str, str] = page.run(
        f"Object.fromEntries([...document.querySelectorAll('.card')[{card}].querySelectorAll('.readout span')]"
        ".map(s => [s.children[0].textContent, s.children[1].textContent]))"
    )
    return told


def point_at(page: Browser, selector: str, y: float, x: float) -> None:
    """Moves the pointer to a place in an element, both as shares of its height and width."""
    box = page.run(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
    page.move_to(box["x"] + x * box["width"], box["y"] + y * box["height"])


def choose(page: Browser, control: str, value: Any) -> None:
    """Gives a control a value, as a person would."""
    page.run(
        f"(c => {{ c.value = {json.dumps(value)}; c.dispatchEvent(new Event('input', {{bubbles: true}})); "
        f"c.dispatchEvent(new Event('change', {{bubbles: true}})); }})(document.getElementById('{control}'))"
    )


# The patch is 8 x 4 of the model's 12 x 16 pixels, in steps of 2 and 4: three rows and four columns. The drop at
# (row, col) is (10 * row + col) / 1000 of a base of 0.9.


@pytest.mark.parametrize("view", [".view.map", ".view:not(.map)"])
@pytest.mark.parametrize(
    ("y", "x", "drop", "score", "patch"),
    [
        (0.02, 0.02, "0.0000", "0.9000", "y 0–7, x 0–3"),
        (0.50, 0.40, "0.0110", "0.8890", "y 2–9, x 4–7"),
        (0.98, 0.98, "0.0230", "0.8770", "y 4–11, x 12–15"),
    ],
)
def test_pointing_shows_score_drop_and_patch_of_the_nearest_position(
    page: Browser, view: str, y: float, x: float, drop: str, score: str, patch: str
) -> None:
    point_at(page, view, y, x)
    assert readout(page) == {"probability": score, "drop": drop, "patch": patch}


def test_the_patch_is_drawn_where_it_stands_and_goes_with_the_pointer(page: Browser) -> None:
    point_at(page, ".view.map", 0.98, 0.98)
    boxes = page.run(
        "[...document.querySelectorAll('.card')[0].querySelectorAll('.patch:not([hidden]) .edge')].map(r =>"
        " ['x', 'y', 'width', 'height'].map(n => +r.getAttribute(n)))"
    )
    assert boxes == [[240, 80, 80, 160], [240, 80, 80, 160]]  # of 320 x 240 pixels, in both pictures
    page.move_to(1, 1)
    assert page.run("document.querySelectorAll('.patch:not([hidden])').length") == 0
    assert readout(page) == {"probability": "0.9000", "largest drop": "0.0230", "patch": "y 4–11, x 12–15"}


def test_cards_are_sorted_by_label_confidence_and_name(page: Browser) -> None:
    assert shown(page) == ["a.png", "b.png", "c.png"]
    for order, expected in {
        "confidence-down": ["b.png", "c.png", "a.png"],
        "confidence-up": ["a.png", "c.png", "b.png"],
        "label-up": ["a.png", "c.png", "b.png"],
        "name-up": ["a.png", "b.png", "c.png"],
        "number": ["a.png", "b.png", "c.png"],
    }.items():
        choose(page, "sort", order)
        assert shown(page) == expected, order


def test_cards_are_filtered_by_label_confidence_and_words(page: Browser) -> None:
    assert page.run("[...document.getElementById('label').options].map(o => o.text)") == [
        "all labels", "tabby (2)", "tiger (1)",
    ]  # fmt: skip
    choose(page, "label", "tabby")
    assert shown(page) == ["a.png", "c.png"]
    choose(page, "least", 55)
    assert shown(page) == ["c.png"]
    assert page.run("document.getElementById('count').textContent") == "1 of 3 images"
    choose(page, "most", 59)
    assert shown(page) == []
    page.run("document.getElementById('clear').click()")
    assert shown(page) == ["a.png", "b.png", "c.png"]
    choose(page, "find", "TIGER b.")
    assert shown(page) == ["b.png"]


def test_the_slider_sets_the_opacity_of_the_colors(page: Browser) -> None:
    opacity = "getComputedStyle(document.querySelector('.layer')).opacity"
    assert page.run(opacity) == "0.6"
    choose(page, "opacity", 15)
    assert page.run(opacity) == "0.15"
    page.press("]")
    assert page.run(opacity) == "0.25"


def test_a_class_is_chosen_by_its_button(page: Browser) -> None:
    page.run("document.querySelectorAll('.classes button')[1].click()")
    assert page.run("document.querySelector('.layer:not([hidden])').dataset.name") == "tiger"
    point_at(page, ".view.map", 0.98, 0.98)
    assert readout(page)["probability"] == "0.7770"
    assert page.run("document.querySelector('.map').getAttribute('aria-label')") == "Heat map of tiger over a.png"


def test_everything_can_be_reached_with_keys(page: Browser) -> None:
    def here() -> str:
        name: str = page.run("document.activeElement.closest('.card').querySelector('h2').textContent")
        return name

    page.press("j")
    page.press("j")
    assert here() == "b.png"
    assert readout(page, 1)["patch"] == "y 4–11, x 12–15"  # the largest drop
    page.press("ArrowUp")
    page.press("ArrowLeft")
    assert readout(page, 1) == {"probability": "0.8880", "drop": "0.0120", "patch": "y 2–9, x 8–11"}
    page.press("ArrowLeft", shift=True)
    assert readout(page, 1)["patch"] == "y 2–9, x 0–3"
    page.press("Home")
    assert readout(page, 1)["patch"] == "y 4–11, x 12–15"
    page.press("e")
    assert page.run("document.querySelectorAll('.card.large').length") == 1
    page.press("k")
    assert here() == "a.png"
    page.press("/")
    assert page.run("document.activeElement.id") == "find"
    page.press("Escape")
    page.press("?")
    assert page.run("document.getElementById('help').open") is True


def test_light_and_dark_follow_the_system_and_text_stands_out_in_both(
    page: Browser, written: Path, tmp_path: Path
) -> None:
    brightness = {}
    for dark in (False, True):
        page.open(written, dark=dark)
        page.screenshot(tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as image:
            pixels = np.asarray(image.convert("L")).astype(float)
        brightness[dark] = np.median(pixels)
        for kind in (".answer", "h2", ".readout small", "figcaption", ".guesses span", ".count"):
            assert page.run(CONTRAST % kind) >= 4.5, (kind, dark)  # WCAG 2.2, 1.4.3
    assert brightness[False] > 200 and brightness[True] < 60


#: The contrast ratio of an element's text and what is painted behind it (WCAG 2.2).
CONTRAST = """(() => {
    const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const element = document.querySelector('%s');
    let ground = element;
    while (/, 0\\)$/.test(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
    const [a, b] = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor].map(light).sort((x, y) => y - x);
    return (a + .05) / (b + .05);
})()"""  # noqa: E501


def test_without_scripts_the_maps_and_predictions_are_still_there(page: Browser, tmp_path: Path) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.reload()
        document = page.call("DOM.getDocument", depth=1)["root"]
        text = page.call("DOM.getOuterHTML", nodeId=document["nodeId"])["outerHTML"]
        page.screenshot(tmp_path / "page.png")
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert text.count("<article") == 3 and "y 4–11, x 12–15" in text
    with Image.open(tmp_path / "page.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 1000  # the maps' colors


@pytest.mark.slow
def test_a_page_of_hundreds_of_images_lays_out_those_that_are_seen(
    browser: Browser, tmp_path: Path, report: Report
) -> None:
    folder = pictures(tmp_path / "in", "a.png")
    path, _ = report([str(folder / "a.png")] * 300, size=32)
    browser.open(path)
    rendered = browser.run(
        "[...document.querySelectorAll('.guesses')]"
        ".filter(g => g.checkVisibility({contentVisibilityAuto: true})).length"
    )
    assert 0 < rendered < 40
    choose(browser, "sort", "confidence-up")
    assert len(browser.run("[...document.querySelectorAll('.card')].map(c => c.id)")) == 300
    assert browser.complaints == []
