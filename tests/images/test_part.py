"""What stands behind a `#`: which picture of a file, or a part of its name."""

from __future__ import annotations

import pytest

from kryptondb.errors import ImageError
from kryptondb.images.content import WHOLE, Part, split_fragment


@pytest.mark.parametrize(
    ("text", "path", "fragment"),
    [
        ("a.dcm#frame=3", "a.dcm", "frame=3"),
        ("a#1.dcm#frame=3", "a#1.dcm", "frame=3"),
        ("v.nii.gz#slice=60&axis=coronal", "v.nii.gz", "slice=60&axis=coronal"),
        ("t.parquet#column=my%20image", "t.parquet", "column=my%20image"),
        ("a#1.png", "a#1.png", ""),
        ("a.png#", "a.png#", ""),
        ("a.png", "a.png", ""),
        ("#frame=1", "#frame=1", ""),
        ("https://host/a.png?x=1#page=2", "https://host/a.png?x=1", "page=2"),
    ],
)
def test_a_path_is_split_at_its_last_sign_where_a_name_and_a_value_follow(text: str, path: str, fragment: str) -> None:
    assert split_fragment(text) == (path, fragment)


@pytest.mark.parametrize("text", ["frame=3", "page=1", "slice=0&axis=sagittal&volume=7", "slice=60"])
def test_a_part_prints_as_it_is_written(text: str) -> None:
    assert str(Part.parse(text, "a")) == text
    assert Part.parse(text, "a").given()
    assert not WHOLE.given()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fram=3", 'no part named "fram"\nDid you mean "frame"'),
        ("xyzzy=3", 'no part named "xyzzy"\nThe parts are frame, page, slice, axis, volume'),
        ("frame=0", "frame must be a whole number from 1 to 1,000,000,000, not 0"),
        ("slice=-1", "slice must be a whole number from 0"),
        ("slice=1e3", "slice must be a whole number"),
        ("slice=99999999999", "slice must be a whole number"),
        ("axis=oblique", "axis must be one of 'axial', 'coronal', 'sagittal', not 'oblique'"),
        ("frame=1&frame=2", "frame is given twice"),
    ],
)
def test_a_part_that_means_nothing_says_what_does(text: str, message: str) -> None:
    with pytest.raises(ImageError, match=f"^a.dcm: {message}"):
        Part.parse(text, "a.dcm")
