"""The same attributions as the installed Captum gives, whatever runs under them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kryptondb.compat.captum import Occlusion
from tests.compat.conftest import Counted
from tests.networks import normalized_network

attr = pytest.importorskip("captum.attr")

IMAGES = torch.rand(2, 3, 17, 22, generator=torch.Generator().manual_seed(1))
BASELINES = torch.rand(2, 3, 17, 22, generator=torch.Generator().manual_seed(2))


def same(forward: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> str:
    """Asserts that Captum says the same; what ran."""
    occlusion = Occlusion(forward)
    ours, peer = (
        occlusion.attribute(inputs, *args, **kwargs),
        attr.Occlusion(forward).attribute(inputs, *args, **kwargs),
    )
    assert isinstance(ours, tuple) == isinstance(peer, tuple)
    for mine, theirs in zip(*((each if isinstance(each, tuple) else (each,)) for each in (ours, peer)), strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5, equal_nan=True)
    return occlusion.explanation


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    return normalized_network()


@pytest.mark.usefixtures("tracing_pays")
class TestTheTracedNetwork:
    @pytest.mark.parametrize(
        ("window", "strides"),
        [((3, 5, 6), (3, 2, 4)), ((1, 4, 4), (1, 3, 3)), ((2, 6, 4), (1, 5, 4)), ((3, 17, 22), None)],
    )
    @pytest.mark.parametrize("baselines", [None, 0.3, BASELINES[:1], BASELINES], ids=["none", "number", "one", "each"])
    def test_agrees_for_every_window_and_baseline(
        self, network: nn.Module, window: Any, strides: Any, baselines: Any
    ) -> None:
        same(network, IMAGES, window, strides=strides, baselines=baselines, target=[1, 3])

    @pytest.mark.parametrize("baseline", [float("nan"), float("inf"), -1e38], ids=str)
    @pytest.mark.parametrize("strides", [(3, 5, 6), (3, 2, 4)], ids=["apart", "overlapping"])
    def test_agrees_for_baselines_that_are_not_finite_or_become_so(
        self, network: nn.Module, baseline: float, strides: Any
    ) -> None:
        partly = IMAGES.clone()
        partly[:, :, 3, 4] = baseline
        same(network, IMAGES, (3, 5, 6), strides=strides, baselines=partly, target=1)

    def test_agrees_for_an_input_that_is_not_finite(self, network: nn.Module) -> None:
        partly = IMAGES.clone()
        partly[0, 0, 3, 4] = float("nan")
        same(network, partly, (3, 5, 6), strides=(3, 2, 4), target=1)

    def test_runs_in_batches_in_the_callers_autocast_as_captum_does(self, network: nn.Module) -> None:
        same(network, IMAGES, (3, 6, 6), strides=(3, 5, 5), target=1)  # traced already
        with torch.autocast("cpu", torch.bfloat16):
            assert "autocast" in same(lambda x: network(x).float(), IMAGES, (3, 6, 6), strides=(3, 5, 5), target=1)

    def test_is_refused_to_a_function_that_answers_in_two_ways(self, network: nn.Module) -> None:
        calls = []

        def alternates(images: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            scores: torch.Tensor = network(images)
            return scores * (1 + len(calls) % 2)

        occlusion = Occlusion(alternates)
        occlusion.attribute(IMAGES, (3, 6, 6), strides=(3, 5, 5), target=1)
        assert "run twice on one picture" in occlusion.explanation

    def test_flattens_by_a_view(self) -> None:
        torch.manual_seed(0)
        convolution, last = nn.Conv2d(3, 4, 3), nn.Linear(4 * 15 * 20, 3)
        explanation = same(lambda x: last(convolution(x).relu().view(x.size(0), -1)), IMAGES, (3, 5, 6), target=1)
        assert explanation.startswith(("incremental inference", "full inference of the traced network"))

    @pytest.mark.parametrize("target", [2, (2,), torch.tensor(2), torch.tensor([4, 0]), [4, 0], [(4,), (0,)], None])
    def test_agrees_for_every_form_of_target(self, network: nn.Module, target: Any) -> None:
        explanation = same(network, IMAGES, (3, 6, 6), strides=(3, 5, 5), target=target)
        assert explanation.startswith(("incremental inference", "full inference of the traced network"))

    def test_is_found_behind_a_softmax_in_a_function(self, network: nn.Module) -> None:
        def probabilities(images: torch.Tensor) -> torch.Tensor:
            return network(images).softmax(1)

        assert "inference" in same(probabilities, IMAGES, (3, 6, 6), strides=(3, 5, 5), target=1)

    def test_is_found_behind_a_function_that_answers_one_number_an_image(self, network: nn.Module) -> None:
        assert "inference" in same(lambda images: network(images)[:, 2], IMAGES, (3, 6, 6), strides=(3, 5, 5))

    def test_may_answer_with_maps(self) -> None:
        torch.manual_seed(0)
        segments = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
        assert "inference" in same(segments, IMAGES, (3, 6, 6), strides=(3, 5, 5), target=(1, 3, 4))

    def test_is_asked_and_not_the_module(self, network: nn.Module) -> None:
        counted = Counted(network).eval()
        occlusion = Occlusion(counted)
        occlusion.attribute(IMAGES, (3, 3, 3), strides=(3, 2, 2), target=1)
        first = counted.images
        assert first < 25  # to trace it and to compare; there are over a hundred windows
        occlusion.attribute(IMAGES, (3, 3, 3), strides=(3, 2, 2), target=1)
        assert counted.images == first + len(IMAGES) + 2  # only to see that it is still the same, of these and others

    def test_is_traced_anew_when_the_weights_have_changed(self) -> None:
        changing = normalized_network(seed=3)
        same(changing, IMAGES, (3, 6, 6), strides=(3, 5, 5), target=1)
        with torch.no_grad():
            changing[-1].weight.mul_(1.0001)
        assert "inference" in same(changing, IMAGES, (3, 6, 6), strides=(3, 5, 5), target=1)

    def test_is_traced_anew_when_what_a_function_reads_has_changed(self, network: nn.Module) -> None:
        picked = [1]

        def one(images: torch.Tensor) -> torch.Tensor:
            return network(images)[:, picked[0]]

        assert "inference" in same(one, IMAGES, (3, 6, 6), strides=(3, 5, 5))
        picked[0] = 4
        assert "inference" in same(one, IMAGES, (3, 6, 6), strides=(3, 5, 5))

    def test_works_in_float64(self) -> None:
        assert "inference" in same(
            normalized_network().double(), IMAGES.double(), (3, 6, 6), strides=(3, 5, 5), target=1
        )


@pytest.mark.usefixtures("tracing_pays")
class TestBatchesOfTheFunctionRunFor:
    def batches(self, *args: Any, **kwargs: Any) -> str:
        explanation = same(*args, **kwargs)
        assert explanation.startswith("batches of the forward function: ")
        return explanation

    def test_several_inputs(self) -> None:
        def forward(images: torch.Tensor, line: torch.Tensor) -> torch.Tensor:
            return (images**2).sum((1, 2, 3))[:, None] * line.cumsum(1)

        line = torch.rand(2, 5)
        for at_once in (1, 3):
            explanation = self.batches(
                forward, (IMAGES[:, :, :5, :4], line), ((3, 2, 2), (3,)), strides=((3, 2, 1), 2),
                baselines=(0.1, torch.rand(1, 5)), target=[1, 4], perturbations_per_eval=at_once,
            )  # fmt: skip
            assert "there are 2 inputs" in explanation

    @pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5), (2, 2, 3, 4, 3)], ids=str)
    def test_other_numbers_of_dimensions(self, shape: tuple[int, ...]) -> None:
        inputs = torch.rand(shape)
        window = tuple(min(2, size) for size in shape[1:])
        if len(shape) == 1:
            attributions = Occlusion(lambda x: x**2).attribute(inputs, (), baselines=0.5)
            torch.testing.assert_close(attributions, inputs**2 - 0.25)
        else:
            self.batches(lambda x: (x**2).flatten(1).sum(1), inputs, window, perturbations_per_eval=2)

    def test_additional_arguments(self) -> None:
        def forward(images: torch.Tensor, factors: torch.Tensor, power: int) -> torch.Tensor:
            return (images**power).sum((2, 3)) * factors

        arguments = (torch.rand(2, 3), 2)
        self.batches(
            forward, IMAGES[:, :, :6, :6], (3, 4, 4), strides=(3, 3, 3), target=1, additional_forward_args=arguments,
            perturbations_per_eval=3,
        )  # fmt: skip

    @pytest.mark.parametrize("answer", [lambda x: x.sum(), lambda x: float(x.sum()), lambda x: x.sum().reshape(1)])
    def test_one_value_for_the_whole_batch(self, answer: Callable[[torch.Tensor], Any]) -> None:
        self.batches(answer, IMAGES[:, :, :6, :6], (3, 4, 4), strides=(3, 3, 3))

    def test_integers(self) -> None:
        numbers = torch.randint(0, 9, (2, 3, 6, 6))
        self.batches(lambda x: x.sum((1, 2, 3)), numbers, (3, 4, 4), strides=(3, 4, 4), baselines=1)
        self.batches(lambda x: x.float().sum((1, 2, 3)), numbers, (3, 4, 4), strides=(3, 4, 4), baselines=0.5)

    def test_what_depends_on_the_rest_of_the_batch(self) -> None:
        images = torch.rand(2, 1, 7, 7)
        explanation = self.batches(lambda x: x.flatten(1).softmax(0), images, (1, 3, 3), strides=(1, 2, 2), target=4)
        assert "depends on the others in the batch" in explanation

    def test_batch_norms_that_are_training(self) -> None:
        module = nn.Sequential(nn.BatchNorm2d(3, momentum=0.0), nn.Conv2d(3, 2, 3), nn.Flatten())
        explanation = self.batches(module, IMAGES, (3, 9, 9), strides=(3, 8, 8), target=1, perturbations_per_eval=2)
        assert "cannot be traced" in explanation

    def test_control_flow_that_depends_on_data(self) -> None:
        def forward(images: torch.Tensor) -> torch.Tensor:
            return images.sum((1, 2, 3)) if images.mean() > 0.4 else images.amax((1, 2, 3))

        assert "cannot be traced" in self.batches(forward, IMAGES, (3, 9, 9), strides=(3, 8, 8))


def test_random_numbers_are_drawn_for_every_window() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Dropout(), nn.Flatten()).train()
    occlusion = Occlusion(module)
    from kryptondb.compat import engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "WORTH_TRACING", 0.0)
        occlusion.attribute(IMAGES, (3, 9, 9), strides=(3, 8, 8), target=1)
    assert occlusion.explanation.startswith("batches of the forward function: ")


def test_short_work_is_not_traced(network: nn.Module) -> None:
    explanation = same(partial(network), IMAGES, (3, 9, 9), strides=(3, 8, 8), target=1)
    assert "so tracing would not pay off" in explanation


def test_what_ran_is_logged_and_printed(
    network: nn.Module, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    occlusion = Occlusion(network)
    with caplog.at_level("INFO", logger="kryptondb.compat"):
        occlusion.attribute(IMAGES, (3, 9, 9), strides=(3, 8, 8), target=1, explain=True)
    assert occlusion.explanation
    assert caplog.messages == [occlusion.explanation]
    assert capsys.readouterr().out == occlusion.explanation + "\n"


@pytest.mark.parametrize(
    "arguments",
    [
        {"sliding_window_shapes": (3, 30, 3)},
        {"sliding_window_shapes": (3, 3)},
        {"strides": (3, 10, 1)},
        {"strides": (1, 1)},
        {"target": 9},
        {"target": [1]},
        {"target": (1, 1)},
        {"target": torch.tensor([1, 2, 3])},
        {"baselines": torch.zeros(3, 4)},
        {"baselines": "gray"},
        {"perturbations_per_eval": 0},
        {"inputs": (IMAGES, IMAGES)},
    ],
    ids=str,
)
def test_what_captum_refuses_is_refused_in_the_same_way(network: nn.Module, arguments: dict[str, Any]) -> None:
    asked = {"inputs": IMAGES, "sliding_window_shapes": (3, 9, 9), "strides": (3, 8, 8), "target": 1} | arguments
    with pytest.raises((AssertionError, IndexError, RuntimeError)):
        attr.Occlusion(network).attribute(**asked)
    with pytest.raises(AssertionError):
        Occlusion(network).attribute(**asked)


def test_an_output_that_does_not_grow_needs_windows_one_by_one() -> None:
    with pytest.raises(AssertionError, match="perturbations_per_eval must be 1"):
        Occlusion(lambda x: x.sum()).attribute(IMAGES, (3, 9, 9), strides=(3, 8, 8), perturbations_per_eval=2)


def test_a_function_without_parameters_is_called_without_inputs() -> None:
    assert (Occlusion(lambda: torch.ones(2)).attribute(IMAGES, (3, 9, 9), strides=(3, 8, 8)) == 0).all()


def test_inputs_are_left_as_they_are(network: nn.Module) -> None:
    images = IMAGES.clone()
    Occlusion(network).attribute(images, (3, 9, 9), strides=(3, 8, 8), target=1)
    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize(
    ("window", "strides"),
    [((3, 5, 6), tuple(np.array([3, 2, 4]))), ((3, *np.array([5, 6])), (3, 2, 4)), ((3, 5, 6), (np.int64(3), 2, 4))],
)
def test_integers_of_numpy_are_integers(network: nn.Module, window: Any, strides: Any) -> None:
    same(network, IMAGES, window, strides=strides, target=1)


def test_no_examples_have_no_attributions(network: nn.Module) -> None:
    same(network, IMAGES[:0], (3, 5, 6), strides=(3, 5, 6), target=1)


def test_a_noise_tunnel_takes_it_for_captums(network: nn.Module) -> None:
    maps = []
    for kind in (Occlusion, attr.Occlusion):
        torch.manual_seed(3)
        options = {"nt_samples": 2, "nt_type": "smoothgrad", "sliding_window_shapes": (3, 6, 6), "strides": (3, 5, 5)}
        maps.append(attr.NoiseTunnel(kind(network)).attribute(IMAGES[:1], target=1, **options))
    torch.testing.assert_close(*maps, atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("tracing_pays")
def test_a_function_that_takes_its_examples_only_together_runs_in_batches(network: nn.Module) -> None:
    weights = torch.rand(2, 1)
    explanation = same(lambda x: network(x) * weights, IMAGES[:2], (3, 6, 6), strides=(3, 5, 5), target=1)
    assert "two images" in explanation or "batches" in explanation
    one = nn.Sequential(*list(network)[:-2], nn.Flatten(0), nn.Unflatten(0, (1, 12)), network[-1]).eval()
    assert "it does not take two images at once" in same(one, IMAGES[:1], (3, 6, 6), strides=(3, 5, 5), target=1)
