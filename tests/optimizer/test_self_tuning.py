"""Batches that tune themselves: how many images are drawn, and from how many on it is worth it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from kryptondb.optimizer.promise import choosing_images, samples_for_certainty
from kryptondb.optimizer.self_tuning import SelfTuning

BATCH = SelfTuning(0.9, 0.9, needed=10, map_bytes=1000, exact_seconds=10.0, guide_seconds=30.0, later_seconds=4.0)

batches = st.builds(
    SelfTuning,
    ssim=st.just(0.9),
    confidence=st.just(0.9),
    needed=st.integers(2, 40),
    map_bytes=st.integers(8, 1 << 24),
    exact_seconds=st.floats(0.01, 1e4),
    guide_seconds=st.floats(0.01, 1e5),
    later_seconds=st.floats(0.001, 1e4),
)


def test_a_batch_is_worth_it_from_where_the_others_save_what_measuring_costs() -> None:
    # 10 images cost 30 * 11 / 2 = 165 s more, and each of the others saves 6 s: 28 of them.
    assert BATCH.worth_from == 38
    assert BATCH.sample_size(37) == 0 and BATCH.sample_size(38) == 10
    assert BATCH.seconds(37) == 370.0 and BATCH.seconds(38) == 100 + 165 + 28 * 4.0 < 380


def test_large_batches_draw_as_many_images_as_make_sure_that_the_sample_was_no_lucky_one() -> None:
    assert [BATCH.sample_size(images) for images in (299, 300, 499, 500, 100_000)] == [10, 30, 30, 50, 50]
    # 29 certify then, of which none may fail, or 49, of which one may: by chance alone in less than one case of 20
    assert 0.9**29 < 0.05 and 0.9**49 + 49 * 0.1 * 0.9**48 < 0.05


def test_they_draw_fewer_where_measuring_so_many_would_take_more_than_it_saves() -> None:
    # 30 images cost 70 * 31 / 2 = 1,085 s, and the 270 others save 810 s; 10 cost 385 s, and 290 others save 870 s
    dear = replace(BATCH, guide_seconds=70.0, later_seconds=7.0)
    assert [dear.sample_size(images) for images in (300, 400, 900, 1000)] == [10, 30, 50, 50]


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("failing", [0, 1])
def test_the_images_for_certainty_are_the_fewest(confidence: float, failing: int) -> None:
    count = samples_for_certainty(confidence, failing, 10_000)
    assert count is not None and _luck(count, confidence, failing) <= 0.05 < _luck(count - 10, confidence, failing)
    assert samples_for_certainty(confidence, failing, count - 1) is None


def _luck(images: int, confidence: float, failing: int) -> float:
    """How probable it is that at most so many of the certifying images fail what just that share of all does."""
    certifying = images - choosing_images(images)
    return float(binom.cdf(failing, certifying, 1 - confidence))


@given(batches, st.integers(0, 100_000))
def test_nothing_is_drawn_that_does_not_pay_and_no_more_than_the_batch_has(tuning: SelfTuning, images: int) -> None:
    count = tuning.sample_size(images)
    assert count in (0, tuning.needed, 30, 50) and count <= images
    assert tuning.seconds(images) <= images * tuning.exact_seconds * (1 + 1e-9)
    assert count * tuning.map_bytes <= 64 * 1024**2


@pytest.mark.parametrize("hopeless", [{"later_seconds": 10.0}, {"map_bytes": 1 << 30}])
def test_a_batch_that_gains_nothing_or_would_hold_too_much_never_tunes_itself(hopeless: dict[str, float]) -> None:
    tuning = replace(BATCH, **hopeless)  # type: ignore[arg-type]
    assert tuning.worth_from is None and tuning.sample_size(1_000_000) == 0
    assert tuning.against(1_000_000) == "tuning itself is not estimated to make it faster"


def test_readers_are_told_how_many_images_run_exactly_and_what_it_saves() -> None:
    told = replace(BATCH, images=100).outlook()
    assert told.startswith(
        "10 of the 100 images, a sample chosen by hashing file names, run exactly first and are measured"
    )
    assert "SSIM >= 0.9" in told and told.endswith("about 10 min instead of 17 min")
    assert BATCH.outlook() == "a batch of 38 images or more tunes itself: 10 of them run exactly first"
