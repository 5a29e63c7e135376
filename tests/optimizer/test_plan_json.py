"""A physical plan is plain data: it goes to JSON and back, compares by value and prints as a tree."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from kryptondb.errors import PlanError
from kryptondb.optimizer import from_json, to_json
from kryptondb.optimizer.experiment import ClassChoice, Images
from kryptondb.optimizer.nodes import Filter, Limit
from tests.optimizer.conftest import Database, FakeFull, FakeIncremental, FakeThresholded
from tests.optimizer.test_push_region import planned, predicates

OPERATORS = (FakeFull, FakeIncremental, FakeThresholded)
MAPS = """
    SELECT HEATMAP AS "my map", PREDICTION FROM occlude(chest, ('a.png', 'it''s.png'), class => (1, 'nodule'))
    WHERE image <> 'b' AND drop > -0.5e-7 AND base IS NOT NULL ORDER BY base DESC NULLS FIRST LIMIT 3
"""
GROUPS = '''
    SELECT label, max(drop) - min(drop) AS "a ""b""", count(*), count(DISTINCT y), round(avg(score), 2)
    FROM occlude(imagenet, 'a/**/*.png', class => ALL, patch => (8, 12), fill => (0.1, 0.2, 1))
    WHERE (y % 8 = 0 OR NOT drop BETWEEN 0 AND 1) AND label LIKE '%cat' GROUP BY label, -y / 2
    ORDER BY max(drop) WITH SSIM >= 0.9 CONFIDENCE 0.95 USING batch => 4, precision => 'float64'
'''
QUERIES = [
    "SELECT HEATMAP FROM occlude(chest, 'a.png')",
    MAPS,
    GROUPS,
    "SELECT PREDICTION FROM occlude(opaque, 'a.png')",
    "SELECT HEATMAP FROM occlude(chest, 'a.png') USING tau => 0.45",
    "SELECT layer, ratio FROM redundancy(chest, patch => 8) WHERE ratio > 1 ORDER BY 2 LIMIT 3",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_plan_survives_json(database: Database, query: str) -> None:
    plan = database.plan(query)
    again = from_json(to_json(plan), OPERATORS)
    assert again == plan
    assert str(again) == str(plan)
    assert hash(again) == hash(plan)


@settings(max_examples=60, deadline=None)
@given(predicates(("y", "drop", "base")))
def test_a_plan_with_any_predicate_survives_json(predicate: object) -> None:
    plan = planned(predicate)  # type: ignore[arg-type]
    assert from_json(to_json(plan), OPERATORS) == plan


def test_plans_compare_by_value(database: Database) -> None:
    query = MAPS
    assert database.plan(query) == database.plan(query.replace("SELECT", "select\n  "))
    assert database.plan(query) != database.plan(query.replace("LIMIT 3", "LIMIT 4"))


def test_a_bound_picture_is_named_by_its_key(database: Database) -> None:
    plan = database.plan("SELECT HEATMAP FROM occlude(chest, $scan)", {"scan": object()})
    assert plan.occlude is not None and plan.occlude.experiment.images == Images(None, "scan", 1)
    assert from_json(to_json(plan), OPERATORS) == plan
    assert "parameter $scan" in str(plan)


def test_a_plan_of_version_1_is_still_read(database: Database) -> None:
    query = """
        SELECT label, max(drop) FROM occlude(imagenet, 'a/*.png', class => (1, 3), window => (40, 400),
            edges => 'cover', patch => 16, stride => 8)
        WHERE y < 20 AND image <> 'b' AND drop > 0 GROUP BY label USING precision => 'float64'
    """
    text = (Path(__file__).parent / "plan_of_version_1.json").read_text(encoding="utf-8")
    assert from_json(text, OPERATORS) == database.plan(query)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"kryptondb_plan": 2', '"kryptondb_plan": 9', "not a plan of version 2 but of 9"),
        ('"operator": "incremental"', '"operator": "incrementel"', 'Did you mean "incremental"?'),
        ('"node": "HeatMaps"', '"node": "HeatMap"', 'Did you mean "HeatMaps"?'),
        ('"fill"', '"fil"', "cannot be made of the fields in this plan"),
        ("{", "", "a plan must be JSON"),
    ],
)
def test_a_damaged_plan_is_refused(database: Database, old: str, new: str, message: str) -> None:
    text = to_json(database.plan(QUERIES[0]))
    assert old in text
    with pytest.raises(PlanError) as caught:
        from_json(text.replace(old, new, 1), OPERATORS)
    assert message in str(caught.value)


def test_an_expression_in_a_plan_is_parsed_and_never_run(database: Database) -> None:
    tree = json.loads(to_json(database.plan("SELECT * FROM occlude(chest, 'a.png') WHERE drop > 0")))
    tree["root"]["predicate"]["sql"] = "__import__('os')"
    with pytest.raises(PlanError, match="an expression that cannot be read"):
        from_json(json.dumps(tree), OPERATORS)


def test_a_plan_prints_as_a_tree(database: Database) -> None:
    plan = database.plan("SELECT drop, y FROM occlude(chest, 'a.png') WHERE drop > 0.5 ORDER BY drop DESC LIMIT 3")
    assert str(plan).split("\n") == [
        "Project  drop, y",
        "└─ Limit  3",
        "   └─ Sort  drop DESC",
        "      └─ Project  y, drop",
        "         └─ Filter  drop > 0.5",
        "            └─ Incremental  float32, tiles 7 x 7, R 7.9 of 9.1 ideal, 117 of 117 positions, class TOP 1",
        "               └─ Images  a.png",
    ]


def test_a_node_can_be_changed_like_any_frozen_dataclass(database: Database) -> None:
    plan = database.plan("SELECT * FROM occlude(chest, 'a.png') WHERE drop > 0 LIMIT 3")
    assert isinstance(plan.root, Limit) and isinstance(plan.root.input, Filter)
    assert plan.root.inputs == (plan.root.input,)
    assert dataclasses.replace(plan.root, count=4) != plan.root


def test_a_class_choice_counts_and_prints() -> None:
    assert ClassChoice("top", k=5).count(3) == 3
    assert ClassChoice("all").count(1000) == 1000
    assert str(ClassChoice("list", indices=(7,))) == "7"
    assert str(ClassChoice("list", indices=tuple(range(9)))) == "(0, 1, 2, 3, 4, 5, ... (9))"


def test_json_of_something_else_than_a_plan_is_refused() -> None:
    with pytest.raises(PlanError, match="expected a PhysicalPlan, found a Quality"):
        from_json('{"kryptondb_plan": 1, "node": "Quality", "kind": "exact"}', ())
