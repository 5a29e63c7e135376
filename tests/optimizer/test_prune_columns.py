"""prune_columns: what gathers rows gathers only the columns that are read."""

from __future__ import annotations

from tests.optimizer.conftest import Database

FROM = "FROM occlude(chest, 'a.png')"


def lines(tree: str, count: int) -> list[str]:
    return [line.strip(" └─") for line in tree.split("\n")[:count]]


def test_a_sort_holds_its_keys_and_what_is_selected(database: Database) -> None:
    assert lines(database.tree(f"SELECT y, x {FROM} WHERE score > 0 ORDER BY drop DESC LIMIT 5"), 5) == [
        "Project  y, x",
        "Limit  5",
        "Sort  drop DESC",
        "Project  y, x, drop",
        "Filter  score > 0",
    ]


def test_an_aggregate_reads_its_keys_and_arguments(database: Database) -> None:
    tree = database.tree(f"SELECT avg(drop) {FROM} GROUP BY image")
    assert lines(tree, 3) == ['Project  "avg(drop)"', "Aggregate  avg(drop) by image", "Project  image, drop"]


def test_a_projection_of_everything_in_order_is_no_step(database: Database) -> None:
    assert database.tree(f"SELECT * {FROM}").startswith("Occlusion")
    assert database.tree(f"SELECT * {FROM} ORDER BY y").startswith("Sort  y\n└─ Occlusion")
    assert database.tree(f"SELECT HEATMAP {FROM}").startswith("HeatMaps")
    assert database.tree(f"SELECT HEATMAP AS m {FROM}").startswith("Project")
