"""Promises hold for images that nobody has seen, although the recipe was chosen on the samples that certify it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from kryptondb.optimizer.promise import admit, choosing_images, lower_bound, safest_path, samples_needed

TARGET = 0.9
NEXT = 60  # images that were not sampled, by which each choice is judged

Choice = Callable[[np.ndarray, np.ndarray], "int | None"]


def worlds(
    images: int, seeds: int, together: float = 0.5, unseen: int = NEXT
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Samples, costs and images never seen: a dear recipe that always keeps the target, 40 cheap ones that keep it for
    about 85 of 100 images, and images that are hard or easy for all of them, `together`, or for some alone.
    """
    random = np.random.default_rng(images)
    costs = np.linspace(1.0, 0.1, 41)
    for _ in range(seeds):
        hard = random.normal(0.0, together, (images + unseen, 1))
        noise = random.normal(0.0, (0.5 - together**2) ** 0.5, (images + unseen, 41))
        gaps = np.log(1 - TARGET) - 0.73 + hard + noise
        gaps[:, 0] -= 10.0
        similarities = 1.0 - np.exp(gaps)
        yield similarities[:images], costs, similarities[images:]


def coverage(choose: Choice, images: int, seeds: int, together: float = 0.5) -> float:
    """The share of images never seen that keep the target with what is chosen; with none chosen, all do."""
    kept = []
    for samples, costs, unseen in worlds(images, seeds, together):
        recipe = choose(samples, costs)
        kept.append(1.0 if recipe is None else float((unseen[:, recipe] >= TARGET).mean()))
    return float(np.mean(kept))


def cheapest_that_passes_alone(samples: np.ndarray, costs: np.ndarray) -> int | None:
    """What one is tempted to do: each recipe by its own bound, and the cheapest of those that pass."""
    passing = [column for column in range(len(costs)) if (lower_bound(samples[:, column], 0.9) or 0.0) >= TARGET]
    return min(passing, key=lambda column: costs[column], default=None)


@pytest.mark.parametrize("images", [10, 20, 29, 50, 100])  # of the last two, some that certify may fail
@pytest.mark.parametrize("confidence", [0.8, 0.9])
def test_the_next_image_keeps_the_target_as_often_as_promised(images: int, confidence: float) -> None:
    assert coverage(lambda *world: admit(*world, TARGET, confidence).recipe, images, 3000) >= confidence


@pytest.mark.parametrize("images", [30, 50, 100])
def test_in_19_of_20_draws_as_many_of_all_images_keep_the_target_with_what_is_chosen(images: int) -> None:
    unlucky = []
    for samples, costs, unseen in worlds(images, 800, 0.7, unseen=2000):
        recipe = admit(samples, costs, 0.8853, 0.9).recipe  # which the cheap ones keep for 89 of 100
        unlucky.append(recipe is not None and float((unseen[:, recipe] >= 0.8853).mean()) < 0.9)
    assert 0 < np.mean(unlucky) <= 0.05


def test_the_cheapest_that_passes_alone_breaks_the_promise() -> None:
    assert coverage(cheapest_that_passes_alone, 20, 3000, together=0.1) < 0.89
    assert coverage(lambda *world: admit(*world, TARGET, 0.9).recipe, 20, 3000, together=0.1) > 0.9


def test_some_of_the_speed_is_had_in_spite_of_the_care() -> None:
    chosen = [admit(samples, costs, TARGET - 0.2, 0.9).recipe for samples, costs, _ in worlds(60, 50)]
    assert np.mean([recipe is not None and recipe > 0 for recipe in chosen]) > 0.9


@pytest.mark.parametrize("images", [9, 10, 20, 50])
def test_one_recipe_keeps_its_bound_as_often_as_promised(images: int) -> None:
    drawn = np.random.default_rng(0).beta(8, 1, (20_000, images + 1))
    rank = {9: 1, 10: 1, 20: 1, 50: 2}[images]
    bounds = np.sort(drawn[:, :-1], axis=1)[:, rank - 1]
    assert lower_bound(drawn[0, :-1], 0.9) == bounds[0]
    assert (drawn[:, -1] >= bounds).mean() >= 0.9 - 0.01
    assert lower_bound(drawn[0, :8], 0.9) is None


@pytest.mark.parametrize(("images", "confidence"), [(29, 0.9), (46, 0.9), (99, 0.9), (59, 0.95), (19, 0.8)])
def test_in_19_of_20_draws_as_many_of_all_images_keep_a_bound_as_promised(images: int, confidence: float) -> None:
    drawn = np.sort(np.random.default_rng(images).random((4000, images)), axis=1)
    bound = lower_bound(drawn[0], confidence)
    rank = int(np.flatnonzero(drawn[0] == bound)[0])
    assert (1.0 - drawn[:, rank] >= confidence).mean() >= 0.95 - 0.01
    assert (1.0 - drawn[:, rank + 1] >= confidence).mean() < 0.95, "the bound is lower than it has to be"


def test_of_very_many_samples_the_bound_is_no_higher_than_luck_allows() -> None:
    samples = np.arange(20_000) / 20_000
    below = lower_bound(samples, 0.9)
    assert below is not None and 0.903 < 1.0 - below < 0.904  # of 2,000 that may be below, luck takes some 70


def test_a_higher_target_or_confidence_never_admits_a_cheaper_recipe() -> None:
    for samples, costs, _ in worlds(30, 40):
        by_target = [_cost(samples, costs, target, 0.9) for target in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)]
        by_confidence = [_cost(samples, costs, TARGET, confidence) for confidence in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)]
        assert by_target == sorted(by_target) and by_confidence == sorted(by_confidence)
        assert by_target[0] < by_target[-1]


def _cost(samples: np.ndarray, costs: np.ndarray, target: float, confidence: float) -> float:
    recipe = admit(samples, costs, target, confidence).recipe
    return np.inf if recipe is None else float(costs[recipe])


@pytest.mark.parametrize(("confidence", "needed"), [(0.5, 2), (0.8, 5), (0.9, 10), (0.95, 20), (0.99, 100)])
def test_too_few_samples_admit_nothing_and_say_how_many_are_needed(confidence: float, needed: int) -> None:
    assert samples_needed(confidence) == needed
    perfect = np.ones((needed, 3))
    enough = admit(perfect, [3.0, 1.0, 2.0], 0.99, confidence)
    assert enough.recipe == 1 and enough.images == needed - choosing_images(needed)
    few = admit(perfect[:-1], [3.0, 1.0, 2.0], 0.99, confidence)
    assert (few.recipe, few.needed, few.images) == (None, needed, 0)


def test_no_number_of_images_beyond_those_needed_is_too_few() -> None:
    for confidence in (0.6, 0.8, 0.9, 0.95):
        needed = samples_needed(confidence)
        admitted = [admit(np.ones((count, 1)), [1.0], 0.9, confidence).recipe for count in range(needed, needed + 25)]
        assert admitted == [0] * 25


def test_images_that_fail_alone_count_against_a_recipe_once() -> None:
    samples = np.full((50, 2), 0.95)
    samples[5] = 0.1
    assert admit(samples, [2.0, 1.0], TARGET, 0.9).recipe == 1  # one of 49 may fail
    samples[6] = 0.1
    assert admit(samples, [2.0, 1.0], TARGET, 0.9).recipe is None


def test_an_ssim_of_exactly_the_target_keeps_it() -> None:
    assert admit(np.full((20, 1), TARGET), [1.0], TARGET, 0.9).recipe == 0


def test_a_recipe_that_a_cheaper_one_surpasses_is_not_on_the_path() -> None:
    samples = np.array([[0.99, 0.8, 0.95, 0.5], [0.97, 0.7, 0.9, 0.6]])
    assert safest_path(samples, np.array([4.0, 3.0, 2.0, 1.0])) == [0, 2, 3]


def test_recipes_that_come_equally_near_all_stay_on_the_path() -> None:
    assert safest_path(np.ones((1, 3)), np.array([1.0, 3.0, 2.0])) == [1, 2, 0]
    assert safest_path(np.full((2, 2), 0.8), np.array([1.0, 1.0])) == [1, 0]


def test_the_images_that_choose_the_path_certify_nothing() -> None:
    samples = np.full((20, 1), 0.95)
    samples[0] = 0.1
    assert choosing_images(20) == 1
    assert admit(samples, [1.0], TARGET, 0.95).recipe == 0
    samples[[0, 1]] = samples[[1, 0]]
    assert admit(samples, [1.0], TARGET, 0.95).recipe is None


def test_what_is_certified_leads_to_the_admitted_recipe_along_the_path() -> None:
    samples = np.tile([0.99, 0.95, 0.85], (20, 1))
    admission = admit(samples, [3.0, 2.0, 1.0], TARGET, 0.9)
    assert admission.path == (0, 1, 2) and admission.certified == (0, 1) and admission.recipe == 1
