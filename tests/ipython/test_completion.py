"""Tab in a cell and in a line."""

from __future__ import annotations

import warnings

import pytest

from kryptondb.ipython.magics import statement_before_cursor


def completions(shell, text: str) -> dict[str, str]:
    """What Tab offers at the end of a cell, and the whole cell with each."""
    from IPython.core.completer import provisionalcompleter

    with warnings.catch_warnings(), provisionalcompleter():
        warnings.simplefilter("ignore")
        return {
            each.text: text[: each.start] + each.text + text[each.end :]
            for each in shell.Completer.completions(text, len(text))
        }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "offered", "completed"),
    [
        ("%%occlude\nSELECT HEATMAP FROM occlude(ne", "net", "%%occlude\nSELECT HEATMAP FROM occlude(net"),
        ("x = %occlude SHOW MOD", "MODELS", "x = %occlude SHOW MODELS"),
        ("%occlude SELECT HEATMAP FROM occlude(net, $im", "$image", "%occlude SELECT HEATMAP FROM occlude(net, $image"),
        ("%occlude ANALYZE net USING 'a/' WITH (bud", "budget => ", "%occlude ANALYZE net USING 'a/' WITH (budget => "),
        (
            "%occlude SELECT * FROM occlude(net, $image, fill => 'gau",
            "gaussian'",
            "%occlude SELECT * FROM occlude(net, $image, fill => 'gaussian'",
        ),
        (
            "%%occlude\nSHOW MODELS;\nSELECT HEATMAP FROM occlude(net, $image, class => 'bri",
            "bright'",
            "%%occlude\nSHOW MODELS;\nSELECT HEATMAP FROM occlude(net, $image, class => 'bright'",
        ),
    ],
)
def test_tab_knows_models_words_labels_and_variables(shell, db, typed, offered, completed):
    assert completions(shell, typed)[offered] == completed


def test_python_is_not_offered_inside_of_statements(shell, db):
    assert set(completions(shell, "%occlude SHOW M")) == {"MODELS"}


def test_other_cells_keep_pythons_completion(shell, db):
    shell.user_ns["measured"] = 1
    assert "measured" in completions(shell, "measu")


@pytest.mark.parametrize(
    ("text", "line", "column", "found"),
    [
        ("%%occlude name\nSELECT 1", 1, 6, "SELECT"),
        ("%%occlude na", 0, 12, None),
        ("print(1)\nx = %occlude SHOW", 1, 17, "SHOW"),
        ("'%occlude SHOW", 0, 14, None),
        ("print(1)", 0, 5, None),
    ],
)
def test_the_statement_before_the_cursor(text, line, column, found):
    assert statement_before_cursor(text, line, column) == found
