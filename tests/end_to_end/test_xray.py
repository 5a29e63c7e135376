"""The first line of the issue: a heat map of a chest radiograph in 16 bits, asked for at the prompt."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import kryptondb
from kryptondb.prompt.editor import prompt_session
from kryptondb.prompt.output import Output
from kryptondb.prompt.shell import Shell
from kryptondb.repl import converse
from kryptondb.show.terminal import Terminal

SCRIPT = """\
CREATE MODEL model FROM torchvision('resnet18') WITH (weights => 'random', size => 64);
SELECT HEATMAP FROM occlude(model, 'xray.png', stride => 8) WITH SSIM >= 0.9;
"""


@pytest.fixture
def xray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """xray.png in the current folder: RG1_UNCI.dcm, a CR CHEST, as 16-bit greyscale with air in black."""
    pydicom = pytest.importorskip("pydicom")
    data_store = pytest.importorskip("data_store")
    read = pydicom.dcmread(Path(data_store.__file__).parent / "data" / "RG1_UNCI.dcm")
    assert (read.PhotometricInterpretation, read.BitsStored) == ("MONOCHROME1", 15)
    pixels = read.pixel_array[::8, ::8].astype(np.float64)
    levels = (pixels.max() - pixels) / (pixels.max() - pixels.min())  # MONOCHROME1: the least value is white
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.round(levels * 65535).astype(np.uint16)).save("xray.png")
    with Image.open("xray.png") as saved:
        assert saved.mode == "I;16"
    return tmp_path / "xray.png"


def at_the_prompt(typed: str, mode: str) -> str:
    """What a new database answers, with the keys from a pipe instead of a terminal."""
    out = io.StringIO()
    with kryptondb.connect() as session, create_pipe_input() as pipe:
        shell = Shell(session, Output(out, None, Terminal(100, 30, False)), errors=out, mode=mode)
        pipe.send_text(typed.replace("\n", "\r") + "\x04")
        assert converse(shell, prompt_session(session, input=pipe, output=DummyOutput())) == 0
    return out.getvalue()


@pytest.mark.slow
def test_the_first_query_at_the_prompt_on_a_chest_radiograph(xray):
    model, answer = at_the_prompt(SCRIPT, "table").splitlines()
    assert model.startswith("model: 11.7 M parameters, 64 x 64 RGB, 1,000 classes, incremental throughout, R ")
    image, score, lowest, quality, _ = answer.split("   ")
    assert (image, quality) == ("xray.png", "exact")
    assert lowest.startswith("lowest 0.") and " at y " in lowest
    assert 0 < float(score.split()[-1]) < 1


@pytest.mark.slow
def test_sixteen_bits_keep_their_range_on_the_way_to_the_heat_map(xray):
    """The same picture in 8 bits gives nearly the same map: neither is clipped or wrapped."""
    with Image.open(xray) as opened:
        levels = np.asarray(opened).astype(np.float64) / 257
    Image.fromarray(np.round(levels).astype(np.uint8)).save("eight.png")
    typed = SCRIPT + SCRIPT.splitlines()[1].replace("xray", "eight") + "\n"
    sixteen, eight = (json.loads(line) for line in at_the_prompt(typed, "json").splitlines())
    assert sixteen["class"] == eight["class"]
    found, expected = np.array(sixteen["heatmap"]), np.array(eight["heatmap"])
    assert found.shape == (7, 7) and np.ptp(found) > 0
    np.testing.assert_allclose(found, expected, atol=0.05 * np.ptp(found))
