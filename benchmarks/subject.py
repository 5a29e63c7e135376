"""What every contender explains: a network, trained or with random weights, a picture, and one class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

import kryptondb.images.torchvision_guard  # noqa: F401  (before any import of torchvision)
from benchmarks.networks import NETWORKS, RealNetwork
from kryptondb.catalog import Model
from kryptondb.images.arrays import from_array
from kryptondb.images.decode import decode
from kryptondb.images.fills import Fill, parse_fill
from kryptondb.images.picture import Picture
from kryptondb.images.preprocess import Preprocess
from kryptondb.images.samples import sample_path
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.experiment import ClassChoice, Experiment, Images
from kryptondb.optimizer.workload import Runs

_TRAINS_ONLY = {"aux_logits": False, "init_weights": False}
_AUXILIARY = {"inception_v3": _TRAINS_ONLY, "googlenet": _TRAINS_ONLY}  # and their own initialization takes 30 s
_SIDES = {"inception_v3": 299}
_PHOTOGRAPHS = ("cat", "astronaut", "coffee", "motorcycle", "retina", "rocket")
_TOP_PROBABILITY = 0.1


@dataclass(frozen=True, eq=False)
class Subject:
    """One question, the same for all contenders.

    Attributes:
        module: in eval mode on its device, in torch's default memory format; [N, C, H, W] -> [N, classes] scores.
        model, network: the same module as KryptonDB knows it.
        picture: what is asked about; image: what the network reads of it, [1, C, H, W].
        fill, painted: what the patch is painted with, and the number that this is in `image`.
        target: the class that is explained; base: its probability with nothing occluded.
    """

    module: nn.Module
    model: Model
    network: Network
    picture: Picture
    image: torch.Tensor
    fill: Fill
    painted: float
    grid: Grid
    target: int
    base: float
    device: str

    def experiment(self, runs: Runs | None = None) -> Experiment:
        """What a query of some cells of the grid, or of all of them, asks."""
        grid, (channels, height, width) = self.grid, self.model.input_shape
        return Experiment(
            Images(None),
            *(self.model.name, self.model.fingerprint, channels, height, width, self.model.classes),
            patch=grid.patch,
            stride=grid.stride,
            fill=str(self.fill),
            score="probability",
            classes=ClassChoice("list", indices=(self.target,)),
            edges="cover" if grid.edges == "cover" else "fit",
            runs=runs,
        )


def input_side(name: str) -> int:
    """Height and width of the pictures that an architecture was made for."""
    return _SIDES.get(name, 224)


def named(name: str, size: int | None, patch: int, stride: int, device: str, seed: int) -> Subject:
    """One of `benchmarks.networks`, with the first of its unseen pictures, or else a torchvision architecture.

    Args:
        size: side of an architecture's input, None for its own; a trained network has no other than its own.
        seed: of an architecture's random weights.
    """
    if name in NETWORKS:
        return of_network(NETWORKS[name](), patch, stride, device)
    return prepare(name, size or input_side(name), patch, stride, device, seed)


def of_network(real: RealNetwork, patch: int, stride: int, device: str) -> Subject:
    """A trained network, the first of its unseen pictures, and the class that it takes that for."""
    side = real.side
    preprocess = Preprocess(side, side, mean=(real.mean,) * 3, std=(real.std,) * 3, scale=real.scale)
    picture = from_array(real.unseen[0], "unseen")
    network = trace(real.module, (3, side, side))
    return _asked(real.name, real.module, network, preprocess, real.labels, picture, patch, stride, device)


def prepare(name: str, size: int, patch: int, stride: int, device: str, seed: int) -> Subject:
    """Builds the network, gives it a sane scale, traces it, and asks it once about the photograph.

    The preprocessing has one mean and one standard deviation for all channels: MONAI paints all with one number.
    """
    module, preprocess, picture, image = build(name, size, seed)
    with torch.no_grad():
        classes = module(image).shape[1]
    network = trace(module, (3, size, size))
    labels = tuple(str(index) for index in range(classes))
    return _asked(name, module, network, preprocess, labels, picture, patch, stride, device)


def _asked(
    name: str,
    module: nn.Module,
    network: Network,
    preprocess: Preprocess,
    labels: tuple[str, ...],
    picture: Picture,
    patch: int,
    stride: int,
    device: str,
) -> Subject:
    """The question about the class that the network takes the picture for, with a gray patch."""
    image = preprocess.normalize(preprocess.pixels(picture))[None]
    with torch.no_grad():
        probabilities = torch.softmax(module(image), dim=1)[0]
    parameters = sum(parameter.numel() for parameter in module.parameters())
    model = Model(name, name, lambda: module, preprocess, labels, "", parameters, "benchmark", probabilities.numel())
    target = int(probabilities.argmax())
    height, width = image.shape[2:]
    return Subject(
        module=module.to(device),
        model=model,
        network=network,
        picture=picture,
        image=image.to(device),
        fill=parse_fill("gray"),
        painted=float(preprocess.normalize(torch.full((3, 1, 1), 0.5))[0]),
        grid=Grid(height, width, (patch, patch), (stride, stride)),
        target=target,
        base=float(probabilities[target]),
        device=device,
    )


def build(name: str, size: int, seed: int) -> tuple[nn.Module, Preprocess, Picture, torch.Tensor]:
    """A network with random weights of a sane scale, how it is shown pictures, a photograph, and that [1, 3, H, W]."""
    from torchvision.models import get_model  # after the guard

    torch.manual_seed(seed)
    picture = decode(sample_path("cat"))
    preprocess = Preprocess(height=size, width=size, mean=(0.5,) * 3, std=(0.5,) * 3, crop=True)
    image = preprocess.normalize(preprocess.pixels(picture))[None]
    module = get_model(name, weights=None, **_AUXILIARY.get(name, {})).eval().requires_grad_(False)
    if name in _AUXILIARY:
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)
    _settle_batch_norms(module, preprocess)
    with torch.no_grad():
        scores = module(image)
    _sharpen(module, scores)
    return module, preprocess, picture, image


def _settle_batch_norms(module: nn.Module, preprocess: Preprocess) -> None:
    """One pass with batch norms in training: their statistics become those of some photographs."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [part.momentum for part in norms]
    for part in norms:
        part.train().momentum = None  # a cumulative average: after one pass, that pass
        part.reset_running_stats()
    with torch.no_grad():
        module(torch.stack([preprocess.normalize(preprocess.pixels(decode(sample_path(n)))) for n in _PHOTOGRAPHS]))
    for part, momentum in zip(norms, momenta, strict=True):
        part.eval().momentum = momentum
        # Six photographs spread far less than a training set: dividing by their spread alone would amplify rounding
        # from layer to layer, for all contenders alike. So by the size of what comes.
        assert part.running_mean is not None and part.running_var is not None  # else nothing settles
        part.running_var += part.running_mean**2
        part.running_mean *= 0.5


def _sharpen(module: nn.Module, scores: torch.Tensor) -> None:
    """Scales the last layer until the first class is a hundred times as probable as by chance (0.1 of 1000 classes).

    Random networks are nearly indifferent: every probability is close to 1 / classes whatever is occluded, and any two
    contenders would agree. Much sharper, and rounding alone, amplified, sets even torch's two memory formats apart.
    """
    scores = scores[0].double()
    if float(scores.max() - scores.min()) == 0.0:
        return
    low, high = 1e-6, 1e6
    for _ in range(60):
        middle = (low * high) ** 0.5
        if float(torch.softmax(scores * middle, dim=0).max()) < _TOP_PROBABILITY:
            low = middle
        else:
            high = middle
    last = [part for part in module.modules() if isinstance(part, (nn.Linear, nn.Conv2d))][-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(low)
