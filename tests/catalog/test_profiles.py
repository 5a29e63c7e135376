"""Quality profiles in the catalog."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kryptondb.catalog import Catalog, ProfileKey, ProfileStore, RecipeRecord, SampleRecord, store
from kryptondb.errors import CatalogError

SHAPE = {
    "patch": [16, 16],
    "stride": [4, 4],
    "fill": "gray",
    "score": "probability",
    "classes": {"kind": "top", "k": 1, "indices": []},
    "precision": "float32",
}
KEY = ProfileKey("f" * 64, SHAPE, "cpu, 2 threads", "net")


def sample(image: str, *ssims: float, seconds: float = 2.0) -> SampleRecord:
    named = ({"operator": "refined", "step": step} for step in range(len(ssims)))
    recipes = tuple(RecipeRecord(recipe, ssim, 0.5, 0.25) for recipe, ssim in zip(named, ssims, strict=True))
    return SampleRecord(image, f"{image}.png", seconds, "2026-01-01T00:00:00+00:00", recipes)


def test_samples_are_there_after_closing_and_opening_again_in_the_order_of_analysis(tmp_path: Path) -> None:
    with Catalog(tmp_path / "a.krypton") as catalog:
        for name in ("z", "a", "m"):
            ProfileStore(catalog).put(KEY, sample(name, 0.9, 0.8))
    with Catalog(tmp_path / "a.krypton") as catalog:
        profiles = ProfileStore(catalog)
        assert profiles.samples(KEY) == [sample(name, 0.9, 0.8) for name in ("z", "a", "m")]
        assert profiles.samples(KEY, limit=2) == [sample(name, 0.9, 0.8) for name in ("z", "a")]
        assert profiles.known() == [KEY] and profiles.known()[0].model == "net"


def test_an_image_that_is_analyzed_again_keeps_its_place_with_the_new_values() -> None:
    profiles = ProfileStore(Catalog())
    for each in (sample("a", 0.9, 0.8), sample("b", 0.7), sample("a", 0.6, seconds=3.0)):
        profiles.put(KEY, each)
    assert profiles.samples(KEY) == [sample("a", 0.6, seconds=3.0), sample("b", 0.7)]


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, fingerprint="e" * 64),
        replace(KEY, device="cuda"),
        replace(KEY, shape={**SHAPE, "patch": [8, 16]}),
    ],
)
def test_what_differs_in_model_shape_or_device_is_another_profile(other: ProfileKey) -> None:
    profiles = ProfileStore(Catalog())
    profiles.put(KEY, sample("a", 0.9))
    assert profiles.samples(other) == []
    profiles.put(other, sample("a", 0.5))
    assert profiles.samples(KEY) == [sample("a", 0.9)] and profiles.samples(other) == [sample("a", 0.5)]


def test_a_profile_is_found_however_its_shape_is_ordered_and_its_model_is_called() -> None:
    profiles = ProfileStore(Catalog())
    profiles.put(KEY, sample("a", 0.9))
    again = replace(KEY, shape=dict(reversed(list(KEY.shape.items()))), model="other")
    profiles.put(again, sample("b", 0.8))
    assert profiles.samples(KEY) == [sample("a", 0.9), sample("b", 0.8)]
    assert [key.model for key in profiles.known()] == ["other"]


def test_dropping_leaves_nothing_behind() -> None:
    catalog = Catalog()
    profiles = ProfileStore(catalog)
    for name in "ab":
        profiles.put(KEY, sample(name, 0.9, 0.8))
    assert profiles.drop("NET", None) == 2
    assert profiles.drop("net", KEY.fingerprint) is None
    for table in ("profiles", "profiled_images", "profiled_recipes"):
        assert catalog.read(f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_sample_is_put_whole_or_not_at_all() -> None:
    profiles = ProfileStore(Catalog())
    profiles.put(KEY, sample("a", 0.9))
    twice = sample("a", 0.1)
    with pytest.raises(CatalogError):
        profiles.put(KEY, replace(twice, recipes=twice.recipes * 2))
    assert profiles.samples(KEY) == [sample("a", 0.9)]


def test_the_catalog_of_a_version_without_profiles_gets_room_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(store, "SCHEMA_VERSION", 2)
        with Catalog(tmp_path / "old.krypton") as catalog:
            catalog.put_setting("device", "cpu")
    with Catalog(tmp_path / "old.krypton") as catalog:
        profiles = ProfileStore(catalog)
        assert profiles.known() == [] and catalog.setting("device") == "cpu"
        profiles.put(KEY, sample("a", 0.9))


def test_profiles_of_a_version_that_did_not_count_the_cells_that_images_need_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(store, "SCHEMA_VERSION", 3)
        with Catalog(tmp_path / "old.krypton") as catalog, catalog.writing() as connection:
            connection.execute("INSERT INTO profiles VALUES (1, 'net', ?, ?, ?)", KEY.columns)
            connection.execute("INSERT INTO profiled_images VALUES (1, 1, 'a', 'a.png', 2.0, '2026-01-01')")
            connection.execute("""INSERT INTO profiled_recipes VALUES (1, '{"step": 2}', 0.9, 0.5)""")
    with Catalog(tmp_path / "old.krypton") as catalog:
        (found,) = ProfileStore(catalog).samples(KEY)
        assert found.recipes == (RecipeRecord({"step": 2}, 0.9, 0.5, 0.0),)


def test_a_damaged_row_is_a_catalog_error() -> None:
    catalog = Catalog()
    ProfileStore(catalog).put(KEY, sample("a", 0.9))
    with catalog.writing() as connection:
        connection.execute("UPDATE profiled_recipes SET recipe = '['")
    with pytest.raises(CatalogError):
        ProfileStore(catalog).samples(KEY)
