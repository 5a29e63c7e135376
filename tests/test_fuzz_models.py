"""What a session reads from others is taken or refused, whatever is in it: a few cases of benchmarks.fuzz_models."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.fuzz_images.watched import Verdict, verdicts
from benchmarks.fuzz_models.__main__ import MOST_MEMORY, wrong
from benchmarks.fuzz_models.damage import Case, case
from benchmarks.fuzz_models.originals import Original, originals
from benchmarks.fuzz_models.trial import REFUSED, TAKEN, _canaries, attempt
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

pytest.importorskip("onnx")

CASES = 200


@pytest.fixture(scope="module")
def files() -> list[Original]:
    return originals()


def placed(damaged: Case, folder: Path) -> str:
    """A file that takes its reader to another tensor of the process."""
    outcome = attempt(damaged, folder)
    if damaged.number == 2:
        _canaries[7][0][0] = -1
        outcome = attempt(damaged, folder)
    return outcome


def test_damaged_files_are_taken_or_refused(files: list[Original]) -> None:
    found = list(verdicts(range(CASES), 0, files, seconds=PATIENCE, trial=attempt, make=case))
    assert [verdict.number for verdict in found] == list(range(CASES))
    assert [(verdict.number, wrong(verdict)) for verdict in found if wrong(verdict)] == []
    assert {verdict.format for verdict in found} == {original.format for original in files}
    for format in {original.format for original in files}:
        assert Counter(v.outcome for v in found if v.format == format).keys() == {TAKEN, REFUSED}, format


def test_sound_files_are_taken_and_give_their_own_answers(files: list[Original]) -> None:
    found = list(verdicts(range(len(files)), 0, files, seconds=PATIENCE, trial=attempt, make=as_it_is))
    assert [(verdict.format, verdict.outcome) for verdict in found] == [(each.format, TAKEN) for each in files]


def as_it_is(number: int, _: int, files: list[Original]) -> Case:  # type: ignore[override]
    return Case(number, files[number], files[number].data, files[number].scores is not None, "")


def test_a_changed_tensor_of_the_process_is_wrong(files: list[Original]) -> None:
    (first,) = [each for each in files if each.format == "manifest"]
    found = list(verdicts(range(4), 0, [first], seconds=PATIENCE, trial=placed, make=case))
    assert [verdict.outcome in (TAKEN, REFUSED) for verdict in found] == [True, True, False, False]
    assert found[2].outcome == "changed 1 other tensors of the process"


def test_a_case_is_the_same_file_every_time(files: list[Original]) -> None:
    assert [case(number, 3, files) for number in range(60)] == [case(number, 3, files) for number in range(60)]
    assert case(1, 3, files) != case(1, 4, files)


def test_what_is_wrong_is_told_from_what_is_right() -> None:
    assert wrong(Verdict(0, "pt2", TAKEN, 0.1, MOST_MEMORY)) is None
    assert wrong(Verdict(0, "pt2", REFUSED, 0.1, 3 << 30)) == "3.00 GiB of memory"
    assert wrong(Verdict(0, "pt2", "KeyError: 'x'", 0.1, 0)) == "KeyError: 'x'"
