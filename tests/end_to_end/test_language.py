"""LANGUAGE.md, statement by statement and option by option: each works, or is refused by name with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import kryptondb
from kryptondb.cli import main
from kryptondb.executor.operators import OPERATORS
from kryptondb.network import Cap
from kryptondb.optimizer import from_json
from tests.networks import export, small_network

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
QUERY = "SELECT HEATMAP FROM occlude(net, ?, patch => 8, class => ALL) "


class Counted(torch.nn.Module):
    """A network that cannot be traced, for it looks at its input. Notes how many images it was given."""

    given: list[int] = []  # of the class: KryptonDB keeps a copy of the module

    def __init__(self) -> None:
        super().__init__()
        self.network = small_network()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if float(images.sum()) > 1e9:
            return self.network(images * 2)
        self.given.append(len(images))
        return self.network(images)


@pytest.fixture
def db() -> Iterator[kryptondb.Session]:
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=32, labels=["a", "b", "c"])
        session.register("opaque", Counted(), size=32)
        yield session


def naive(dtype: torch.dtype, patch: int = 8, stride: int = 4) -> np.ndarray:
    """The drops of every class and position by the plainest loop, float64 [3, rows, cols]."""
    network = small_network().to(dtype)
    image = torch.from_numpy(PICTURE).permute(2, 0, 1)[None].to(dtype) / 255
    steps = range(0, 32 - patch + 1, stride)
    drops = np.empty((3, len(steps), len(steps)))
    with torch.no_grad():
        base = network(image).softmax(1)
        for row, y in enumerate(steps):
            for col, x in enumerate(steps):
                occluded = image.clone()
                occluded[:, :, y : y + patch, x : x + patch] = 0.5
                drops[:, row, col] = (base - network(occluded).softmax(1))[0].double()
    return drops


# What USING asks for is done


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["full", "incremental"])
def test_float64_is_really_float64(db, operator):
    single, double = (
        db.sql(QUERY + f"USING operator => '{operator}', precision => '{precision}'", [PICTURE])
        for precision in ("float32", "float64")
    )
    np.testing.assert_allclose(double.heatmaps(), naive(torch.float64), rtol=0, atol=1e-9)
    difference = np.abs(single.heatmaps() - double.heatmaps()).max()
    assert 1e-10 < difference < 1e-6
    assert double.schema.metadata[b"kryptondb.precision"] == b"float64"


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 7, 48, 64])
@pytest.mark.parametrize("operator", ["full", "incremental"])
def test_the_answer_is_the_same_in_batches_of_any_size(db, operator, batch):
    found = db.sql(QUERY + f"USING operator => '{operator}', batch => {batch}", [PICTURE]).heatmaps()
    np.testing.assert_allclose(found, naive(torch.float64), rtol=0, atol=1e-6)


def test_an_approximate_answer_always_says_that_it_is_approximate(db):
    exact = db.sql(QUERY, [PICTURE])
    capped = db.sql(QUERY + "USING tau => 0.25", [PICTURE])
    assert np.abs(capped.heatmaps() - exact.heatmaps()).max() > 1e-5
    assert capped.schema.metadata[b"kryptondb.quality"] == b"approximate"
    assert capped.schema.metadata[b"kryptondb.operator"] == b"thresholded"
    plan = from_json(capped.schema.metadata[b"kryptondb.plan"].decode(), OPERATORS)
    assert plan == capped.plan and plan.occlude.operator.cap == Cap(0.25, 0.25)
    cells = "SELECT y, x, exact FROM occlude(net, ?, patch => 8) "
    assert not any(db.sql(cells + "USING tau => 0.25", [PICTURE]).arrow()["exact"].to_pylist())
    assert all(db.sql(cells, [PICTURE]).arrow()["exact"].to_pylist())


def test_a_tau_of_one_cuts_nothing_off(db):
    exact = db.sql(QUERY + "USING operator => 'incremental'", [PICTURE]).heatmaps()
    np.testing.assert_array_equal(db.sql(QUERY + "USING tau => 1", [PICTURE]).heatmaps(), exact)


@pytest.mark.parametrize(
    "hints",
    [
        "operator => 'drill-down', step => 2",
        "operator => 'drill-down', step => 3, doubt => 0.3",
        "operator => 'refined', tau => 0.4",
        "operator => 'refined', tau => 0.4, doubt => 0.1",
    ],
)
def test_staged_operators_answer_queries_and_say_which_cells_they_computed(db, hints):
    exact = db.sql(QUERY, [PICTURE])
    near = db.sql(QUERY + "USING " + hints, [PICTURE])
    difference = np.abs(near.heatmaps() - exact.heatmaps())
    cells = db.sql("SELECT row, col, exact FROM occlude(net, ?, patch => 8, class => ALL) USING " + hints, [PICTURE])
    said = np.zeros(difference.shape[1:], dtype=bool)
    for cell in cells.arrow().to_pylist():
        said[cell["row"], cell["col"]] = cell["exact"]
    assert difference[0, said].max() < 1e-6 < difference[0, ~said].max()
    assert near.schema.metadata[b"kryptondb.quality"] == b"approximate"
    assert from_json(near.schema.metadata[b"kryptondb.plan"].decode(), OPERATORS) == near.plan
    assert cells.stats.positions == said.sum()  # what is reconstructed from these was not computed


# What WHERE excludes is not computed


def test_positions_outside_the_where_clause_are_never_computed(db):
    Counted.given.clear()
    result = db.sql("SELECT y, x FROM occlude(opaque, ?, patch => 8) WHERE y BETWEEN 8 AND 12 AND x < 8", [PICTURE])
    planned = sum(Counted.given)  # tracing was tried
    assert {(row["y"], row["x"]) for row in result.arrow().to_pylist()} == {(8, 0), (8, 4), (12, 0), (12, 4)}
    assert result.stats.positions == 4
    # Of a module that cannot be traced it is asked three times about the whole picture: whether it says the same again.
    assert sum(Counted.given) - planned == 3 + 4


@pytest.mark.parametrize(
    "where, positions",
    [
        ("", 49),
        ("WHERE y < 8", 14),
        ("WHERE row = 3 OR (col = 2 AND drop > 0)", 13),
        ("WHERE NOT (y > 0 OR x > 0)", 1),
        ("WHERE y > 1000", 0),
        ("WHERE class = 99", 0),
        ("WHERE label = 'nobody'", 0),
        ("WHERE image LIKE 'another%'", 0),
        ("WHERE drop > 0", 49),
    ],
)
@pytest.mark.parametrize("operator", ["full", "incremental"])
def test_only_what_can_be_true_is_computed(db, operator, where, positions):
    text = f"SELECT y, x, drop FROM occlude(net, ?, patch => 8) {where} USING operator => '{operator}'"
    assert db.sql(text, [PICTURE]).stats.positions == positions


def test_predictions_alone_compute_no_position(db):
    assert db.sql("SELECT PREDICTION FROM occlude(net, ?)", [PICTURE]).stats.positions == 0


# Every option, works or is refused by name

WORK = [
    *("patch => 8", "patch => (8, 12)", "stride => 8", "stride => (4, 8)"),
    *("fill => 'black'", "fill => 'gray'", "fill => 'white'", "fill => 0.25", "fill => (0.1, 0.2, 0.3)"),
    *("fill => 'mean'", "fill => 'patch_mean'", "fill => 'blur'"),
    *("class => 1", "class => 'b'", "class => TOP 2", "class => ALL", "class => (0, 'c')"),
    *("score => 'probability'", "score => 'logit'", "score => 'log_probability'"),
]


@pytest.mark.slow
def test_every_option_of_occlude_works_and_changes_the_answer(db):
    answers = {}
    for option in WORK:
        result = db.sql(f"SELECT HEATMAP FROM occlude(net, ?, {option})", [PICTURE])
        maps = result.heatmaps()
        assert np.isfinite(maps).all()
        answers[option] = (maps.shape, result.arrow()["class"].to_pylist(), maps.tobytes())
    default = db.sql("SELECT HEATMAP FROM occlude(net, ?)", [PICTURE])
    plain = (default.heatmaps().shape, default.arrow()["class"].to_pylist(), default.heatmaps().tobytes())
    same = {option for option, answer in answers.items() if answer == plain}
    top = default.arrow()["class"][0].as_py()
    assert same <= {"fill => 'gray'", "score => 'probability'", f"class => {top}", f"class => '{'abc'[top]}'"}
    assert {"fill => 'gray'", "score => 'probability'"} <= same


@pytest.mark.parametrize(
    "statement, says",
    [
        ("SELECT y FROM occlude(net, ?, tau => 0.5)", 'no occlude option named "tau"'),
        ("SELECT y FROM occlude(net, ?) USING operator => 'thresholded'", "needs a tau"),
        ("SELECT y FROM occlude(net, ?) WITH SSIM >= 0.9 USING tau => 0.6", "USING tau => 0.6 breaks the promise"),
        ("SELECT y FROM occlude(net, ?) USING precision => 'float8'", "precision must be one of 'float32', 'float64'"),
        ("SELECT y FROM occlude(net, ?) USING tau => 1.6", "tau must be a number above 0 and at most 1, not 1.6"),
        ("SELECT y FROM occlude(net, ?) USING operator => full", "Did you mean 'full'? Quote it."),
        ("SELECT y FROM occlude(net, ?) WITH TIME <= 0.000001 SECONDS", "TIME <= 1e-06 SECONDS is too short"),
        ("SELECT y FROM occlude(opaque, ?) WITH SSIM >= 0.9 AND TIME <= 3 SECONDS", "could not be traced"),
        ("SELECT y FROM occlude(net, ?) USING operator => 'anytime'", "WITH TIME <= 10 SECONDS gives it one."),
        ("SELECT y FROM occlude(opaque, ?) USING operator => 'incremental'", "The network could not be traced"),
        ("SELECT y FROM occlude(net, ?, class => (ALL))", "ALL stands alone: class => ALL."),
        ("SELECT max(HEATMAP) FROM occlude(net, ?)", "HEATMAP stands alone, not inside an expression"),
        ('SELECT "heatmap" FROM occlude(net, ?)', "HEATMAP is written without quotes."),
        ("SELECT HEATMAP FROM occlude(net, ?) ORDER BY 5", "ORDER BY 5 is HEATMAP, which has no order"),
        ("SELECT y, x, drop FROM occlude(net, ?) ORDER BY 4", "the number of an output from 1 to 3"),
        ("ANALYZE net USING ? WITH (tau => 0.6)", 'no ANALYZE option named "tau"'),
    ],
)
def test_what_there_is_not_is_refused_by_name_with_a_reason(db, statement, says):
    with pytest.raises(kryptondb.Error) as caught:
        db.sql(statement, [PICTURE])
    assert says in str(caught.value)
    assert caught.value.position is not None


@pytest.mark.parametrize(
    "statement, says",
    [
        ("DROP PROFILES nte", 'Did you mean "net"?'),
        ("CREATE MODEL m FROM timm('resnet81')", 'timm has no architecture "resnet81"'),
        ("SET memory_limit = 4", "at least 64MiB, not 4"),
    ],
)
def test_other_statements_refuse_by_name_too(db, statement, says):
    with pytest.raises(kryptondb.Error) as caught:
        db.sql(statement)
    assert says in str(caught.value)


def test_an_ordinal_is_an_output_column(db):
    text = "SELECT y, x, drop FROM occlude(net, ?, patch => 8) ORDER BY "
    by_ordinal, by_name = (db.sql(text + key, [PICTURE]).arrow() for key in ("3 DESC, 1", "drop DESC, y"))
    assert by_ordinal.equals(by_name)
    maps = db.sql("SELECT HEATMAP FROM occlude(net, ?, class => ALL) ORDER BY 3 DESC", [PICTURE])
    assert maps.arrow()["label"].to_pylist() == ["c", "b", "a"]


# How an answer was made


def test_a_promise_runs_the_exact_plan_and_everything_says_so(db):
    result = db.sql(QUERY + "WITH SSIM >= 0.9 CONFIDENCE 0.95", [PICTURE])
    assert result.plan.quality.kind == "exact"
    metadata = {key.decode(): value.decode() for key, value in result.schema.metadata.items()}
    assert metadata["kryptondb.quality"] == "exact"
    assert metadata["kryptondb.promise"] == (
        "WITH SSIM >= 0.9 CONFIDENCE 0.95 (no profile: the exact plan keeps SSIM >= 0.9)"
    )
    explained = db.sql("EXPLAIN " + QUERY + "WITH SSIM >= 0.9", [PICTURE]).message
    assert "exact (asked: SSIM >= 0.9; no profile: the exact plan keeps SSIM >= 0.9)" in explained


def test_explain_does_not_invent_the_cost_of_a_network_that_could_not_be_traced(db, capfd):
    told = db.sql("EXPLAIN ANALYZE SELECT HEATMAP FROM occlude(opaque, ?)", [PICTURE]).message
    lines = told.splitlines()
    assert lines[1].startswith("└─ Full") and lines[1].endswith("cost unknown")
    assert "GFLOP" not in told
    assert [line.split()[:2] for line in lines if line.startswith(("seconds", "operations"))] == [
        ["seconds", "unknown"],
        ["operations", "unknown"],
    ]
    assert all(len(line) <= 100 for line in lines)
    assert capfd.readouterr() == ("", "")  # torch.export says a lot about a network that it gives up on


def test_explain_analyze_counts_the_rows(db):
    text = "EXPLAIN ANALYZE SELECT y FROM occlude(net, ?, patch => 8) WHERE y < 8 LIMIT 5"
    result = db.sql(text, [PICTURE])
    assert result.stats.rows == 5
    assert result.message.split("\n\n")[1].splitlines()[-1].split() == ["rows", "5"]


def test_redundancy_tells_the_papers_ratio_too(db):
    table = db.sql("SELECT layer, ratio, uniform_ratio, centre_ratio FROM redundancy(net, patch => 8)").arrow()
    total = table.to_pylist()[-1]
    assert total["layer"] == "total"
    assert total["ratio"] > total["uniform_ratio"] >= 1
    assert total["centre_ratio"] >= total["uniform_ratio"]


def test_copy_says_what_it_wrote(db, tmp_path):
    query = "COPY (SELECT HEATMAP FROM occlude(net, ?)) TO "
    assert ": 1 row, " in db.sql(f"{query}'{tmp_path}/a.csv'", [PICTURE]).message
    assert ": 1 picture, " in db.sql(f"{query}'{tmp_path}/a.png'", [PICTURE]).message


@pytest.mark.slow
@pytest.mark.parametrize("option, at", [("(opacity 3)", "3)"), ("(FORMAT json)", "json)"), ("(opacty 3)", "opacty 3)")])
def test_an_option_of_copy_that_is_refused_has_its_place(db, tmp_path, option, at):
    text = f"COPY (SELECT HEATMAP FROM occlude(net, ?)) TO '{tmp_path}/a.png' {option}"
    with pytest.raises(kryptondb.BindError) as caught:
        db.sql(text, [PICTURE])
    assert text[caught.value.position.start :].startswith(at)


def test_a_bound_list_may_hold_globs_of_many_pictures(db, work):
    from kryptondb.optimizer.experiment import Images

    def known(value: object) -> int | None:
        plan = db.sql("SELECT HEATMAP FROM occlude(net, ?)", [value]).plan
        return next(node.count for node in plan.root.walk() if isinstance(node, Images))

    assert known("scans/*.png") is None
    assert known([PICTURE, "scans/*.png"]) is None
    assert known([PICTURE, "scans/0.png"]) == 2
    assert known(PICTURE) == 1
    assert len(db.sql("SELECT HEATMAP FROM occlude(net, ?)", [[PICTURE, "scans/*.png"]]).heatmaps()) == 4


def test_a_long_line_is_shown_around_the_caret_and_a_short_one_whole(db):
    text = "SELECT y, x, drop FROM occlude(net, 'a.png', patch => 8) WHERE y < 10 AND yy > 3"
    with pytest.raises(kryptondb.BindError) as caught:
        db.sql(text)
    assert str(caught.value).splitlines()[1] == "    " + text
    long = text.replace("WHERE", "WHERE " + "x >= 0 AND " * 30)
    with pytest.raises(kryptondb.BindError) as caught:
        db.sql(long)
    _, shown, caret, *_ = str(caught.value).splitlines()
    assert len(shown) < 140 and shown.startswith("    ...")
    assert shown[caret.index("^") :].startswith("yy > 3") and caret.count("^") == 2


def test_what_is_shown_of_a_text_has_no_escape_codes(db):
    with pytest.raises(kryptondb.ParseError) as caught:
        db.sql("SELECT \x1b[2J y")
    assert "\x1b" not in str(caught.value)


@pytest.mark.slow
def test_weights_files_and_exported_programs_make_the_models_they_hold(db, tmp_path):
    from safetensors.torch import save_file

    network = small_network()
    export(network, tmp_path / "net.pt2")
    db.sql(f"CREATE MODEL saved FROM '{tmp_path}/net.pt2' WITH (size => 32)")
    saved = db.sql(QUERY.replace("net", "saved"), [PICTURE]).heatmaps()
    np.testing.assert_allclose(saved, db.sql(QUERY, [PICTURE]).heatmaps(), atol=1e-6)
    save_file({"fc.weight": torch.zeros(3, 512)}, tmp_path / "bad.safetensors")
    text = f"CREATE MODEL bad FROM torchvision('resnet18') WITH (weights => '{tmp_path}/bad.safetensors')"
    with pytest.raises(kryptondb.ModelError, match=r"fc\.weight is 3 x 512, expected 1000 x 512"):
        db.sql(text)


def test_a_result_that_is_kept_tells_no_time(db, capsys):
    result = db.sql("SELECT HEATMAP FROM occlude(net, ?)", [PICTURE])
    result.arrow()
    result.show()
    assert capsys.readouterr().out.rstrip("\n").endswith("   exact")


def test_a_dicom_file_without_a_picture_is_refused_by_name(db, tmp_path):
    (tmp_path / "scan.dcm").write_bytes(bytes(128) + b"DICM" + bytes(50))
    with pytest.raises(kryptondb.ImageError, match=r"scan\.dcm: a DICOM file without a picture"):
        db.sql(f"SELECT HEATMAP FROM occlude(net, '{tmp_path}/scan.dcm')").arrow()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_in_a_sentence(capsys):
    assert main(["-o", "/dev/full", "-c", "SHOW SETTINGS"]) == 1
    assert capsys.readouterr().err == "cannot write /dev/full: No space left on device\n"


ORDERED = "SELECT image, class, row, col, drop FROM occlude(net, ?, patch => 8, class => (2, 0, 1)) "


@pytest.mark.parametrize(
    "hints",
    [
        *(
            "",
            "USING operator => 'full', batch => 5",
            "USING operator => 'incremental', batch => 3",
            "USING tau => 0.5",
        ),
        *("USING operator => 'drill-down', step => 2", "USING operator => 'refined', tau => 0.4"),
        *("WITH TIME <= 60 SECONDS USING operator => 'anytime'", "WHERE row > 1 AND (col < 5 OR row = 3)"),
        "WHERE row <> 2 AND col > 1 USING operator => 'incremental', batch => 2",
    ],
)
def test_without_order_by_cells_come_by_image_class_row_and_column(db, hints):
    pictures = [PICTURE, PICTURE[::-1].copy(), PICTURE[:, ::-1].copy()]
    cells = db.sql(ORDERED + hints, [pictures]).arrow().to_pylist()
    names = list(dict.fromkeys(cell["image"] for cell in cells))
    keys = [(names.index(c["image"]), (2, 0, 1).index(c["class"]), c["row"], c["col"]) for c in cells]
    assert len(names) == 3 and keys == sorted(keys) and len(set(keys)) == len(keys)
    where = hints.partition("USING")[0] if hints.startswith("WHERE") else ""
    groups = db.sql(
        f"SELECT class, row FROM occlude(net, ?, patch => 8, class => (2, 0, 1)) {where} GROUP BY class, row",
        [pictures],
    )
    assert [(g["class"], g["row"]) for g in groups.arrow().to_pylist()] == list(
        dict.fromkeys((c["class"], c["row"]) for c in cells)
    )
    first = db.sql(f"{ORDERED}{where} LIMIT 7 OFFSET 3", [pictures]).arrow().to_pylist()
    assert [(c["class"], c["row"], c["col"]) for c in first] == [(c["class"], c["row"], c["col"]) for c in cells[3:10]]
