"""A profile as the planner reads it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from kryptondb.optimizer.experiment import ClassChoice, Experiment, Images
from kryptondb.optimizer.promise import Profile
from kryptondb.optimizer.recipe import Recipe

COARSE, DOUBTED = Recipe("drill-down", step=3), Recipe("drill-down", step=3, where="uncertain", doubt=0.2)
IMAGES = 20


def profile(seconds: np.ndarray, further: np.ndarray) -> Profile:
    """Of 20 images, with an SSIM of 0.92 by the coarse lattice and 0.98 with the cells that are in doubt."""
    return Profile((COARSE, DOUBTED), np.tile([0.92, 0.98], (IMAGES, 1)), seconds, np.ones(IMAGES), further)


def test_where_doubt_decides_how_many_cells_are_computed_plans_expect_their_mean_share() -> None:
    shares = np.zeros((IMAGES, 2))
    shares[:, 1] = np.linspace(0.0, 0.2, IMAGES)
    found = profile(np.tile([0.1, 0.2], (IMAGES, 1)), shares)
    assert found.planned(0) == COARSE
    expected = found.planned(1)
    assert expected.doubt == 0.2 and expected.fraction == pytest.approx(0.1)


def test_images_that_certify_have_no_say_in_the_order_of_the_path() -> None:
    """How many cells an image needs tells how hard it is: of those that certify, nothing of that may be known."""
    seconds = np.tile([0.2, 0.1], (IMAGES, 1))  # the lattice alone seems dearer than with more cells
    seconds[1:] = [0.1, 0.2]
    found = profile(seconds, np.zeros((IMAGES, 2))).admit(0.9, 0.9)
    assert found.path == (1,) and found.images == 19
    seconds[:] = [0.1, 0.2]
    assert profile(seconds, np.zeros((IMAGES, 2))).admit(0.9, 0.9).path == (1, 0)


def test_profiles_that_earlier_versions_measured_are_filed_under_the_same_keys() -> None:
    plain = Experiment(
        Images("a.png"), "net", "f00d", 3, 64, 48, 4, (8, 16), (4, 2), "gray", "probability", ClassChoice("top", k=1)
    )
    assert json.dumps(plain.shape_key(), sort_keys=True) == (
        '{"classes": {"indices": [], "k": 1, "kind": "top"}, "fill": "gray", "patch": [8, 16],'
        ' "precision": "float32", "score": "probability", "stride": [4, 2]}'
    )
    other = replace(
        plain,
        images=Images("a.dcm", window=(40.0, 400.0)),
        edges="cover",
        precision="float64",
        classes=ClassChoice("list", indices=(2, 0)),
        runs=((0, 0, 1),),
    )
    assert json.dumps(other.shape_key(), sort_keys=True) == (
        '{"classes": {"indices": [2, 0], "k": 0, "kind": "list"}, "edges": "cover", "fill": "gray", "patch": [8, 16],'
        ' "precision": "float64", "score": "probability", "stride": [4, 2], "window": [40.0, 400.0]}'
    )
