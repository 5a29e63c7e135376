"""LANGUAGE.md, statement by statement, and every clause of each."""

from __future__ import annotations

import pytest

from kryptondb.grammar import parse, parse_script
from kryptondb.grammar.engine import grammar
from kryptondb.grammar.statements import (
    AllClasses,
    Analyze,
    Between,
    Binary,
    Calibrate,
    Call,
    Column,
    Copy,
    CreateModel,
    Describe,
    DropModel,
    DropProfiles,
    Explain,
    HeatMap,
    ListLiteral,
    Literal,
    ModelSource,
    Option,
    OrderItem,
    Parameter,
    Prediction,
    Promise,
    Select,
    SelectItem,
    Set,
    Show,
    Star,
    TableFunction,
    TopK,
)
from kryptondb.grammar.words import KEYWORDS, MODEL_SOURCES, RESERVED, TABLE_FUNCTIONS

EXAMPLES = """
SELECT HEATMAP FROM occlude(model, 'xray.png') WITH SSIM >= 0.9;

SELECT HEATMAP, PREDICTION
FROM occlude(chest, 'scans/**/*.dcm', patch => 16, stride => 4, fill => 'gray', class => 'pneumonia')
WITH SSIM >= 0.9 CONFIDENCE 0.95 AND TIME <= 30 SECONDS
USING device => 'cuda';

SELECT image, label, y, x, drop FROM occlude(chest, 'a.png', class => TOP 3)
WHERE y BETWEEN 32 AND 160 AND drop > 0.05 ORDER BY drop DESC LIMIT 10;
"""
CHEST = Column("chest")
SMALL = Select((SelectItem(Star()),), TableFunction("redundancy", (Column("m"),)))


def test_the_examples_mean_what_they_say() -> None:
    first, second, third = parse_script(EXAMPLES)
    assert first == Select(
        (SelectItem(HeatMap()),),
        TableFunction("occlude", (Column("model"), Literal("xray.png"))),
        promise=Promise(0.9),
    )
    assert second == Select(
        (SelectItem(HeatMap()), SelectItem(Prediction())),
        TableFunction(
            "occlude",
            (CHEST, Literal("scans/**/*.dcm")),
            (
                Option("patch", Literal(16)),
                Option("stride", Literal(4)),
                Option("fill", Literal("gray")),
                Option("class", Literal("pneumonia")),
            ),
        ),
        promise=Promise(0.9, 0.95, 30.0),
        hints=(Option("device", Literal("cuda")),),
    )
    near = Between(Column("y"), Literal(32), Literal(160))
    assert third == Select(
        tuple(SelectItem(Column(name)) for name in ("image", "label", "y", "x", "drop")),
        TableFunction("occlude", (CHEST, Literal("a.png")), (Option("class", TopK(3)),)),
        where=Binary("AND", near, Binary(">", Column("drop"), Literal(0.05))),
        order_by=(OrderItem(Column("drop"), descending=True),),
        limit=10,
    )


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("SELECT * FROM redundancy(m)", SMALL),
        ("CREATE MODEL m FROM 'a.pt2'", CreateModel("m", ModelSource("file", "a.pt2"))),
        ("CREATE MODEL m FROM $file", CreateModel("m", ModelSource("file", Parameter(name="file")))),
        ("CREATE MODEL m FROM timm('a')", CreateModel("m", ModelSource("timm", "a"))),
        (
            "CREATE OR REPLACE MODEL m FROM torchvision('resnet18') WITH (size => (7, 9), classes => 3)",
            CreateModel(
                "m",
                ModelSource("torchvision", "resnet18"),
                (Option("size", ListLiteral((Literal(7), Literal(9)))), Option("classes", Literal(3))),
                replace=True,
            ),
        ),
        ("CREATE MODEL m FROM pretrained(?)", CreateModel("m", ModelSource("pretrained", Parameter(index=0)))),
        ("DROP MODEL m", DropModel("m")),
        ('DROP MODEL IF EXISTS "if"', DropModel("if", if_exists=True)),
        ("DROP PROFILES m", DropProfiles("m")),
        ("DESCRIBE m", Describe("m")),
        ("SHOW MODELS", Show("models")),
        ("SHOW PROFILES", Show("profiles")),
        ("SHOW SETTINGS", Show("settings")),
        ("SHOW SAMPLES", Show("samples")),
        ("SHOW CALIBRATION", Show("calibration")),
        ("CALIBRATE", Calibrate()),
        ("CALIBRATE m", Calibrate((Column("m"),))),
        ('CALIBRATE m, "my model", calibrate', Calibrate((Column("m"), Column("my model"), Column("calibrate")))),
        ("ANALYZE m USING 'a/*.png'", Analyze("m", Literal("a/*.png"))),
        ("ANALYZE m USING ? WITH (n => 3)", Analyze("m", Parameter(index=0), (Option("n", Literal(3)),))),
        ("EXPLAIN SELECT * FROM redundancy(m)", Explain(SMALL)),
        (
            "EXPLAIN ANALYZE FORMAT json SELECT * FROM redundancy(m)",
            Explain(SMALL, analyze=True, options=(Option("format", Column("json")),)),
        ),
        ("COPY (SELECT * FROM redundancy(m)) TO 'a.csv'", Copy(SMALL, "a.csv")),
        (
            "COPY (SELECT * FROM redundancy(m)) TO ? (FORMAT png, opacity => 0.5, width 9)",
            Copy(
                SMALL,
                Parameter(index=0),
                (Option("format", Column("png")), Option("opacity", Literal(0.5)), Option("width", Literal(9))),
            ),
        ),
        ("SET threads = 4", Set("threads", Literal(4))),
        ("SET device = auto", Set("device", Column("auto"))),
        ("SET memory_limit = '512mb'", Set("memory_limit", Literal("512mb"))),
    ],
)
def test_every_statement_is_understood(text: str, statement: object) -> None:
    assert parse(text) == statement
    assert parse(text.lower()) == statement


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", Literal(3)),
        ("'cat'", Literal("cat")),
        ("'it''s'", Literal("it's")),
        ("TOP 5", TopK(5)),
        ("ALL", AllClasses()),
        ("(1, 'cat', -2)", ListLiteral((Literal(1), Literal("cat"), Literal(-2)))),
        ("(3,)", ListLiteral((Literal(3),))),
        ("()", ListLiteral(())),
        ("-1.5e-3", Literal(-0.0015)),
        (".5", Literal(0.5)),
        ("5.", Literal(5.0)),
        ("?", Parameter(index=0)),
        ("$k", Parameter(name="k")),
        ("TRUE", Literal(True)),
        ("NULL", Literal(None)),
    ],
)
def test_an_option_takes_every_kind_of_value(value: str, expected: object) -> None:
    statement = parse(f"SELECT HEATMAP FROM occlude(m, 'a', class => {value})")
    assert isinstance(statement, Select)
    assert statement.source.options == (Option("class", expected),)  # type: ignore[arg-type]


@pytest.mark.parametrize("word", sorted(set(KEYWORDS) - RESERVED))
def test_a_keyword_that_is_not_reserved_is_a_good_name(word: str) -> None:
    """As a column in WHERE, a table function's model, an option, an alias, a setting and a model."""
    name = word.lower()
    statement = parse(
        f"SELECT y AS {name} FROM occlude({name}, 'a', {name} => 1) WHERE {name} > 1 AND abs({name}) < 2 "
        f"GROUP BY {name} ORDER BY {name} USING {name} => 2"
    )
    assert isinstance(statement, Select)
    assert statement.items[0].alias == name
    assert statement.source.arguments[0] == Column(name)
    assert statement.source.options == (Option(name, Literal(1)),)
    assert statement.group_by == (Column(name),)
    assert parse(f"SET {name} = {name if name not in ('top', 'all') else 1}") is not None
    assert parse(f"DESCRIBE {name}") == Describe(name)


def test_names_keep_their_case_and_quotes_admit_anything() -> None:
    assert parse('DESCRIBE "My ""Model"""') == Describe('My "Model"')
    assert parse("DESCRIBE MyModel") == Describe("MyModel")
    assert parse('DESCRIBE "select"') == Describe("select")
    assert parse("DESCRIBE modèle_é") == Describe("modèle_é")


def test_with_and_using_stand_before_where_or_after_limit() -> None:
    clauses = "WHERE y > 1 GROUP BY y ORDER BY y NULLS LAST LIMIT ?"
    tuning = "WITH TIME <= 1 SECOND AND SSIM >= 0.9 USING batch => 64"
    start = "SELECT count(*) AS n FROM occlude(m, 'a')"
    before, after = parse(f"{start} {tuning} {clauses}"), parse(f"{start} {clauses} {tuning}")
    assert before == after
    assert isinstance(after, Select)
    assert after.items == (SelectItem(Call("count", star=True), "n"),)
    assert after.order_by == (OrderItem(Column("y"), nulls_first=False),)
    assert after.limit == Parameter(index=0)
    assert after.promise == Promise(0.9, None, 1.0)
    apart = parse(f"{start} USING batch => 64 {clauses} WITH TIME <= 1 SECONDS AND SSIM >= 0.9")
    assert apart == after


def test_comments_and_any_space_may_stand_between_words() -> None:
    text = "\ufeffSHOW -- all ' of \"them\n\t/* ; ' \" -- */ MODELS/**/;-- end"
    assert parse(text) == Show("models")


def test_the_word_lists_and_the_grammar_agree() -> None:
    terminals = {terminal.name for terminal in grammar().terminals if terminal.pattern.type == "str"}
    words = {name for name in terminals if grammar().get_terminal(name).pattern.value.isalpha()}
    assert words == set(KEYWORDS)
    assert len(KEYWORDS) == len(set(KEYWORDS))
    assert set(KEYWORDS) >= RESERVED | {name.upper() for name in (*TABLE_FUNCTIONS, *MODEL_SOURCES)}
