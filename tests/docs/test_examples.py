"""Every example in SQL on the site is run, on small networks with the names that the site uses."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kryptondb
from kryptondb.catalog.options import ModelOptions
from kryptondb.grammar.statements import Analyze, CreateModel
from kryptondb.grammar.words import MODEL_SOURCES
from kryptondb.options.reader import given_in
from kryptondb.options.tables import ANALYZE, COPY, MODEL, SETTINGS, USING
from kryptondb.options.words import FILLS, SCORES
from kryptondb.session import parse
from tests.images.dicoms import write_dicom
from tests.networks import coarse_network

PAGES = Path(__file__).resolve().parents[2] / "docs/pages"
BLOCK = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(block[1], id=f"{page.relative_to(PAGES).with_suffix('')}-{number}")
    for page in sorted(PAGES.rglob("*.md"))
    for number, block in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")), start=1)
]
LANGUAGE = "\n".join(
    block for page in (PAGES / "language").glob("*.md") for block in BLOCK.findall(page.read_text(encoding="utf-8"))
)
PARAMETERS = {"images": "scans", "which": "tabby", "limit": 64, "pixels": np.zeros((3, 96, 96), np.uint8)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the site's examples name."""
    import nibabel
    import pyarrow as pa
    import pyarrow.parquet

    made = tmp_path_factory.mktemp("site")
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (96, 96, 3), dtype=np.uint8))
    for name in ("scans/cat.png", "scans/coffee.png", "scans/rocket.jpg", "samples/cell.png", "scan.png"):
        (made / name).parent.mkdir(exist_ok=True)
        picture.save(made / name)
    (made / "scans/broken.png").write_text("no picture")
    write_dicom(
        made / "study.dcm", random.integers(0, 4096, (3, 96, 96), dtype=np.uint16), frames=3, StudyInstanceUID="1.2.3"
    )
    nibabel.save(nibabel.Nifti1Image(random.random((64, 64, 64)).astype("float32"), np.eye(4)), made / "brain.nii.gz")
    png = io.BytesIO()
    picture.save(png, format="PNG")
    pyarrow.parquet.write_table(pa.table({"image": [png.getvalue()] * 2}), made / "scans.parquet")
    return made


@pytest.fixture(scope="module")
def session() -> Iterator[kryptondb.Session]:
    """One for all examples: networks are traced once."""
    many = [f"class {number}" for number in range(1000)]
    many[281:283], many[285] = ["tabby", "tiger cat"], "Egyptian cat"
    few = ["normal", "bacterial", "viral"]
    with kryptondb.connect() as made:
        for name, labels in {"imagenet": many, "vgg16": many, "chest": few, "net": few}.items():
            made.register(name, coarse_network(len(labels)), size=224, labels=labels)
        yield made


@pytest.fixture
def db(folder, session, monkeypatch: pytest.MonkeyPatch) -> kryptondb.Session:
    """In the folder of the examples' files, with no setting of the example before."""
    monkeypatch.chdir(folder)
    for setting in SETTINGS.values():
        session.database.settings.set(setting.name, setting.default)
    return session


@pytest.mark.slow
@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_runs_as_it_stands(db, text):
    for statement in parse(text):
        if isinstance(statement, CreateModel):  # its files and downloads are not here: its options are checked
            ModelOptions.parse(given_in(statement.options, {}))
            assert statement.source.kind in (*MODEL_SOURCES, "file")
            continue
        if isinstance(statement, Analyze):
            statement = next(iter(parse(re.sub(r"stride => \d+", "stride => 96", str(statement)))))
        db.run(statement, text, PARAMETERS).arrow()


@pytest.mark.parametrize(
    "option",
    [
        *ANALYZE, *MODEL, *USING,
        *(name for names in COPY.values() for name in names),
    ],
)  # fmt: skip
def test_every_option_has_an_example(option):
    assert re.search(rf"\b{option}\b", LANGUAGE, re.IGNORECASE)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_has_an_example(setting):
    assert f"SET {setting} = " in LANGUAGE


@pytest.mark.parametrize("word", [*FILLS, *SCORES, *COPY])
def test_every_word_that_an_option_takes_is_explained(word):
    told = "\n".join(page.read_text(encoding="utf-8") for page in (PAGES / "language").glob("*.md"))
    assert f"`'{word}'`" in told or f"`{word}`" in told


def test_the_grammar_page_draws_every_rule():
    pytest.importorskip("railroad", reason="the extra docs draws diagrams")
    import sys

    sys.path.insert(0, str(PAGES.parent))
    try:
        from drawn.grammar import Grammar
    finally:
        sys.path.remove(str(PAGES.parent))
    text = (Path(kryptondb.__file__).parent / "grammar/occlude.lark").read_text(encoding="utf-8")
    page = Grammar(text).page()
    drawn = set(re.findall(r"\{ #(\w+) \}", page))
    rules = {name.lstrip("?!_") for name in re.findall(r"^([?!_]*[a-z]\w*):", text, re.MULTILINE)}
    assert drawn >= rules - {"null", "true", "false"}
    linked = set(re.findall(r'xlink:href="#([\w-]+)"', page))
    assert linked <= drawn | set(re.findall(r"id='([\w-]+)'", page))
