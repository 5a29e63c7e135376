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


@dataclass(frozen=True)
class _Package:
    """Where a package keeps its pictures: a module to find it by, a folder below that, name -> (file, description)."""

    package: str
    module: str
    folder: str
    pictures: dict[str, tuple[str, str]]


# Every picture that scikit-image's wheel carries.
_SCIKIT_IMAGE = {
    "astronaut": ("astronaut.png", "Eileen Collins in a spacesuit"),
    "brick": ("brick.png", "a brick wall, gray texture"),
    "camera": ("camera.png", "a photographer, gray"),
    "cat": ("chelsea.png", "Chelsea the tabby cat"),
    "cell": ("cell.png", "a cell under the microscope, gray"),
    "clock": ("clock_motion.png", "a clock face, blurred by motion, gray"),
    "coffee": ("coffee.png", "a cup of espresso"),
    "coins": ("coins.png", "Greek coins from Pompeii, gray"),
    "grass": ("grass.png", "grass, gray texture"),
    "gravel": ("gravel.png", "gravel, gray texture"),
    "histology": ("ihc.png", "colon tissue, immunohistochemical staining"),
    "horse": ("horse.png", "the silhouette of a horse"),
    "hubble": ("hubble_deep_field.jpg", "galaxies, the Hubble extreme deep field"),
    "microaneurysms": ("microaneurysms.png", "a detail of a retina with microaneurysms, gray"),
    "moon": ("moon.png", "the surface of the moon, gray"),
    "motorcycle": ("motorcycle_left.png", "a motorcycle in a garage"),
    "page": ("page.png", "a scanned page of text, gray"),
    "phantom": ("phantom.png", "the Shepp-Logan head phantom"),
    "retina": ("retina.jpg", "the fundus of an eye"),
    "rocket": ("rocket.jpg", "a rocket on the launch pad"),
    "text": ("text.png", "handwriting, gray"),
}


_PACKAGES = (
    _Package("scikit-image", "skimage", "data", _SCIKIT_IMAGE),
    _Package(
        "pydicom-data",
        "data_store",
        "data",
        {
            "chest": ("RG1_UNCI.dcm", "a chest radiograph, gray, DICOM"),
            "leg": ("RG3_UNCI.dcm", "a radiograph of a lower leg, gray, DICOM"),
            "shoulder": ("MR2_UNCI.dcm", "magnetic resonance of a shoulder, gray, DICOM"),
        },
    ),
    _Package(
        "nilearn",
        "nilearn",
        "datasets/data",
        {
            "brain": (
                "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
                "magnetic resonance of an average brain, gray, a volume: sample:brain#slice=60",
            )
        },
    ),
)


def list_samples() -> list[Sample]:
    """Every sample whose file is installed, sorted by name."""
    found = (
        Sample(name, description, collection.package, folder / file)
        for collection in _PACKAGES
        for folder in _folders(collection)
        for name, (file, description) in collection.pictures.items()
    )
    return sorted((sample for sample in found if sample.path.is_file()), key=lambda sample: sample.name)


def _folders(package: _Package) -> list[Path]:
    """Where its files are, if it is installed. It is found without being imported."""
    spec = importlib.util.find_spec(package.module)
    return [Path(folder) / package.folder for folder in (spec.submodule_search_locations or [])] if spec else []


def sample_path(name: str) -> Path:
    """The file of a sample, with or without the `sample:` prefix, in any case. ImageError names the nearest."""
    wanted = name.removeprefix(PREFIX).strip().lower()
    samples = {sample.name: sample.path for sample in list_samples()}
    if wanted in samples:
        return samples[wanted]
    for collection in _PACKAGES:
        if wanted in collection.pictures:
            raise ImageError(
                f'the sample "{wanted}" is not installed', hint=f"The package {collection.package} ships it."
            )
    near = did_you_mean(wanted, samples)
    raise ImageError(
        f'no sample named "{wanted}"', hint=" ".join(filter(None, (near, "SHOW SAMPLES lists the pictures.")))
    )
