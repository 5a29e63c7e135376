"""What users read of options is what their rows say."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

import kryptondb
from kryptondb.options import tables
from kryptondb.options.kinds import Choice
from kryptondb.options.option import Option
from kryptondb.options.reference import all_tables, filled_in, markdown
from kryptondb.prompt.completer import StatementCompleter

PAGES = Path(__file__).resolve().parents[2] / "docs/pages/language"


def offered(session: kryptondb.Session, text: str) -> dict[str, str]:
    """What completes a text, and what is said of it."""
    found = StatementCompleter(session).get_completions(Document(text), CompleteEvent(completion_requested=True))
    return {completion.text: completion.display_meta_text for completion in found}


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_the_tables_of_a_page_are_those_of_the_rows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled_in(text) == text, "python docs/options.py writes them"


def test_every_option_stands_in_the_reference() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES.glob("*.md"))
    for table in all_tables().values():
        for row in table.rows:
            if row is not tables.FORMAT:
                assert markdown([row]).splitlines()[-1] in pages


def test_every_option_is_offered_with_its_default_and_its_line() -> None:
    query = "SELECT HEATMAP FROM occlude(m, 'a.png')"
    places = {
        "occlude": "SELECT HEATMAP FROM occlude(m, 'a.png', ",
        "redundancy": "SELECT * FROM redundancy(m, ",
        "using": f"{query} USING ",
        "analyze": "ANALYZE m USING 'a.png' WITH (",
        "create model": "CREATE MODEL m FROM 'a.pt2' WITH (",
        "set": "SET ",
        "table file": "SELECT HEATMAP FROM occlude(m, parquet('a', ",
        **{f"copy {format}": f"COPY ({query}) TO 'a' (" for format in tables.COPY},
    }
    with kryptondb.connect() as session:
        for scope, text in places.items():
            said = {word.rstrip(" =>"): line for word, line in offered(session, text).items()}
            for row in all_tables()[scope].rows:
                assert row.name in said
                assert scope.startswith("copy") or said[row.name] == row.summary


def test_a_drifted_list_is_no_more() -> None:
    with kryptondb.connect() as session:
        query = "SELECT HEATMAP FROM occlude(m, 'a.png'"
        assert "'cover'" in offered(session, f"{query}, edges => ")
        assert "'accurate'" in offered(session, f"{query}) USING convolution => ")
        assert "'drop'" in offered(session, f"{query}) USING chosen => ")
        assert "'anytime'" in offered(session, f"{query}) USING operator => ")
        assert {"gzip", "brotli"} <= set(offered(session, f"COPY ({query})) TO 'a' (compression "))
        assert "TRUE" in offered(session, "CREATE MODEL m FROM 'a.pt2' WITH (antialias => ")


def test_settings_are_described_by_their_rows() -> None:
    with kryptondb.connect() as session:
        rows = session.sql("SHOW SETTINGS").arrow().to_pylist()
    assert [(row["name"], row["default"], row["description"]) for row in rows] == [
        (row.name, row.default, row.description) for row in tables.SETTINGS.rows
    ]


def test_register_takes_and_explains_the_options_of_create_model() -> None:
    register = kryptondb.Session.register
    keywords = list(inspect.signature(register).parameters)
    assert keywords == ["self", "name", "module", *(name for name in tables.MODEL if name != "weights")]
    for name, row in tables.MODEL.items():
        assert (f"{name}: {row.line}; {row.kind}." in (register.__doc__ or "")) == (name != "weights")


@pytest.fixture
def tint(monkeypatch: pytest.MonkeyPatch) -> Option:
    """A made-up option of `occlude`."""
    row = Option("tint", Choice("warm", "cold"), "how the map feels", "warm")
    monkeypatch.setattr(tables.OCCLUDE, "rows", (*tables.OCCLUDE.rows, row))
    return row


def test_a_made_up_option_is_known_everywhere(tint: Option) -> None:
    before = "SELECT HEATMAP FROM occlude(nothing, 'a.png', "
    with kryptondb.connect() as session:
        for options, message in {
            "tint => 'cold'": 'no model named "nothing"',
            "tint => 'wram'": "tint must be 'warm' or 'cold', not 'wram'",
            "tnt => 'cold'": 'no occlude option named "tnt"',
        }.items():
            with pytest.raises(kryptondb.BindError) as caught:
                session.sql(f"{before}{options})")
            assert caught.value.message == message
        assert offered(session, before + "ti") == {"tint => ": "how the map feels (default: 'warm')"}
        assert "'cold'" in offered(session, before + "tint => ")
    page = filled_in((PAGES / "queries.md").read_text(encoding="utf-8"))
    assert "| `tint` | `'warm'` | `'warm'` or `'cold'` | how the map feels |" in page
