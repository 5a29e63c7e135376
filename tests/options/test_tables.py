"""Every option is declared once, and everything that is said of it comes from its row."""

from __future__ import annotations

import pytest

from kryptondb.errors import BindError
from kryptondb.grammar.statements import Select
from kryptondb.options import tables
from kryptondb.options.option import Option, Table
from kryptondb.options.reader import OptionValues, bind, read
from kryptondb.session import parse

TABLES = [*(table for table in vars(tables).values() if isinstance(table, Table)), *tables.COPY.values()]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.scope)
def test_every_default_is_a_value_that_its_option_takes(table: Table) -> None:
    for row in table.rows:
        if row.default is not None:
            row.read(row.default)
    assert len(set(table)) == len(table.rows)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.scope)
def test_an_unknown_option_is_refused_in_one_wording(table: Table) -> None:
    for row in table.rows:
        with pytest.raises(BindError) as caught:
            read(table, {row.name + "q": 1})
        assert caught.value.message == f'no {table.noun} named "{row.name}q"'
        assert f'"{row.name}"' in (caught.value.hint or "")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.scope)
def test_a_value_of_the_wrong_kind_is_refused_in_one_wording(table: Table) -> None:
    for row in table.rows:
        with pytest.raises(BindError) as caught:
            read(table, {row.name: {}})
        assert caught.value.message == f"{row.name} must be {row.kind}, not {{}}"
        assert caught.value.option == row.name


def _occlude(options: str, bindings: dict[str, object] | None = None) -> OptionValues:
    text = f"SELECT HEATMAP FROM occlude(m, 'a.png', {options})"
    statement = parse(text)[0]
    assert isinstance(statement, Select)
    try:
        return bind(tables.OCCLUDE, statement.source.options, bindings)
    except BindError as error:
        error.locate(text)
        raise


def test_parameters_and_lists_are_values_as_literals_are() -> None:
    assert _occlude("patch => ?, stride => ($s, 8)", {"0": [4, 8], "s": 2}) == {"patch": (4, 8), "stride": (2, 8)}


@pytest.mark.parametrize(
    ("options", "underlined", "hint"),
    [
        ("patch => 8, pach => 16", "pach", 'Did you mean "patch"?'),
        ("patch => 8, stride => -4", "-4", None),
        ("fill => (1, 0, 'red')", "(1, 0, 'red')", "A level of 0 to 255 is divided by 255: 128 is 0.502."),
        ("score => logit", "logit", "Did you mean 'logit'? Quote it."),
        ("edges => 'covre'", "'covre'", 'Did you mean "cover"?'),
    ],
)
def test_the_caret_stands_under_the_word_that_is_wrong(options: str, underlined: str, hint: str | None) -> None:
    with pytest.raises(BindError) as caught:
        _occlude(options)
    place = caught.value.position
    assert place is not None and caught.value.text is not None
    assert caught.value.text[place.start : place.end] == underlined
    assert caught.value.hint == hint


def test_an_error_of_a_room_that_knows_no_text_gets_the_place_of_its_option() -> None:
    given = _occlude("patch => 8, stride => 12")
    with pytest.raises(BindError) as caught, given.placing():
        raise BindError("a stride that is larger than the patch", option="stride")
    assert caught.value.position == given.position("stride") is not None
    with pytest.raises(BindError) as caught, given.placing():
        raise BindError("nothing about patch or stride by name alone")
    assert caught.value.position is None


def test_defaults_come_where_they_are_asked_for() -> None:
    table = Table(
        "t", "t option", Option("a", tables.OCCLUDE["patch"].kind, "", 3), Option("b", tables.OCCLUDE["fill"].kind, "")
    )
    assert read(table, {}) == {}
    assert read(table, {}, defaults=True) == {"a": (3, 3)}
    assert read(table, {"A": 4, "b": 0}, defaults=True) == {"a": (4, 4), "b": 0.0}
