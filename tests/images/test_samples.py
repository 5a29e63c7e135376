"""The pictures that installed packages ship can be named, listed and decoded."""

from __future__ import annotations

import pytest

from kryptondb.errors import ImageError
from kryptondb.images import decode, list_samples, sample_path, samples
from kryptondb.images.content import WHOLE, Part


def test_the_pictures_the_documentation_names_are_there() -> None:
    names = [sample.name for sample in list_samples()]
    assert {"cat", "coffee", "astronaut", "rocket", "retina", "histology"} <= set(names)
    assert names == sorted(names)


def test_every_sample_that_is_listed_decodes_and_is_as_gray_as_its_description_says() -> None:
    for sample in list_samples():
        part = Part(slice=60) if "a volume" in sample.description else WHOLE
        picture = decode(sample.path, part)
        assert (picture.channels == 1) == ("gray" in sample.description), sample
        assert sample.package in ("scikit-image", "pydicom-data", "nilearn")


def test_a_sample_of_a_package_that_is_missing_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match='"chest" is not installed\nThe package pydicom-data ships it'):
        sample_path("sample:chest")


def test_a_sample_may_be_written_with_its_prefix_and_in_any_case() -> None:
    assert sample_path("cat").name == "chelsea.png"
    assert sample_path("sample:Cat") == sample_path("cat")


def test_an_unknown_sample_names_the_nearest() -> None:
    with pytest.raises(ImageError, match='no sample named "coffe"\nDid you mean "coffee"'):
        sample_path("sample:coffe")
    with pytest.raises(ImageError, match="SHOW SAMPLES"):
        sample_path("xyzzy")
