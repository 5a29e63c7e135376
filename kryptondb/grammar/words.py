"""The words of the language: keywords, function names, and how a name or a string is quoted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

# What a text may hold, far beyond what people write: reading it takes time and memory in proportion.
MAX_CHARACTERS = 1 << 20
MAX_WORDS = 50_000  # words, names, numbers, strings and signs of one statement
MAX_TEXT_WORDS = 200_000  # of all statements of a text
MAX_ITEMS = 1_000  # what SELECT, GROUP BY or ORDER BY lists
MAX_PATTERN = 1_000  # characters of a LIKE pattern

# Every keyword, in the order in which completion and "Expected ..." sentences offer them.
KEYWORDS: tuple[str, ...] = (
    *("SELECT", "EXPLAIN", "CREATE", "SHOW", "DESCRIBE", "ANALYZE", "CALIBRATE", "COPY", "SET", "DROP"),
    *("REPLACE", "MODEL", "MODELS", "PROFILES", "SETTINGS", "SAMPLES", "CALIBRATION"),
    *("IF", "EXISTS", "FORMAT"),
    *("HEATMAP", "ATTRIBUTION", "PREDICTION"),
    *("FROM", "OCCLUDE", "REDUNDANCY", "TORCHVISION", "TIMM", "PRETRAINED", "TO"),
    *(
        "AS",
        "WHERE",
        "GROUP",
        "HAVING",
        "ORDER",
        "LIMIT",
        "OFFSET",
        "WITH",
        "USING",
        "BY",
        "ASC",
        "DESC",
        "NULLS",
        "FIRST",
        "LAST",
    ),
    *("SSIM", "CONFIDENCE", "TIME", "SECONDS", "SECOND", "TOP", "ALL"),
    *("NULL", "TRUE", "FALSE", "DISTINCT", "AND", "OR", "NOT", "BETWEEN", "IN", "IS", "LIKE", "ILIKE", "ESCAPE"),
    *("CASE", "WHEN", "THEN", "ELSE", "END", "CAST"),
)

# Keywords that are never names, wherever they stand, unless quoted. Every other keyword is a name where it can be one.
RESERVED: frozenset[str] = frozenset(
    [
        *(
            "SELECT",
            "FROM",
            "AS",
            "WHERE",
            "GROUP",
            "HAVING",
            "ORDER",
            "LIMIT",
            "OFFSET",
            "WITH",
            "USING",
            "ASC",
            "DESC",
            "DISTINCT",
        ),
        *("AND", "OR", "NOT", "BETWEEN", "IN", "IS", "LIKE", "ILIKE", "ESCAPE"),
        *("NULL", "TRUE", "FALSE", "CASE", "WHEN", "THEN", "ELSE", "END", "CAST"),
    ]
)

# What can be selected of a whole image and class.
IMAGE_ITEMS: tuple[str, ...] = ("HEATMAP", "ATTRIBUTION", "PREDICTION")

# Keywords that compete with a name somewhere: the canonical text quotes a name spelt like one of them.
_QUOTED_WORDS = RESERVED | {*IMAGE_ITEMS, "TOP", "ALL", "IF"}

AGGREGATES: tuple[str, ...] = ("min", "max", "avg", "sum", "count")
SCALARS: tuple[str, ...] = ("abs", "round")

# What CAST takes: each type and its other names.
TYPES: Mapping[str, tuple[str, ...]] = {
    "BOOLEAN": ("BOOL", "LOGICAL"),
    "SMALLINT": ("INT2", "SHORT"),
    "INTEGER": ("INT", "INT4", "SIGNED"),
    "BIGINT": ("INT8", "LONG"),
    "REAL": ("FLOAT", "FLOAT4"),
    "DOUBLE": ("FLOAT8", "DOUBLE PRECISION"),
    "VARCHAR": ("TEXT", "STRING", "CHAR"),
}

# Words of standard SQL that this language does not have: what they begin or belong to, and a remedy.
MISSING: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("JOIN", "INNER", "LEFT", "RIGHT", "FULL", "OUTER", "CROSS", "NATURAL"),
        ("JOIN", "Copy results to files, or join them in Python: DuckDB and pandas read a result as it is."),
    ),
    **dict.fromkeys(("LATERAL", "UNNEST", "PIVOT", "UNPIVOT", "TABLESAMPLE"), ("", "A query reads one table.")),
    **dict.fromkeys(("UNION", "INTERSECT", "EXCEPT", "MINUS"), ("", "Run the queries one by one.")),
    **dict.fromkeys(("OVER", "WINDOW", "QUALIFY"), ("", "There are no window functions. GROUP BY makes groups.")),
    "PARTITION": ("PARTITION BY", "There are no window functions. GROUP BY makes groups."),
    "WITHIN": ("WITHIN GROUP", "The aggregates are min, max, avg, sum and count."),
    "FILTER": ("FILTER", "Aggregate what is meant: count(CASE WHEN drop > 0.1 THEN 1 END)."),
    "FETCH": ("FETCH", "LIMIT n keeps the first n rows."),
    "TIES": ("WITH TIES", "LIMIT n keeps the first n rows."),
    "PERCENT": ("PERCENT", "LIMIT n keeps the first n rows."),
    "GROUPING": ("GROUPING SETS", "Run a query for each set of columns."),
    **dict.fromkeys(("ROLLUP", "CUBE"), ("", "Run a query for each set of columns.")),
    "SIMILAR": ("SIMILAR TO", "LIKE takes a pattern with % and _."),
    **dict.fromkeys(("REGEXP", "RLIKE", "GLOB"), ("", "LIKE takes a pattern with % and _.")),
    "COLLATE": ("COLLATE", "ILIKE compares in any case."),
    **dict.fromkeys(("EXISTS", "ANY", "SOME"), ("", "There are no subqueries. IN takes a list, or a parameter.")),
}

# Function -> the fewest and the most arguments it takes.
FUNCTIONS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(AGGREGATES, (1, 1)),
    "abs": (1, 1),
    "round": (1, 2),
}

# Table function -> what its positional arguments are.
TABLE_FUNCTIONS: Mapping[str, tuple[str, ...]] = {"occlude": ("model", "images"), "redundancy": ("model",)}

# What reads a column of pictures out of a file.
TABLE_FILES: tuple[str, ...] = ("parquet", "arrow")

MODEL_SOURCES: tuple[str, ...] = ("torchvision", "timm", "pretrained")

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def quote_identifier(name: str) -> str:
    """The name as SQL: as it is when it can stand bare anywhere, else in double quotes (doubled inside)."""
    if _PLAIN.match(name) and name.upper() not in _QUOTED_WORDS and misspelt_aggregate(name) is None:
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_string(value: str) -> str:
    """The value as an SQL string: in single quotes, doubled inside."""
    return "'" + value.replace("'", "''") + "'"


def misspelt_aggregate(name: str) -> str | None:
    """The one of `IMAGE_ITEMS` that the name nearly is (`heatmpa`), else None.

    A bare misspelling would read as a column, so it is refused, and quoted when it is meant.
    """
    if name.upper() in IMAGE_ITEMS or not 5 <= len(name) <= 14:
        return None
    near = difflib.get_close_matches(name.upper(), IMAGE_ITEMS, n=1, cutoff=0.8)
    return near[0] if near else None
