"""resolve_classes: labels become indices."""

from __future__ import annotations

import pytest

from kryptondb.optimizer.experiment import ClassChoice
from tests.optimizer.conftest import Database


def choice(database: Database, value: str) -> ClassChoice:
    occlude = database.plan(f"SELECT * FROM occlude(imagenet, 'a.png', class => {value})").occlude
    assert occlude is not None
    return occlude.experiment.classes


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        ("3", (3,)),
        ("'goldfish'", (4,)),
        ("'GOLDFISH'", (4,)),
        ("('siamese cat', 0, 'Tabby cat', 5)", (5, 0, 1)),
        ("'tinca tinca'", (2,)),
    ],
)
def test_labels_and_indices_choose_classes(database: Database, value: str, indices: tuple[int, ...]) -> None:
    assert choice(database, value) == ClassChoice("list", indices=indices)


def test_top_and_all_are_kept_as_they_are(database: Database) -> None:
    assert choice(database, "TOP 3") == ClassChoice("top", k=3)
    assert choice(database, "ALL") == ClassChoice("all")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("'goldfsh'", 'Did you mean "goldfish"?'),
        ("'cat'", 'Did you mean "Tabby cat" or "Siamese cat"?'),
        ("'xyzzy'", 'Its labels are "crane"'),
        ("'crane'", '2 classes of imagenet are called "crane": 0, 3'),
        ("6", "class 6 does not exist: imagenet has 6 classes, 0 to 5"),
        ("-1", "class -1 does not exist"),
        ("1.5", "class must be an index, a label in quotes, TOP k, ALL, or a list of indices and labels, not 1.5"),
        ("goldfish", "Did you mean 'goldfish'? Quote it."),
        ("TOP 7", "class => ALL takes all of them"),
        ("()", "not ()"),
    ],
)
def test_a_class_that_is_not_there_is_refused(database: Database, value: str, message: str) -> None:
    error = database.error(f"SELECT * FROM occlude(imagenet, 'a.png', class => {value})")
    assert message in error
    assert error.startswith("line 1, column")
