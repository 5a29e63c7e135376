"""The pictures that installed packages ship can be named, listed and decoded."""

from __future__ import annotations

import pytest

from kryptondb.errors import ImageError
from kryptondb.images import decode, list_samples, sample_path


def test_the_pictures_the_documentation_names_are_there() -> None:
    names = [sample.name for sample in list_samples()]
    assert {"cat", "coffee", "astronaut", "rocket", "retina", "histology"} <= set(names)
    assert names == sorted(names)


def test_every_sample_that_is_listed_decodes_and_is_as_grey_as_its_description_says() -> None:
    for sample in list_samples():
        picture = decode(sample.path)
        assert (picture.channels == 1) == ("grey" in sample.description), sample
        assert sample.package == "scikit-image"


def test_a_sample_may_be_written_with_its_prefix_and_in_any_case() -> None:
    assert sample_path("cat").name == "chelsea.png"
    assert sample_path("sample:Cat") == sample_path("cat")


def test_an_unknown_sample_names_the_nearest() -> None:
    with pytest.raises(ImageError, match='no sample named "coffe"\nDid you mean "coffee"'):
        sample_path("sample:coffe")
    with pytest.raises(ImageError, match="SHOW SAMPLES"):
        sample_path("xyzzy")
