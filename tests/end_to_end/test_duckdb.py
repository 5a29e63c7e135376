"""Any query of cells gives what DuckDB gives for a table of the same cells: planned, pushed down and run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from kryptondb.errors import BindError
from kryptondb.executor.run import Execution
from kryptondb.images.preprocess import Preprocess
from kryptondb.optimizer import plan
from kryptondb.optimizer.cost import Rates
from tests.fakes import FakeExperiment, FakeOperator, pictures
from tests.optimizer.conftest import FakeNetwork, FakeSettings, bindings, select

duckdb = pytest.importorskip("duckdb")

GRID = "patch => 16, stride => 12"


@dataclass(frozen=True)
class Model:
    """Four classes, one of them without a label and one with a percent sign."""

    name: str = "chest"
    input_shape: tuple[int, int, int] = (3, 64, 48)
    labels: tuple[str, ...] = ("50% fat", "a_b", "Ab")
    classes: int = 4
    fingerprint: str = "f00d"
    activation: str = "softmax"
    preprocess: Preprocess = Preprocess(64, 48)


class Models:
    def get(self, name: str) -> Model:
        return Model()

    def network(self, name: str) -> FakeNetwork:
        return FakeNetwork(4)


SCORES = {
    (row, col, c): ((row * 5 + col * 3 + c) % 7 - 3) / 8 for row in range(5) for col in range(3) for c in range(4)
}


@dataclass
class Database:
    """The same pictures asked by KryptonDB and by DuckDB."""

    folder: Path
    duck: Any

    def ours(self, text: str, values: Any = ()) -> pa.Table:
        source = f"occlude(chest, '{self.folder}', {GRID}, class => ALL)"
        physical = plan(
            select(text.replace("cells", source)),
            models=Models(),  # type: ignore[arg-type]
            settings=FakeSettings(),  # type: ignore[arg-type]
            bindings=bindings(values),
            rates=lambda device: Rates(),
            operators=(FakeOperator,),
        )
        run = Execution(physical, models=Models(), bindings={})  # type: ignore[arg-type]
        run.run.set_up = FakeExperiment(scores=SCORES)  # type: ignore[assignment]
        return pa.Table.from_batches(list(run.batches()), schema=run.schema)

    def theirs(self, text: str, values: Any = None) -> list[tuple[Any, ...]]:
        return list(self.duck.execute(text, values).fetchall())

    def agree(self, text: str) -> None:
        expected = self.theirs(text)
        found = self.ours(text)
        rows = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
        assert [plain(row) for row in rows] == [plain(row) for row in expected], text


def plain(row: Sequence[Any]) -> tuple[Any, ...]:
    """Values as they compare: numbers rounded, whatever their type."""
    return tuple(
        value
        if value is None or isinstance(value, (str, bool))
        else "nan"
        if math.isnan(value)
        else round(float(value), 5)
        for value in row
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    found = Database(pictures(tmp_path_factory.mktemp("in"), "a.png", "b.png"), duckdb.connect())
    cells = found.ours("SELECT * FROM cells")
    assert cells.num_rows == 2 * 4 * 5 * 3
    found.duck.register("read", cells.replace_schema_metadata())
    found.duck.execute("CREATE TABLE cells AS FROM read")
    return found


# Columns are known at different times: positions by the grid, classes by the model, drops by a run.

NUMBERS = ("y", "x", "row", "col", "class", "height", "drop")
WHOLE = ("y", "x", "row", "col", "class", "height")
STRINGS = ("label", "label", "image", "'a_b'", "NULL", "'50%'")
PATTERNS = ("'%a%'", "'a_b'", "'a!_b' ESCAPE '!'", "'50!%%' ESCAPE '!'", "'%b.png'", "NULL", "'A%'", "'' ESCAPE ''")


def whole(depth: int = 2) -> SearchStrategy[str]:
    leaves = st.one_of(st.sampled_from(WHOLE), st.integers(-3, 40).map(str), st.just("NULL"))
    if depth == 0:
        return leaves
    inner = whole(depth - 1)
    return st.one_of(
        leaves,
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*%"), inner),
        st.builds("(-{})".format, inner),
        st.builds("abs({})".format, st.sampled_from(WHOLE)),
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, conditions(depth - 1), inner, inner),
        st.builds("CASE {} WHEN {} THEN {} WHEN {} THEN {} END".format, inner, inner, inner, inner, inner),
        st.builds("CAST({} / 4 AS INTEGER)".format, st.sampled_from(WHOLE)),
        st.builds("CAST({} AS {})".format, inner, st.sampled_from(["DOUBLE", "BIGINT", "INTEGER"])),
        st.builds("{}::DOUBLE".format, st.sampled_from(WHOLE)),
        st.builds("CAST({} AS INTEGER)".format, conditions(0)),
    )


def strings(depth: int = 1) -> SearchStrategy[str]:
    leaves = st.sampled_from(STRINGS)
    if depth == 0:
        return leaves
    return st.one_of(
        leaves,
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, conditions(0), leaves, leaves),
        st.builds("CAST({} AS VARCHAR)".format, st.sampled_from(WHOLE)),
    )


def conditions(depth: int = 2) -> SearchStrategy[str]:
    operator = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
    number = st.sampled_from(WHOLE) if depth == 0 else whole(depth - 1)
    leaves = st.one_of(
        st.builds("({} {} {})".format, number, operator, number),
        st.builds(
            "({} {} {})".format, st.sampled_from(["drop", "base"]), operator, st.sampled_from(["0.25", "1", "-0.5"])
        ),
        st.builds("({} BETWEEN {} AND {})".format, number, number, number),
        st.builds("({} IN ({}, {}, NULL))".format, number, number, number),
        st.builds("({} NOT IN ({}, 12))".format, number, number),
        st.builds("({} IS NULL)".format, st.one_of(number, strings(0))),
        st.builds(
            "({} {}LIKE {})".format,
            st.sampled_from(["label", "image"]),
            st.sampled_from(["", "NOT "]),
            st.sampled_from(PATTERNS),
        ),
        st.builds("({} ILIKE {})".format, st.just("label"), st.sampled_from(PATTERNS)),
        st.builds("({} IN ({}, 'Ab'))".format, strings(0), strings(0)),
        st.builds("({} = {})".format, st.sampled_from(["label", "image"]), strings(0)),
        st.sampled_from(["TRUE", "FALSE", "exact", "CAST(class AS BOOLEAN)", "(y % 24)::BOOLEAN"]),
    )
    if depth == 0:
        return leaves
    inner = conditions(depth - 1)
    return st.one_of(
        leaves,
        st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner),
        st.builds("(NOT {})".format, inner),
        st.builds("({} IS NOT NULL)".format, inner),
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, inner, inner, inner),
    )


ALIASES = ("y", "x", "row", "a", "b")
ends = st.sampled_from(["", " DESC", " NULLS FIRST", " DESC NULLS FIRST"])
parts = st.sampled_from(["", " LIMIT 7", " LIMIT 5 OFFSET 3", " OFFSET 50", " OFFSET 2 LIMIT 9", " LIMIT 0"])


def wheres(aliases: Sequence[str] = ()) -> SearchStrategy[str]:
    named = [st.builds("({} > {})".format, st.sampled_from([*aliases, "y"]), st.integers(-2, 20))] if aliases else []
    return st.one_of(st.just(""), *(found.map(" WHERE {}".format) for found in (conditions(), *named)))


@st.composite
def plain_queries(draw: st.DrawFn) -> str:
    """Cells one by one, in a complete order."""
    names = draw(st.lists(st.sampled_from(ALIASES), min_size=1, max_size=3, unique=True))
    word = draw(st.sampled_from([" AS ", " "]))
    items = [f"{draw(st.one_of(whole(), st.sampled_from(NUMBERS)))}{word}{name}" for name in names]
    name = st.sampled_from([*names, "y", "x"])
    key = st.one_of(
        name,
        st.builds("{} + 0".format, name),
        st.builds("-{}".format, name),
        st.builds("({} % 5) * {}".format, name, name),
        st.builds("CASE WHEN {} > 12 THEN {} END".format, name, name),
        whole(1).map("({}) + 0".format),
    )
    keys = [draw(key) + draw(ends) for _ in range(draw(st.integers(0, 2)))]
    order = ", ".join([*keys, "image", "class", "col + 0", "row + 0"])
    return f"SELECT {', '.join(items)} FROM cells{draw(wheres(names))} ORDER BY {order}{draw(parts)}"


CALLS = (
    *("count(*)", "count(label)", "count(DISTINCT x)", "max(y)", "min(drop)", "sum(x)", "avg(class)", "max(label)"),
    *("sum(CASE WHEN y > 12 THEN x END)", "max(CAST(y AS DOUBLE)) - min(x)"),
)
HAVINGS = (
    *("", "", " HAVING count(*) > 20", " HAVING max(y) > 12 AND min(x) = 0", " HAVING n > 12", " HAVING y > 12"),
    *(" HAVING count(*) > 1000", " HAVING NULL", " HAVING max(label) LIKE 'a%'", " HAVING n IS NULL OR max(x) > 0"),
    *(" HAVING CASE WHEN count(*) > 8 THEN max(y) > 3 END", " HAVING abs(max(y) - 20) IN (4, 28, NULL)"),
)


@st.composite
def grouped_queries(draw: st.DrawFn) -> str:
    """Groups, picked by HAVING, in a complete order."""
    key = st.one_of(st.sampled_from(["label", "image", "y", "class"]), whole(1).map("({}) + 0".format))
    keys = draw(st.lists(key, max_size=2, unique=True))
    aliases = ["n", "m"] if "y" in keys else ["n", "m", "y"]
    names = draw(st.lists(st.sampled_from(aliases), min_size=1, max_size=2, unique=True))
    picked = [f"{draw(st.sampled_from(CALLS))} AS {name}" for name in names]
    rest = draw(st.sampled_from(HAVINGS))
    if keys:
        order = draw(st.permutations([draw(st.sampled_from(["max(y)", names[0]])), *(k + draw(ends) for k in keys)]))
        rest += f" ORDER BY {', '.join(order)}{draw(parts)}"
    by = f" GROUP BY {', '.join(keys)}" if keys else ""
    return f"SELECT {', '.join([*keys, *picked])} FROM cells{draw(wheres())}{by}{rest}"


@st.composite
def distinct_queries(draw: st.DrawFn) -> str:
    """Outputs that differ, in order of all of them."""
    items = draw(st.lists(st.one_of(whole(1), strings(), st.sampled_from(["exact", "drop"])), min_size=1, max_size=3))
    named = [f"{item} AS {'abc'[index]}" for index, item in enumerate(items)]
    order = ", ".join("abc"[index] + draw(ends) for index in range(len(items)))
    return f"SELECT DISTINCT {', '.join(named)} FROM cells{draw(wheres())} ORDER BY {order}{draw(parts)}"


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(query=st.one_of(plain_queries(), grouped_queries(), distinct_queries()))
def test_any_query_of_cells_is_answered_as_duckdb_answers_it(database: Database, query: str) -> None:
    try:
        database.theirs(query)
    except duckdb.Error:
        return  # what DuckDB refuses has no answer to compare with
    database.agree(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT -y AS x FROM cells ORDER BY x, image, class, col",
        "SELECT -y AS x, row AS r FROM cells ORDER BY x + 0, r, image, class",
        "SELECT y % 24 AS g, x FROM cells ORDER BY g + x, g, image, class, row",
        "SELECT y + 1 AS g, x FROM cells WHERE g > 20 AND image LIKE '%a.png' ORDER BY -g, class, x",
        "SELECT y + 1 AS y FROM cells WHERE y > 20 ORDER BY y",
        "SELECT y, count(*) AS y FROM cells GROUP BY y ORDER BY y, max(cells.y)".replace("cells.y", "y + 0"),
        "SELECT y % 24 AS g, count(*) AS n FROM cells GROUP BY g HAVING g > 0 AND n > 1 ORDER BY g",
        "SELECT y, count(*) AS x FROM cells GROUP BY y HAVING x > 0 ORDER BY y",
        "SELECT y % 24 AS y, count(*) AS n FROM cells GROUP BY y HAVING y > 12 ORDER BY 1, n",
        "SELECT count(*) AS n FROM cells HAVING n > 5",
        "SELECT count(*) AS n FROM cells WHERE y > 1000 HAVING count(*) = 0",
        "SELECT count(*) FROM cells HAVING 1 = 0",
        "SELECT image, label FROM cells GROUP BY image, label HAVING image LIKE '%b.png' ORDER BY label",
        "SELECT DISTINCT y FROM cells ORDER BY -y LIMIT 2 OFFSET 1",
        "SELECT DISTINCT count(*) AS n, max(y) FROM cells GROUP BY y, x ORDER BY n + 1, 2",
        "SELECT DISTINCT label FROM cells WHERE class < 4 ORDER BY label NULLS FIRST",
        "SELECT y FROM cells ORDER BY y OFFSET 100",
        "SELECT count(DISTINCT label), count(DISTINCT y % 24) FROM cells",
    ],
)
def test_names_mean_what_they_mean_in_duckdb(database: Database, query: str) -> None:
    database.agree(query)


def test_a_list_is_given_for_the_items_of_in(database: Database) -> None:
    for values in ([0, 12], [12, None], [], (24,), range(0, 48, 12), {36}, np.array([0, 24]), [0.0, "x"][:1]):
        for condition in ("y IN (?)", "y IN ?", "y NOT IN ?", "NULL IN (?)"):
            query = f"SELECT count(*) AS n FROM cells WHERE {condition}"
            written = ", ".join("NULL" if value is None else str(value) for value in values)
            negated = "NOT" in condition
            expected = query.replace("(?)", "?").replace("?", f"({written})") if written else f"{query[:38]}{negated}"
            assert database.ours(query, [values])["n"].to_pylist() == [database.theirs(expected)[0][0]], condition
    assert database.ours("SELECT count(*) AS n FROM cells WHERE y IN (0, $l, x + 36)", {"l": [12]})["n"][0].as_py() > 48


def test_what_a_list_for_in_cannot_hold_is_named(database: Database) -> None:
    for values, message in (([[1]], "holds a list"), ([b"a"], "holds a bytes"), (range(20_001), "holds 20,001 values")):
        with pytest.raises(BindError, match=message):
            database.ours("SELECT y FROM cells WHERE y IN ?", [values])


@pytest.mark.parametrize(
    "select", ["class / row", "-1 / row", "row / row", "drop / 0", "drop % 0", "(0 - class) / (drop * 0)"]
)
def test_a_division_by_zero_is_infinite_or_nan(database: Database, select: str) -> None:
    database.agree(f"SELECT {select} AS a FROM cells ORDER BY image, class, row, col")


@pytest.mark.parametrize("select", ["drop % 0.1", "-drop % 0.03", "9223372036854775807 % drop", "drop % NULL"])
def test_a_remainder_of_fractions_is_that_of_duckdb(database: Database, select: str) -> None:
    database.agree(f"SELECT {select} AS a FROM cells ORDER BY image, class, row, col")


@pytest.mark.parametrize(
    "where",
    [
        *(
            "1 / y > 5",
            "0 / y = 0",
            "NOT (0 / y = 1)",
            "1 / (-x) > 0",
            "-1 / (x * -1) < 0",
            "0 / 0 IS NULL",
        ),
        *("(y + drop) % 0 IS NULL", "NOT ((y / 8) % x = 3)", "1 / (y % 24) > 1", "1 / round(x / 1000) > 0"),
    ],
)
def test_a_division_by_zero_keeps_the_same_cells_where_the_grid_is_cut_down(database: Database, where: str) -> None:
    database.agree(f"SELECT image, row, col FROM cells WHERE {where} ORDER BY image, class, row, col")
