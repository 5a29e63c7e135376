"""Plans over several images look one ahead, where memory allows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kryptondb.optimizer.cost import Cost, Rates
from kryptondb.optimizer.physical import Occlude
from kryptondb.optimizer.workload import Workload
from kryptondb.text.units import seconds_text
from tests.optimizer.conftest import Database, FakeIncremental

SECOND = 30_000_000


@pytest.fixture(autouse=True)
def a_second_base_takes_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = FakeIncremental.estimate

    def with_ahead(self: FakeIncremental, workload: Workload, rates: Rates) -> Cost:
        return replace(estimate(self, workload, rates), ahead=SECOND)

    monkeypatch.setattr(FakeIncremental, "estimate", with_ahead)


def occlude(database: Database, images: str, model: str = "chest", **more: Any) -> Occlude:
    node = database.plan(f"SELECT y FROM occlude({model}, {images})", **more).occlude
    assert node is not None
    return node


@pytest.mark.parametrize("images", ["'scans/*.png'", "('a.png', 'b.png')"])
def test_several_images_overlap_and_the_second_base_is_in_the_estimate(database: Database, images: str) -> None:
    node = occlude(database, images)
    assert node.ahead
    assert node.cost is not None and node.cost.memory == 100_000_000 + SECOND


def test_one_image_has_nothing_ahead(database: Database) -> None:
    node = occlude(database, "'scan.png'")
    assert not node.ahead
    assert node.cost is not None and node.cost.memory == 100_000_000
    assert "images  " not in database.explain("SELECT y FROM occlude(chest, 'scan.png')").split("experiment")[1]


def test_a_limit_without_room_for_a_second_base_is_kept_by_the_same_operator_without_it(database: Database) -> None:
    roomy = occlude(database, "'scans/*.png'")
    database.settings.memory = 100_000_000 + SECOND - 1
    node = occlude(database, "'scans/*.png'")
    assert (node.operator, node.ahead) == (roomy.operator, False)
    assert node.cost is not None and node.cost.memory == 100_000_000


def test_nobody_looks_ahead_with_a_network_of_unknown_memory(database: Database) -> None:
    assert not occlude(database, "'scans/*.png'", model="opaque").ahead


def test_explain_says_how_images_follow_one_another(database: Database) -> None:
    statement, several = "SELECT y FROM occlude({}, 'scans/*.png')", "('a.png', 'b.png', 'c.png')"

    def told(text: str) -> str:
        return " ".join(database.explain(text).split())

    found = "images count unknown; estimates are per image"
    assert f"{found}; each is opened and its base computed while the previous one runs" in told(
        statement.format("chest")
    )
    assert f"{found}; one after the other: the memory that a base would take is unknown" in told(
        statement.format("opaque")
    )
    three = statement.replace("'scans/*.png'", several)
    cost = occlude(database, several).cost
    assert cost is not None
    assert f"images 3, about {seconds_text(3 * cost.seconds)} in all; each is opened" in told(three.format("chest"))
    assert "images 3; one after the other" in told(three.format("opaque"))
    database.settings.memory = 100_000_001
    assert "one after the other: a second base (30 MB) does not fit in the memory limit" in told(
        statement.format("chest")
    )


def test_room_is_taken_beside_the_second_base_and_never_instead_of_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = FakeIncremental.estimate

    def with_room(self: FakeIncremental, workload: Workload, rates: Rates) -> Cost:
        return replace(estimate(self, workload, rates), room=500_000_000)

    monkeypatch.setattr(FakeIncremental, "estimate", with_room)
    limits = (1_000_000_000, 200_000_000, 100_000_000 + SECOND)
    for limit, memory in zip(limits, (600_000_000 + SECOND, 200_000_000, 100_000_000 + SECOND), strict=True):
        database.settings.memory = limit
        node = occlude(database, "'scans/*.png'")
        assert node.ahead and node.cost is not None and node.cost.memory == memory
