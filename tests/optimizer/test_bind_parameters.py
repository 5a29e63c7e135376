"""bind_parameters: values from Python take the place of `?` and `$name`."""

from __future__ import annotations

import numpy as np
import pytest

from kryptondb.optimizer.rules.bind_parameters import bind_parameters
from tests.optimizer.conftest import Database, select


def bound(text: str, **values: object) -> str:
    return str(bind_parameters(select(text), values))


def test_plain_values_become_literals_everywhere() -> None:
    text = "SELECT y FROM occlude($m, 'a.png', class => $c, patch => $p) WHERE drop > $d LIMIT $n USING batch => $b"
    values = {"m": "chest", "c": ["cat", 3], "p": (8, 16), "d": np.float32(-0.5), "n": np.int64(3), "b": 64}
    assert bound(text, **values) == (
        "SELECT y FROM occlude('chest', 'a.png', class => ('cat', 3), patch => (8, 16)) "
        "WHERE drop > -0.5 LIMIT 3 USING batch => 64"
    )


def test_a_bound_statement_is_the_statement_written_out() -> None:
    written = select("SELECT y FROM occlude(m, 'a.png') WHERE drop > -0.5 AND label = 'it''s'")
    given = select("SELECT y FROM occlude(m, ?) WHERE drop > ? AND label = ?")
    assert bind_parameters(given, {"0": "a.png", "1": -0.5, "2": "it's"}) == written


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("SELECT y FROM occlude(chest, ?)", [], "the first ? has no value"),
        ("SELECT y FROM occlude(chest, $scan)", {"scam": "a"}, 'Did you mean "scam"?'),
        ("SELECT y FROM occlude(chest, 'a') WHERE y < ?", [object()], "bound to a object, which has no meaning here"),
        ("SELECT y FROM occlude(chest, 'a') WHERE y < ?", [float("nan")], "is nan, which is not a number"),
        ("SELECT y FROM occlude(chest, 'a') WHERE y < ?", [np.zeros((2, 2))], "bound to a ndarray"),
        ("SELECT y FROM occlude(chest, 'a') WHERE y < ?", [[1, 2]], "a list has no place here"),
        ("SELECT y FROM occlude(chest, 'a') LIMIT ?", ["3"], "LIMIT must be a whole number"),
        ("SELECT y FROM occlude(chest, 'a') LIMIT ?", [-1], "LIMIT must be a whole number from 0"),
        ("SELECT y FROM occlude(chest, 'a') LIMIT ?", [True], "LIMIT must be a whole number"),
        ("SELECT y FROM occlude(chest, 'a') LIMIT ?", [2**63], "parameter 1 (?) does not fit a 64-bit integer"),
        ("SELECT y FROM occlude(chest, 'a') WHERE y > $n", {"n": -(2**70)}, "parameter $n does not fit a 64-bit"),
        ("SELECT y FROM occlude(chest, 'a', class => ?)", [[1, 2**64]], "does not fit a 64-bit integer"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(database: Database, text: str, values: object, message: str) -> None:
    assert message in database.error(text, values)
