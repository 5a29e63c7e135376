"""Pictures that installed packages ship, for `'sample:NAME'` and SHOW SAMPLES: nothing is downloaded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from kryptondb.errors import ImageError, did_you_mean

PREFIX = "sample:"


@dataclass(frozen=True)
class Sample:
    """A picture that is there: `'sample:' + name` reads `path`, a file of the installed `package`."""

    name: str
    description: str
    package: str
    path: Path


# name -> (file, description) under skimage/data, for every picture that scikit-image's wheel carries.
_SCIKIT_IMAGE = {
    "astronaut": ("astronaut.png", "Eileen Collins in a spacesuit"),
    "brick": ("brick.png", "a brick wall, grey texture"),
    "camera": ("camera.png", "a photographer, grey"),
    "cat": ("chelsea.png", "Chelsea the tabby cat"),
    "cell": ("cell.png", "a cell under the microscope, grey"),
    "clock": ("clock_motion.png", "a clock face, blurred by motion, grey"),
    "coffee": ("coffee.png", "a cup of espresso"),
    "coins": ("coins.png", "Greek coins from Pompeii, grey"),
    "grass": ("grass.png", "grass, grey texture"),
    "gravel": ("gravel.png", "gravel, grey texture"),
    "histology": ("ihc.png", "colon tissue, immunohistochemical staining"),
    "horse": ("horse.png", "the silhouette of a horse"),
    "hubble": ("hubble_deep_field.jpg", "galaxies, the Hubble extreme deep field"),
    "microaneurysms": ("microaneurysms.png", "a detail of a retina with microaneurysms, grey"),
    "moon": ("moon.png", "the surface of the moon, grey"),
    "motorcycle": ("motorcycle_left.png", "a motorcycle in a garage"),
    "page": ("page.png", "a scanned page of text, grey"),
    "phantom": ("phantom.png", "the Shepp-Logan head phantom"),
    "retina": ("retina.jpg", "the fundus of an eye"),
    "rocket": ("rocket.jpg", "a rocket on the launch pad"),
    "text": ("text.png", "handwriting, grey"),
}


def list_samples() -> list[Sample]:
    """Every sample whose file is installed, sorted by name."""
    spec = importlib.util.find_spec("skimage")  # finds the package without importing it
    folders = [Path(folder) / "data" for folder in (spec.submodule_search_locations or [])] if spec else []
    found = (
        Sample(name, description, "scikit-image", folder / file)
        for name, (file, description) in sorted(_SCIKIT_IMAGE.items())
        for folder in folders
    )
    return [sample for sample in found if sample.path.is_file()]


def sample_path(name: str) -> Path:
    """The file of a sample, with or without the `sample:` prefix, in any case. ImageError names the nearest."""
    wanted = name.removeprefix(PREFIX).strip().lower()
    samples = {sample.name: sample.path for sample in list_samples()}
    if wanted in samples:
        return samples[wanted]
    if not samples:
        raise ImageError(f'no sample named "{wanted}"', hint="Install scikit-image, which ships the sample pictures.")
    near = did_you_mean(wanted, samples)
    raise ImageError(
        f'no sample named "{wanted}"', hint=" ".join(filter(None, (near, "SHOW SAMPLES lists the pictures there are.")))
    )
