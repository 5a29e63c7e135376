"""Quality profiles in the catalog: how near each recipe came to the exact map, and how long it took, image by image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kryptondb.catalog import rows
from kryptondb.catalog.store import Catalog
from kryptondb.files.schema import Unfit

#: Samples of one profile that are read: more say nothing new of a promise.
MOST_SAMPLES = 1_000
#: Recipes of one sample that are read.
_MOST_RECIPES = 1_000


@dataclass(frozen=True)
class ProfileKey:
    """What samples must have in common to be of one profile.

    Attributes:
        fingerprint: the model's.
        shape: the query's, as JSON values: patch, stride, fill, score, classes, precision.
        device: what the seconds were measured on; the key is the caller's.
        model: the model's name when it was analyzed. Two keys that differ in it alone are equal.
    """

    fingerprint: str
    shape: Mapping[str, Any] = field(hash=False)
    device: str
    model: str = field(default="", compare=False)

    @property
    def columns(self) -> tuple[str, str, str]:
        """What the row is found by."""
        return self.fingerprint, json.dumps(self.shape, sort_keys=True), self.device


@dataclass(frozen=True)
class RecipeRecord:
    """One recipe on one image.

    Attributes:
        recipe: as JSON values.
        ssim: that it reached.
        seconds: that it takes.
        further: the share of all cells that it computed because of what the first ones looked like.
    """

    recipe: Mapping[str, Any] = field(hash=False)
    ssim: float
    seconds: float
    further: float = 0.0


@dataclass(frozen=True)
class SampleRecord:
    """One image of a profile.

    Attributes:
        image: a hash of its pixels.
        name: what it was called when it was analyzed.
        seconds: of the exact map.
        measured: ISO 8601, UTC.
    """

    image: str
    name: str
    seconds: float
    measured: str
    recipes: tuple[RecipeRecord, ...]


class ProfileStore:
    """The profiles in a catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def put(self, key: ProfileKey, sample: SampleRecord) -> None:
        """Remembers an image's sample instead of an older one of the same image; that keeps its place in the order."""
        with self._catalog.writing() as connection:
            connection.execute(
                "INSERT INTO profiles (fingerprint, shape, device, model) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (fingerprint, shape, device) DO UPDATE SET model = excluded.model",
                (*key.columns, key.model),
            )
            found = "SELECT id FROM profiles WHERE fingerprint = ? AND shape = ? AND device = ?"
            (profile,) = connection.execute(found, key.columns).fetchone()
            connection.execute(
                "INSERT INTO profiled_images (profile, image, name, seconds, measured) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (profile, image) DO UPDATE SET name = excluded.name, seconds = excluded.seconds,"
                " measured = excluded.measured",
                (profile, sample.image, sample.name, sample.seconds, sample.measured),
            )
            found = "SELECT id FROM profiled_images WHERE profile = ? AND image = ?"
            (image,) = connection.execute(found, (profile, sample.image)).fetchone()
            connection.execute("DELETE FROM profiled_recipes WHERE image = ?", (image,))
            connection.executemany(
                "INSERT INTO profiled_recipes (image, recipe, ssim, seconds, further) VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        image,
                        json.dumps(measured.recipe, sort_keys=True),
                        measured.ssim,
                        measured.seconds,
                        measured.further,
                    )
                    for measured in sample.recipes
                ],
            )

    def samples(self, key: ProfileKey, limit: int = MOST_SAMPLES) -> list[SampleRecord]:
        """The samples of a profile in the order in which they were first analyzed, the first `limit` of them."""
        chosen = (
            "SELECT profiled_images.id AS number, image, name, seconds, measured FROM profiled_images"
            " JOIN profiles ON profiles.id = profile WHERE fingerprint = ? AND shape = ? AND device = ?"
            " ORDER BY profiled_images.id LIMIT ?"
        )
        images = self._catalog.rows(rows.PROFILED_IMAGES, chosen, (*key.columns, limit))
        measured = self._catalog.rows(
            rows.PROFILED_RECIPES,
            "SELECT number, recipe, ssim, profiled_recipes.seconds AS seconds, further"
            f" FROM ({chosen}) AS chosen JOIN profiled_recipes ON profiled_recipes.image = number"
            " ORDER BY number, recipe LIMIT ?",
            (*key.columns, limit, limit * _MOST_RECIPES),
        )
        recipes: dict[int, list[RecipeRecord]] = {number: [] for number, *_ in images}
        for number, *recipe in measured:
            if number in recipes and len(recipes[number]) < _MOST_RECIPES:
                recipes[number].append(RecipeRecord(*recipe))
        return [
            SampleRecord(image, name, seconds, when, tuple(recipes[number]))
            for number, image, name, seconds, when in images
        ]

    def known(self) -> list[ProfileKey]:
        """The profiles there are, by the model's name and in the order in which they were begun."""
        sql = "SELECT fingerprint, shape, device, model FROM profiles ORDER BY model, id"
        return [ProfileKey(*row) for row in self._catalog.rows(rows.PROFILES, sql)]

    def drop(self, model: str, fingerprint: str | None) -> int | None:
        """Forgets the profiles of a model, those those of an earlier one of that name and damaged ones included.

        Args:
            fingerprint: the model's; None where there is no such model now.

        Returns:
            how many images they had, None where there was no profile.
        """
        named = model.casefold()
        chosen = []
        for number, found, *row in self._catalog.read("SELECT id, fingerprint, shape, device, model FROM profiles"):
            try:
                rows.PROFILES.checked(("fingerprint", "shape", "device", "model"), (found, *row))
                wanted = fingerprint == found or named == row[-1].casefold()
            except Unfit:
                wanted = True
            if wanted:
                chosen.append((number,))
        images = "SELECT id FROM profiled_images WHERE profile = ?"
        with self._catalog.writing() as connection:
            held = [connection.execute(f"SELECT count(*) FROM ({images})", number).fetchone()[0] for number in chosen]
            connection.executemany(f"DELETE FROM profiled_recipes WHERE image IN ({images})", chosen)
            connection.executemany("DELETE FROM profiled_images WHERE profile = ?", chosen)
            connection.executemany("DELETE FROM profiles WHERE id = ?", chosen)
        return sum(held) if chosen else None
