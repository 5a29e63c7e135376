"""push_classes and push_images: excluded classes are not scored, excluded images not opened."""

from __future__ import annotations

import pytest

from kryptondb.optimizer.experiment import ClassChoice
from kryptondb.optimizer.physical import Occlude
from tests.optimizer.conftest import Database


def occlude(database: Database, classes: str, where: str, items: str = "*") -> tuple[str, Occlude]:
    plan = database.plan(f"SELECT {items} FROM occlude(imagenet, 'a.png', class => {classes}) WHERE {where}")
    assert plan.occlude is not None
    return str(plan.root).split("\n")[0], plan.occlude


@pytest.mark.parametrize(
    ("classes", "where", "indices"),
    [
        ("ALL", "class = 3", (3,)),
        ("ALL", "label = 'crane'", (0, 3)),
        ("ALL", "label LIKE '%cat'", (1, 5)),
        ("ALL", "label ILIKE 'TAB%' OR label LIKE 'cr!ane' ESCAPE '!'", (0, 1, 3)),
        ("ALL", "label NOT LIKE '%c!a%' ESCAPE '!'", (0, 3, 4)),
        ("ALL", f"label LIKE '{'%a' * 400}' OR label = 'goldfish'", (4,)),
        ("ALL", f"class IN ({', '.join(map(str, range(3, 20_000)))})", (3, 4, 5)),
        ("ALL", f"label IN ('crane', {', '.join(['NULL'] * 9)}, 'tench, Tinca tinca')", (0, 2, 3)),
        ("ALL", "class IN (1, 2) OR label = 'goldfish'", (1, 2, 4)),
        ("(5, 4, 3)", "class > 3", (5, 4)),
        ("(5, 4, 3)", "class * 2 = 8", (4,)),
        ("ALL", "(class = 1) = TRUE", (1,)),
        ("(2, 3, 4)", "(label = 'crane') = FALSE", (2, 4)),
        ("(1, 2)", "NOT ((class = 1) = TRUE)", (2,)),
    ],
)
def test_a_condition_on_classes_narrows_a_list(
    database: Database, classes: str, where: str, indices: tuple[int, ...]
) -> None:
    top, table = occlude(database, classes, where)
    assert table.experiment.classes == ClassChoice("list", indices=indices)
    assert not top.startswith("Filter")


def test_a_condition_that_every_class_meets_changes_nothing(database: Database) -> None:
    top, table = occlude(database, "ALL", "class >= 0")
    assert table.experiment.classes == ClassChoice("all") and not top.startswith("Filter")


def test_top_k_depends_on_the_image_so_the_filter_stays(database: Database) -> None:
    top, table = occlude(database, "TOP 3", "label LIKE '%cat' AND y < 20")
    assert top == "Filter  label LIKE '%cat'"
    assert table.experiment.classes == ClassChoice("top", k=3)


def test_a_mixed_condition_narrows_and_stays(database: Database) -> None:
    top, table = occlude(database, "ALL", "(class = 1 AND y < 8) OR (class = 2 AND y >= 44)")
    assert table.experiment.classes == ClassChoice("list", indices=(1, 2))
    assert table.experiment.positions == 4 * 9
    assert top.startswith("Filter")


def test_a_class_that_is_not_there_computes_nothing(database: Database) -> None:
    for classes in ("TOP 3", "ALL", "(1, 2)"):
        top, table = occlude(database, classes, "label = 'no such label'")
        assert table.experiment.runs == () and top.startswith("Filter")


def test_a_label_is_never_like_nothing(database: Database) -> None:
    for where in ("label LIKE NULL", "label NOT LIKE NULL", "(label = 'crane') IS NULL"):
        _, table = occlude(database, "ALL", where)
        assert table.experiment.runs == ()


def test_a_condition_that_the_class_does_not_decide_stays(database: Database) -> None:
    top, table = occlude(database, "ALL", "(class = 1) = (drop > 0) AND class < 3")
    assert top == "Filter  (class = 1) = (drop > 0)"
    assert table.experiment.classes == ClassChoice("list", indices=(0, 1, 2))


def test_maps_are_picked_by_class_and_cells_are_not(database: Database) -> None:
    top, table = occlude(database, "ALL", "label LIKE '%cat' AND drop > 0", "HEATMAP")
    assert top == "HeatMaps" and table.experiment.classes == ClassChoice("list", indices=(1, 5))
    # Cells of class 1 alone are kept, yet every class has its map.
    top, table = occlude(database, "ALL", "class = 1 AND y < 8 OR class = 2 AND drop > 0", "HEATMAP")
    assert table.experiment.classes == ClassChoice("all")


def test_an_image_that_the_filter_excludes_is_never_opened(database: Database) -> None:
    for items in ("*", "HEATMAP", "PREDICTION", "max(base)"):
        plan = database.plan(
            f"SELECT {items} FROM occlude(chest, 'd/*.png') WHERE image LIKE 'a%' AND NOT image = 'ab'"
        )
        assert plan.occlude is not None
        assert str(plan.occlude.experiment.image_filter) == "image LIKE 'a%' AND NOT image = 'ab'"
        assert "Filter" not in str(plan)


def test_a_condition_on_an_image_and_a_cell_stays(database: Database) -> None:
    plan = database.plan("SELECT * FROM occlude(chest, 'd/*.png') WHERE image = 'a' OR drop > 0.5")
    assert plan.occlude is not None and plan.occlude.experiment.image_filter is None
    assert str(plan).startswith("Filter  image = 'a' OR drop > 0.5")
