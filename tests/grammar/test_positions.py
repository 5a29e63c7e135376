"""Every node knows where it stands."""

from __future__ import annotations

from hypothesis import given, settings

from kryptondb.grammar import parse, parse_script
from kryptondb.grammar.statements import Call, Option, Select, Statement
from tests.grammar.strategies import RELAXED, statements

TEXT = """SELECT y,
  max( drop ) AS d
FROM occlude(chest, 'a.png', class => (1, 2)) -- a comment
WHERE -x < (y + 1) AND y > 2 AND NOT exact
ORDER BY d DESC LIMIT ?
WITH SSIM >= 0.9"""


def test_a_node_points_at_its_own_text() -> None:
    statement = parse(TEXT)
    assert isinstance(statement, Select)

    def words(node: object) -> str:
        position = node.position  # type: ignore[attr-defined]
        return TEXT[position.start : position.end]

    assert words(statement) == TEXT
    assert [words(item) for item in statement.items] == ["y", "max( drop ) AS d"]
    assert words(statement.items[1].expression) == "max( drop )"
    assert words(statement.source) == "occlude(chest, 'a.png', class => (1, 2))"
    assert words(statement.source.arguments[1]) == "'a.png'"
    assert words(statement.source.options[0]) == "class => (1, 2)"
    assert words(statement.source.options[0].value) == "(1, 2)"
    assert words(statement.where) == "-x < (y + 1) AND y > 2 AND NOT exact"
    assert words(statement.where.left) == "-x < (y + 1) AND y > 2"  # type: ignore[union-attr]
    assert words(statement.where.left.left.right) == "(y + 1)"  # type: ignore[union-attr]
    assert words(statement.order_by[0]) == "d DESC"
    assert words(statement.limit) == "?"
    assert words(statement.promise) == "WITH SSIM >= 0.9"


def test_lines_and_columns_count_from_one() -> None:
    statement = parse(TEXT)
    assert isinstance(statement, Select)
    call = statement.items[1].expression
    assert isinstance(call, Call) and call.position is not None
    assert (call.position.line, call.position.column) == (2, 3)
    option = statement.source.options[0]
    assert isinstance(option, Option) and option.position is not None
    assert (option.position.line, option.position.column) == (3, 30)


def test_positions_in_a_script_count_from_the_start_of_the_text() -> None:
    text = "SHOW MODELS;\n\n  DESCRIBE chest;"
    _, second = parse_script(text)
    assert second.position is not None
    assert (second.position.start, second.position.line, second.position.column) == (16, 3, 3)
    assert text[second.position.start : second.position.end] == "DESCRIBE chest"


@settings(RELAXED, max_examples=100)
@given(statement=statements())
def test_every_node_of_any_statement_has_a_place_inside_its_parent(statement: Statement) -> None:
    text = "\n " + str(statement)
    for node in parse(text).walk():
        place = node.position
        assert place is not None
        assert 0 <= place.start < place.end <= len(text)
        before = text[: place.start]
        assert place.line == before.count("\n") + 1
        assert place.column == place.start - (before.rfind("\n") + 1) + 1
