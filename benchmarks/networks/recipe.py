"""How a network is trained, as plain data, and the checkpoint that this recipe makes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"


@dataclass(frozen=True)
class Phase:
    """Some steps at one size of the pictures."""

    side: int
    steps: int


@dataclass(frozen=True)
class Recipe:
    """Everything that a checkpoint depends on, apart from libraries and machine.

    Attributes:
        name: of the network.
        architecture: torchvision's name for it.
        phases: one after the other under one learning rate schedule; the last has the network's own size.
        rate: the highest learning rate.
        smoothing: of the labels.
        settling: pictures of the last size that the batch norms take their final statistics from.
        judged: held-out pictures; floor: the share of them that has to be classified rightly; chance is 0.1.
        scenes: the edition of the pictures, raised whenever `digits` draws or renders them in another way.
        seed: of first weights and scenes.
    """

    name: str
    architecture: str
    phases: tuple[Phase, ...]
    rate: float
    batch: int = 32
    decay: float = 0.01
    smoothing: float = 0.1
    settling: int = 256
    judged: int = 400
    floor: float = 0.6
    scenes: int = 2
    seed: int = 0

    @property
    def side(self) -> int:
        """Height and width of the network's input."""
        return self.phases[-1].side

    def checkpoint(self, folder: Path = CHECKPOINTS) -> Path:
        """The file of this recipe: another recipe has another name, so that no stale checkpoint is taken for it."""
        settings = json.dumps(asdict(self), sort_keys=True)
        return folder / f"{self.name}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}.safetensors"
