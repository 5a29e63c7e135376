"""bind_columns: names, aliases, ordinals and types."""

from __future__ import annotations

import pytest

from kryptondb.optimizer.experiment import CELL_COLUMNS
from kryptondb.optimizer.physical import REDUNDANCY_COLUMNS
from tests.optimizer.conftest import Database

FROM = "FROM occlude(chest, 'a.png')"


def test_a_star_is_every_column_in_order(database: Database) -> None:
    assert database.plan(f"SELECT * {FROM}").schema == CELL_COLUMNS
    assert database.plan("SELECT * FROM redundancy(chest)").schema == REDUNDANCY_COLUMNS


def test_columns_are_known_in_any_case_and_come_out_under_their_own_names(database: Database) -> None:
    plan = database.plan(f'SELECT Y, "DROP", drop * 100 AS Percent, ABS(Score) {FROM}')
    assert plan.schema == ("y", "drop", "Percent", "abs(score)")


def test_no_two_outputs_share_a_name(database: Database) -> None:
    assert database.plan(f"SELECT y, y, x AS y {FROM}").schema == ("y", "y_1", "y_2")


def test_order_by_takes_aliases_ordinals_and_columns_that_are_not_selected(database: Database) -> None:
    tree = database.tree(f"SELECT y, drop * 100 AS percent {FROM} ORDER BY percent DESC, 1, score NULLS FIRST")
    assert "Sort  drop * 100 DESC, y, score NULLS FIRST" in tree


def test_an_alias_wins_over_a_column_in_order_by_and_loses_in_group_by(database: Database) -> None:
    assert "Sort  -y" in database.tree(f"SELECT -y AS x {FROM} ORDER BY x")
    assert "Sort  x + 0" in database.tree(f"SELECT -y AS x {FROM} ORDER BY x + 0")
    assert "Sort  -(-y)" in database.tree(f"SELECT -y AS a {FROM} ORDER BY -a")
    assert "Filter  -drop > 3" in database.tree(f"SELECT -drop AS a {FROM} WHERE a > 3")
    assert "Filter  drop > 3" in database.tree(f"SELECT y AS drop {FROM} WHERE drop > 3")
    assert "by x" in database.tree(f"SELECT count(*) AS n, x AS y {FROM} GROUP BY x ORDER BY y")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (f"SELECT y {FROM} HAVING y > 1", "y varies within a group"),
        (f"SELECT max(y) {FROM} HAVING max(y)", "HAVING needs a condition, but max(y) is a number"),
        (f"SELECT HEATMAP {FROM} HAVING max(y) > 1", "HEATMAP returns one row per image and class"),
        (f"SELECT max(y) AS most, x {FROM} GROUP BY x ORDER BY most + y", "y varies within a group"),
        (f"SELECT max(drop) AS m {FROM} WHERE m > 1", "so it cannot ask for max(drop)"),
        (f"SELECT DISTINCT HEATMAP {FROM}", "DISTINCT cannot compare HEATMAP"),
        (f"SELECT DISTINCT y {FROM} ORDER BY x", "rows that DISTINCT merges may differ in x"),
        (f"SELECT DISTINCT -y AS x {FROM} ORDER BY x + 1", "rows that DISTINCT merges may differ in x"),
        (f"SELECT CASE WHEN y THEN 1 END {FROM}", "WHEN takes a condition, but y is a number"),
        (f"SELECT CASE label WHEN 1 THEN 1 END {FROM}", "label is a string and 1 is a number: they cannot be compared"),
        (
            f"SELECT CASE WHEN exact THEN 1 ELSE 'a' END {FROM}",
            "in one branch and a string in another: 1 and 'a'",
        ),
        (f"SELECT drpo {FROM}", 'Did you mean "drop"?'),
        (f"SELECT drop AS d {FROM} ORDER BY dd", 'no column named "dd"'),
        (f"SELECT drop AS d {FROM} WHERE dd > 1", 'no column named "dd"'),
        (f"SELECT HEATMAP h {FROM} WHERE h > 1", "HEATMAP stands alone"),
        (f"SELECT round(drop, x) {FROM}", "the digits of round"),
        (f"SELECT * {FROM} WHERE drop", "WHERE needs a condition, but drop is a number"),
        (f"SELECT * {FROM} WHERE label = 3", "its number is class: class = 3"),
        (f"SELECT * {FROM} WHERE class = 'cat'", "its name is label: label = 'cat'"),
        (f"SELECT * {FROM} WHERE y IN (1, 'a')", "they cannot be compared"),
        (f"SELECT * {FROM} WHERE y BETWEEN 'a' AND 3", "they cannot be compared"),
        (f"SELECT * {FROM} WHERE y LIKE 'a%'", "LIKE takes a string"),
        (f"SELECT * {FROM} WHERE label LIKE image", "LIKE takes a pattern in quotes"),
        (f"SELECT * {FROM} WHERE NOT y", "NOT takes a condition, but y is a number"),
        (f"SELECT label + 1 {FROM}", "+ takes a number, but label is a string"),
        (f"SELECT * {FROM} WHERE max(drop) > 0.5", "WHERE picks cells before they are grouped"),
        (f"SELECT max(avg(drop)) {FROM}", "an aggregate cannot stand inside another"),
        (f"SELECT avg(label) {FROM}", "avg takes a number, but label is a string"),
        (f"SELECT sum(DISTINCT drop) {FROM}", "DISTINCT goes with count alone"),
        (f"SELECT y {FROM} ORDER BY 2", "the number of an output from 1 to 1"),
        (f"SELECT y {FROM} GROUP BY max(y)", "GROUP BY cannot use an aggregate"),
        ("SELECT drop FROM redundancy(chest)", 'no column named "drop"'),
        ("SELECT HEATMAP FROM redundancy(chest)", "HEATMAP is made of cells, which only occlude yields"),
    ],
)
def test_what_has_no_meaning_is_refused_at_its_place(database: Database, query: str, message: str) -> None:
    error = database.error(query)
    assert message in error
    assert error.startswith("line 1, column")


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (f"image LIKE '{'_%' * 500_000}'", "a LIKE pattern of 1,000,000 characters is too long; the limit is 1,000"),
        (f"image ILIKE '{'a' * 1001}'", "an ILIKE pattern of 1,001 characters is too long"),
        ("image LIKE 'a' ESCAPE '!!'", "ESCAPE takes one character, not 2"),
        ("image LIKE 'a' ESCAPE label", "ESCAPE takes a character in quotes"),
        ("image LIKE 'a!!!' ESCAPE '!'", "the pattern of LIKE must not end with its escape character"),
        ("image ILIKE 3", "ILIKE takes a string, but 3 is a number"),
    ],
)
def test_a_pattern_and_its_escape_are_checked_before_anything_runs(
    database: Database, condition: str, message: str
) -> None:
    assert message in database.error(f"SELECT y {FROM} WHERE {condition}")


def test_many_outputs_and_keys_are_bound_at_once(database: Database) -> None:
    many = ", ".join(["y"] * 1_000)
    plan = database.plan(f"SELECT {many} {FROM} GROUP BY {many} ORDER BY {many}")
    assert len(set(plan.schema)) == 1_000
    assert "Sort  y\n" in str(plan)


def test_having_picks_groups_by_what_they_are_grouped_by_then_by_outputs(database: Database) -> None:
    tree = database.tree(
        f"SELECT label, max(drop) AS drop {FROM} WHERE y < 8 GROUP BY label HAVING drop > 0.1 AND count(*) > 1"
    )
    assert 'Filter  "max(drop)" > 0.1 AND "count(*)" > 1' in tree
    assert "Occlusion" in tree and tree.index("Filter") < tree.index("Aggregate")


def test_a_condition_of_having_is_never_pushed_below_the_groups(database: Database) -> None:
    for condition in ("y > 1000", "class = 99", "image = 'b.png'", "label = 'nodule'"):
        column = condition.split()[0]
        for where in ("", "WHERE drop > 0 "):
            plan = database.plan(f"SELECT {column}, count(*) {FROM} {where}GROUP BY {column} HAVING {condition}")
            assert (
                plan.occlude is not None
                and plan.occlude.experiment.runs is None
                and plan.occlude.experiment.image_filter is None
            )
            assert f"Filter  {condition}" in str(plan)
    plan = database.plan(f"SELECT count(*) {FROM} WHERE y < 8 HAVING count(*) > 5")
    assert plan.occlude is not None and plan.occlude.experiment.positions == 18


def test_distinct_groups_the_outputs_and_sorts_what_is_left(database: Database) -> None:
    tree = database.tree(
        f"SELECT DISTINCT y % 8 AS odd, label {FROM} WHERE drop > 0 ORDER BY odd + 1 DESC LIMIT 3 OFFSET 2"
    )
    lines = [line.strip(" └─") for line in tree.split("\n")]
    assert lines[:5] == [
        "Limit  3 after 2",
        "Sort  odd + 1 DESC",
        "Aggregate  by odd, label",
        "Project  y % 8 AS odd, label",
        "Filter  drop > 0",
    ]
