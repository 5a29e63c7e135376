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
    *("IF", "EXISTS", "FORMAT", "TEXT", "JSON"),
    *("HEATMAP", "ATTRIBUTION", "PREDICTION"),
    *("FROM", "OCCLUDE", "REDUNDANCY", "TORCHVISION", "TIMM", "PRETRAINED", "TO"),
    *("AS", "WHERE", "GROUP", "ORDER", "LIMIT", "WITH", "USING", "BY", "ASC", "DESC", "NULLS", "FIRST", "LAST"),
    *("SSIM", "CONFIDENCE", "TIME", "SECONDS", "SECOND", "TOP", "ALL"),
    *("NULL", "TRUE", "FALSE", "DISTINCT", "AND", "OR", "NOT", "BETWEEN", "IN", "IS", "LIKE", "ILIKE", "ESCAPE"),
)

# Keywords that are never names, wherever they stand, unless quoted. Every other keyword is a name where it can be one.
RESERVED: frozenset[str] = frozenset(
    [
        *("SELECT", "FROM", "AS", "WHERE", "GROUP", "ORDER", "LIMIT", "WITH", "USING", "ASC", "DESC", "DISTINCT"),
        *("AND", "OR", "NOT", "BETWEEN", "IN", "IS", "LIKE", "ILIKE", "ESCAPE"),
        *("NULL", "TRUE", "FALSE"),
    ]
)

# What can be selected of a whole image and class.
IMAGE_ITEMS: tuple[str, ...] = ("HEATMAP", "ATTRIBUTION", "PREDICTION")

# Keywords that compete with a name somewhere: the canonical text quotes a name spelt like one of them.
_QUOTED_WORDS = RESERVED | {*IMAGE_ITEMS, "TOP", "ALL", "IF"}

AGGREGATES: tuple[str, ...] = ("min", "max", "avg", "sum", "count")
SCALARS: tuple[str, ...] = ("abs", "round")

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
