"""Every decoder gives a picture or an ImageError for damaged files: a few cases of benchmarks.fuzz_images."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.fuzz_images.__main__ import MOST_MEMORY, wrong
from benchmarks.fuzz_images.damage import Case, case
from benchmarks.fuzz_images.originals import Original, originals
from benchmarks.fuzz_images.trial import PICTURE, REFUSED, attempt
from benchmarks.fuzz_images.watched import Verdict, verdicts
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

pytest.importorskip("pydicom")
pytest.importorskip("nibabel")

CASES = 120


@pytest.fixture(scope="module")
def sound() -> list[Original]:
    return originals()


def test_sound_files_of_every_format_are_pictures(sound: list[Original], tmp_path: Path) -> None:
    outcomes = {
        (original.format, original.name): attempt(
            Case(0, original, original.data, original.fragments[0], None), tmp_path
        )
        for original in sound
        if original.format not in ("dicom",) and not original.name.startswith("paths")
    }
    wrongly = {name: outcome for name, outcome in outcomes.items() if outcome != PICTURE}
    assert set(wrongly) == {("tiff", "int16.tif")}  # which needs a window


def test_damaged_files_give_a_picture_or_an_image_error(sound: list[Original]) -> None:
    found = list(verdicts(range(CASES), 0, sound, seconds=PATIENCE))
    assert [verdict.number for verdict in found] == list(range(CASES))
    assert [(verdict.number, wrong(verdict)) for verdict in found if wrong(verdict)] == []
    assert {verdict.format for verdict in found} == {original.format for original in sound}
    assert Counter(verdict.outcome for verdict in found).keys() == {PICTURE, REFUSED}


def test_a_case_is_the_same_file_every_time(sound: list[Original]) -> None:
    assert [case(number, 3, sound) for number in range(30)] == [case(number, 3, sound) for number in range(30)]
    assert case(1, 3, sound) != case(1, 4, sound)


def ends_or_hangs(damaged: Case, _: Path) -> str:
    """A decoder that takes its process with it in case 1 and never comes back in case 2."""
    if damaged.number == 1:
        os.abort()
    if damaged.number == 2:
        time.sleep(600)
    return PICTURE


def test_a_process_that_ends_or_hangs_is_a_line_of_the_report(sound: list[Original]) -> None:
    outcomes = [verdict.outcome for verdict in verdicts(range(4), 0, sound, seconds=8.0, trial=ends_or_hangs)]
    assert outcomes == [PICTURE, "the process ended by SIGABRT", "no answer in 8 seconds", PICTURE]


def test_what_is_wrong_is_told_from_what_is_right() -> None:
    assert wrong(Verdict(0, "png", PICTURE, 0.1, MOST_MEMORY)) is None
    assert wrong(Verdict(0, "png", REFUSED, 0.1, 0)) is None
    assert wrong(Verdict(0, "png", PICTURE, 0.1, 3 << 30)) == "3.00 GiB of memory"
    assert wrong(Verdict(0, "png", "KeyError: 'x'", 0.1, 0)) == "KeyError: 'x'"
