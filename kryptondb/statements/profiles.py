"""The quality profiles of a database: read for the planner, listed by SHOW PROFILES, deleted by DROP PROFILES."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kryptondb.catalog import ProfileKey, ProfileStore, RecipeRecord, SampleRecord
from kryptondb.catalog.profiles import MOST_SAMPLES
from kryptondb.errors import BindError, CatalogError, ModelError
from kryptondb.optimizer import recipe as recipe_module
from kryptondb.optimizer.experiment import ClassChoice, Experiment
from kryptondb.optimizer.promise import Profile
from kryptondb.optimizer.recipe import Recipe
from kryptondb.options.words import DEFAULT_CONFIDENCE
from kryptondb.result import Result
from kryptondb.show.values import table_of
from kryptondb.statements.calibration import device_key, machine_suffix
from kryptondb.text.units import counted

if TYPE_CHECKING:
    from kryptondb.executor.profiling import Sample
    from kryptondb.grammar.statements import DropProfiles
    from kryptondb.statements.database import Database

#: SHOW PROFILES has a column for each of these targets of SSIM, at the default confidence.
TARGETS = (0.8, 0.9, 0.95)


class Profiles(ProfileStore):
    """The quality profiles in a catalog, as the planner reads them and SHOW PROFILES lists them."""

    def of_experiment(self, experiment: Experiment, device: str) -> Profile | None:
        """The profile of an experiment on a torch device; None where there is none."""
        return self.find(key_of(experiment, device))

    def find(self, key: ProfileKey) -> Profile | None:
        """A profile, with the recipes that were measured on all of its images; None where there is none."""
        return profile_of(self.samples(key))

    def remember(self, key: ProfileKey, sample: SampleRecord) -> None:
        """Adds an image to a profile that is not full yet; recipes that the image was measured with before are kept."""
        known = {known.image: known for known in self.samples(key)}
        older = known.get(sample.image)
        if older is not None:
            measured = measured_of(sample)
            others = tuple(record for recipe, record in measured_of(older).items() if recipe not in measured)
            sample = replace(sample, recipes=sample.recipes + others)
        if older is not None or len(known) < MOST_SAMPLES:
            self.put(key, sample)

    def table(self) -> pa.Table:
        """SHOW PROFILES: one row per model, shape of query and device."""
        rows = [_row(key, profile) for key in self.known() if (profile := self.find(key)) is not None]
        names = ("model", "patch", "stride", "fill", "class", "score", "device", "images", "recipes", "exact_seconds")
        kinds = {"images": pa.int64(), "recipes": pa.int64(), "exact_seconds": pa.float64()}
        return table_of((*names, *(f"ssim_{target:g}" for target in TARGETS)), rows, kinds)


def drop_profiles(database: Database, statement: DropProfiles, _: Mapping[str, object]) -> Result:
    """DROP PROFILES: also of a model that was dropped, or whose file or row is damaged."""
    missing: BindError | None = None
    fingerprint = None
    try:
        fingerprint = database.models.get(statement.model).fingerprint
    except BindError as error:
        error.position = error.position or statement.position
        missing = error
    except (ModelError, CatalogError):
        pass
    images = database.profiles.drop(statement.model, fingerprint)
    if images is None and missing is not None:
        raise missing
    forgotten = "no profile" if images is None else f"{counted(images, 'profiled image')} forgotten"
    return Result(message=f"{statement.model}: {forgotten}")


def key_of(experiment: Experiment, device: str) -> ProfileKey:
    """The key of an experiment's profile on a torch device."""
    return ProfileKey(experiment.fingerprint, experiment.shape_key(), device_key(device), experiment.model)


def profile_of(samples: Iterable[SampleRecord]) -> Profile | None:
    """Samples as arrays, of the recipes that were measured on all of them; None where there are none.

    A sample whose recipes are all from other versions is ignored.
    """
    found = [(sample, measured_of(sample)) for sample in samples]
    of_this_version = [(sample, measured) for sample, measured in found if measured or not sample.recipes]
    if not of_this_version:
        return None
    samples, measured = zip(*of_this_version, strict=True)
    recipes = tuple(recipe for recipe in measured[0] if all(recipe in others for others in measured))
    return Profile.of(recipes, measured, [sample.seconds for sample in samples])


def measured_of(sample: SampleRecord) -> dict[Recipe, RecipeRecord]:
    """The recipes of a sample that this version knows."""
    return {recipe: record for record in sample.recipes if (recipe := recipe_of(record)) is not None}


def sample_of(image: str, name: str, sample: Sample) -> SampleRecord:
    """What the catalog keeps of an image that was measured just now.

    Args:
        image: the hash of its pixels.
        name: what it is called.
    """
    version = {"reconstruction": recipe_module.RECONSTRUCTION}
    recipes = tuple(
        RecipeRecord(asdict(measured.recipe) | version, measured.ssim, measured.seconds, measured.further)
        for measured in sample.recipes
    )
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return SampleRecord(image, name, sample.seconds, now, recipes)


def recipe_of(record: RecipeRecord) -> Recipe | None:
    """The recipe of a record; None where another version wrote it, in which the recipe means something else."""
    values = dict(record.recipe)
    if values.pop("reconstruction", None) != recipe_module.RECONSTRUCTION:
        return None
    try:
        recipe = Recipe(**values)
        hash(recipe)
    except TypeError:
        return None
    return recipe


def _row(key: ProfileKey, profile: Profile) -> tuple[Any, ...]:
    shape: Mapping[str, Any] = key.shape
    chosen = shape["classes"]
    sizes = [" x ".join(map(str, shape[name])) for name in ("patch", "stride")]
    if "edges" in shape:
        sizes[1] += f", edges {shape['edges']}"
    if "window" in shape:
        sizes[1] += ", window {:g}, {:g}".format(*shape["window"])
    exact = float(np.median(profile.exact_seconds))
    return (
        key.model,
        *sizes,
        shape["fill"],
        str(ClassChoice(chosen["kind"], chosen["k"], tuple(chosen["indices"]))),
        shape["score"],
        key.device.removesuffix(machine_suffix()),
        profile.images,
        len(profile.recipes),
        exact,
        *(_admitted(profile, target, exact) for target in TARGETS),
    )


def _admitted(profile: Profile, target: float, exact: float) -> str:
    """The recipe that runs for a target and its speed relative to the exact map, or why there is none."""
    admission = profile.admit(target, DEFAULT_CONFIDENCE)
    if profile.images < admission.needed:
        return f"needs {admission.needed} images"
    if admission.recipe is None:
        return "exact"
    seconds = float(np.median(profile.seconds[:, admission.recipe]))
    return f"{exact / seconds:.1f} x: {profile.recipes[admission.recipe]}"
