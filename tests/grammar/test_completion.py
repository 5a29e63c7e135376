"""What a prompt may offer at the cursor."""

from __future__ import annotations

import pytest

from kryptondb.grammar.completion import Context, ContextKind, context, expected_words

OCCLUDE = "SELECT HEATMAP FROM occlude(chest, 'a'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("SELECT", "EXPLAIN", "CREATE", "SHOW", "DESCRIBE", "ANALYZE", "CALIBRATE", "COPY", "SET", "DROP")),
        ("s", ("SELECT", "SHOW", "SET")),
        ("SHOW MODELS; de", ("DESCRIBE",)),
        ("SELECT h", ("HEATMAP",)),
        ("SELECT HEATMAP, att", ("ATTRIBUTION",)),
        ("SELECT HEATMAP ", ("FROM", "AS")),
        ("SELECT HEATMAP FROM ", ("occlude", "redundancy")),
        ("SELECT HEATMAP FROM OC", ("occlude",)),
        ("SELECT HEATMAP FROM occlude(", ()),
        (OCCLUDE + ", class => ", ("TOP", "ALL", "NULL", "TRUE", "FALSE")),
        (OCCLUDE + ") ", ("WHERE", "GROUP BY", "HAVING", "ORDER BY", "LIMIT", "OFFSET", "WITH", "USING")),
        (OCCLUDE + ") GROUP ", ("BY",)),
        ("SELECT CASE y W", ("WHEN",)),
        ("SELECT CASE y WHEN 1 THEN 2 E", ("ELSE", "END")),
        ("SELECT y F", ("FROM",)),
        (OCCLUDE + ") LIMIT 3 ", ("OFFSET", "WITH", "USING")),
        (OCCLUDE + ") WHERE label LIKE 'a' ESC", ("ESCAPE",)),
        (OCCLUDE + ") WITH ", ("SSIM", "TIME")),
        (
            OCCLUDE + ") WITH SSIM >= 0.9 ",
            ("WHERE", "GROUP BY", "HAVING", "ORDER BY", "LIMIT", "OFFSET", "WITH", "USING", "CONFIDENCE", "AND"),
        ),
        (
            OCCLUDE + ") ORDER BY y ",
            (
                *("LIMIT", "OFFSET", "WITH", "USING", "ASC", "DESC", "NULLS"),
                *("AND", "OR", "NOT", "BETWEEN", "IN", "IS", "LIKE", "ILIKE"),
            ),
        ),
        ("CREATE MODEL m FROM ", ("torchvision", "timm", "pretrained")),
        ("CREATE ", ("MODEL", "OR")),
        ("EXPLAIN ", ("SELECT", "ANALYZE", "FORMAT")),
        ("SHOW ", ("MODELS", "PROFILES", "SETTINGS", "SAMPLES", "CALIBRATION")),
        ("SHOW C", ("CALIBRATION",)),
        ("CA", ("CALIBRATE",)),
        ("CALIBRATE ", ()),
        ("DROP ", ("MODEL", "PROFILES")),
        ("SELECT 'F", ()),
        ("SELECT y -- F", ()),
        ("nonsense here ", ()),
    ],
)
def test_the_words_that_may_come_next_are_offered(text: str, words: tuple[str, ...]) -> None:
    assert expected_words(text) == words


@pytest.mark.parametrize(
    ("text", "kind", "prefix"),
    [
        ("SELECT ", ContextKind.COLUMN, ""),
        ("SELECT y, la", ContextKind.COLUMN, "la"),
        ("SELECT y AS n", ContextKind.NOTHING, "n"),
        ("SELECT HEATMAP FROM occlude(ch", ContextKind.MODEL, "ch"),
        ('SELECT HEATMAP FROM occlude("my mo', ContextKind.MODEL, "my mo"),
        ("SELECT HEATMAP FROM occlude(chest, 'scans/a", ContextKind.PATH, "scans/a"),
        ("SELECT HEATMAP FROM occlude(chest, ('a', 'b", ContextKind.PATH, "b"),
        (OCCLUDE, ContextKind.NOTHING, ""),
        (OCCLUDE + " ", ContextKind.NOTHING, ""),
        (OCCLUDE + ", pa", ContextKind.OPTION, "pa"),
        (OCCLUDE + ", fill => 'gr", ContextKind.VALUE, "gr"),
        (OCCLUDE + ", class => 'it''s", ContextKind.LABEL, "it's"),
        (OCCLUDE + ", class => ('a', 'b", ContextKind.LABEL, "b"),
        (OCCLUDE + ") WHERE d", ContextKind.COLUMN, "d"),
        (OCCLUDE + ") WHERE abs(d", ContextKind.COLUMN, "d"),
        (OCCLUDE + ") GROUP BY y HAVING max(d", ContextKind.COLUMN, "d"),
        ("SELECT y n", ContextKind.NOTHING, "n"),
        ("SELECT DISTINCT la", ContextKind.COLUMN, "la"),
        ("SELECT CASE WHEN y > 1 THEN d", ContextKind.COLUMN, "d"),
        ("SELECT CASE WHEN y > 1 THEN 1 ELSE d", ContextKind.COLUMN, "d"),
        ("SELECT CAST(d", ContextKind.COLUMN, "d"),
        ("SELECT CAST(drop AS d", ContextKind.NOTHING, "d"),
        ("SELECT drop::d", ContextKind.NOTHING, "d"),
        (OCCLUDE + ") WHERE label ILIKE 'ca", ContextKind.LABEL, "ca"),
        (OCCLUDE + ") WHERE y > 1 AND label = 'ca", ContextKind.LABEL, "ca"),
        (OCCLUDE + ") WHERE label NOT IN ('a', 'c", ContextKind.LABEL, "c"),
        (OCCLUDE + ") WHERE image LIKE 'sc", ContextKind.PATH, "sc"),
        (OCCLUDE + ") USING d", ContextKind.OPTION, "d"),
        (OCCLUDE + ") USING batch => 1, d", ContextKind.OPTION, "d"),
        (OCCLUDE + ") USING device => 'cu", ContextKind.VALUE, "cu"),
        ("CREATE MODEL m FROM 'net.p", ContextKind.PATH, "net.p"),
        ("CREATE MODEL m FROM torchvision('res", ContextKind.ARCHITECTURE, "res"),
        ("CREATE MODEL m FROM 'a' WITH (wei", ContextKind.OPTION, "wei"),
        ("CREATE MODEL m FROM 'a' WITH (weights => 'w.s", ContextKind.VALUE, "w.s"),
        ("CREATE MODEL m FROM 'a' WITH (channels => 'R", ContextKind.VALUE, "R"),
        ("DROP MODEL IF EXISTS ", ContextKind.MODEL, ""),
        ("DROP PROFILES ch", ContextKind.MODEL, "ch"),
        ("DESCRIBE ch", ContextKind.MODEL, "ch"),
        ("ANALYZE ch", ContextKind.MODEL, "ch"),
        ("ANALYZE m USING 's", ContextKind.PATH, "s"),
        ("ANALYZE m USING ('s', 't", ContextKind.PATH, "t"),
        ("ANALYZE m USING 's' WITH (n", ContextKind.OPTION, "n"),
        ("CALIBRATE ", ContextKind.MODEL, ""),
        ("calibrate net, ch", ContextKind.MODEL, "ch"),
        ("CALIBRATE net ", ContextKind.NOTHING, ""),
        ("EXPLAIN ANALYZE ", ContextKind.NOTHING, ""),
        ("SET de", ContextKind.SETTING, "de"),
        ("SET device = 'cu", ContextKind.VALUE, "cu"),
        (f"COPY ({OCCLUDE}) WHERE label = 'c", ContextKind.LABEL, "c"),
        (f"COPY ({OCCLUDE})) TO 'out/m", ContextKind.PATH, "out/m"),
        (f"COPY ({OCCLUDE})) TO 'a.png' (for", ContextKind.OPTION, "for"),
        (f"COPY ({OCCLUDE})) TO 'a.png' (format p", ContextKind.VALUE, "p"),
        ("SELECT y /* x", ContextKind.NOTHING, ""),
        ("SELECT 12", ContextKind.NOTHING, ""),
    ],
)
def test_the_kind_of_name_being_typed_is_known(text: str, kind: ContextKind, prefix: str) -> None:
    found = context(text)
    assert (found.kind, found.prefix) == (kind, prefix)


def test_a_context_says_where_the_word_starts_and_what_it_belongs_to() -> None:
    text = f"SHOW MODELS;\n{OCCLUDE}, Class => 'cat"
    assert context(text) == Context(ContextKind.LABEL, "cat", len(text) - 3, "'", "occlude", "class", "chest")
    text = "CREATE MODEL m FROM timm('re"
    assert context(text) == Context(ContextKind.ARCHITECTURE, "re", len(text) - 2, "'", "timm")
