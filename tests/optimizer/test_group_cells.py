"""group_cells: aggregates, HEATMAP and PREDICTION."""

from __future__ import annotations

import pytest

from tests.optimizer.conftest import Database

FROM = "FROM occlude(chest, 'a.png', class => TOP 3)"


def test_an_aggregate_is_computed_once_and_read_above(database: Database) -> None:
    tree = database.tree(
        f"SELECT label, max(drop) - min(drop) AS range {FROM} GROUP BY label ORDER BY max(drop) DESC LIMIT 2"
    )
    assert tree.split("\n")[:4] == [
        'Project  label, "max(drop)" - "min(drop)" AS range',
        "└─ Limit  2",
        '   └─ Sort  "max(drop)" DESC',
        "      └─ Aggregate  max(drop), min(drop) by label",
    ]


def test_an_expression_may_be_a_key(database: Database) -> None:
    plan = database.plan(f"SELECT y / 8 + 1 AS band, count(*) {FROM} GROUP BY y / 8")
    assert plan.schema == ("band", "count(*)")
    assert 'Project  "y / 8" + 1 AS band, "count(*)"' in str(plan)


def test_grouping_without_aggregates_keeps_distinct_rows(database: Database) -> None:
    tree = database.tree(f"SELECT image, label {FROM} GROUP BY 1, 2")
    assert "Aggregate  by image, label" in tree


def test_heatmap_alone_brings_its_image_and_class(database: Database) -> None:
    assert database.plan(f"SELECT HEATMAP {FROM}").schema == ("image", "class", "label", "base", "heatmap")
    plan = database.plan(f"SELECT HEATMAP, PREDICTION {FROM}")
    assert plan.schema == ("image", "class", "label", "base", "heatmap", "prediction")


def test_beside_named_columns_heatmap_brings_itself(database: Database) -> None:
    plan = database.plan(f"SELECT HEATMAP AS map, base * 100 AS percent, image {FROM} ORDER BY base DESC LIMIT 1")
    assert plan.schema == ("map", "percent", "image")


def test_conditions_on_maps_stand_above_and_conditions_on_cells_below(database: Database) -> None:
    tree = database.tree(f"SELECT HEATMAP {FROM} WHERE base > 0.5 AND drop > 0 AND label = 'nodule'")
    assert tree.split("\n")[:3] == [
        "Filter  base > 0.5 AND label = 'nodule'",
        "└─ HeatMaps",
        "   └─ Filter  drop > 0",
    ]


def test_predictions_need_no_cell(database: Database) -> None:
    plan = database.plan(f"SELECT PREDICTION {FROM} WHERE label = 'nodule'")
    assert plan.schema == ("image", "class", "label", "base", "prediction")
    assert plan.occlude is not None and plan.occlude.experiment.runs == ()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (f"SELECT HEATMAP, drop {FROM}", "drop varies within it"),
        (f"SELECT *, HEATMAP {FROM}", "row varies within it"),
        (f"SELECT HEATMAP {FROM} ORDER BY drop", "drop varies within it"),
        (f"SELECT HEATMAP, max(drop) {FROM}", "so max(drop) cannot stand beside it"),
        (f"SELECT HEATMAP {FROM} GROUP BY image", "HEATMAP returns one row per image and class"),
        (f"SELECT HEATMAP {FROM} ORDER BY max(drop)", "cannot stand beside it"),
        (f"SELECT HEATMAP AS h {FROM} ORDER BY h", "which has no order"),
        (f"SELECT PREDICTION {FROM} WHERE drop > 0.5", "PREDICTION is made without cells"),
        (f"SELECT PREDICTION, y {FROM}", "y varies within it"),
        (f"SELECT y, max(drop) {FROM} GROUP BY x", "Group by it (GROUP BY x, y), or aggregate it"),
        (f"SELECT max(drop), label {FROM}", "label varies within a group"),
        (f"SELECT max(drop) {FROM} ORDER BY y", "y varies within a group"),
    ],
)
def test_what_does_not_belong_together_is_refused(database: Database, query: str, message: str) -> None:
    error = database.error(query)
    assert message in error
    assert error.startswith("line 1, column")
