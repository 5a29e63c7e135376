"""What the drop-ins print, raise, take and return is what Captum and MONAI do."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as TheirOcclusion
from monai.data import MetaTensor
from monai.visualize import OcclusionSensitivity as TheirSensitivity

from kryptondb.compat.captum import Occlusion
from kryptondb.compat.masks import monai_map
from kryptondb.compat.monai import OcclusionSensitivity
from kryptondb.compat.progress import Bar
from kryptondb.errors import ArgumentError
from tests.networks import normalized_network

Capture = pytest.CaptureFixture[str]

NETWORK = normalized_network()
torch.manual_seed(1)
IMAGE = torch.rand(1, 3, 12, 14)
WINDOW = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4), "target": 1}


@pytest.mark.parametrize(("per_evaluation", "evaluations"), [(1, 13), (5, 4), (100, 2)])
def test_progress_is_printed_as_captum_prints_it(capsys: Capture, per_evaluation: int, evaluations: int) -> None:
    for explain in (Occlusion, TheirOcclusion):
        explain(NETWORK).attribute(IMAGE, perturbations_per_eval=per_evaluation, show_progress=True, **WINDOW)
        printed = capsys.readouterr().err
        assert printed.startswith("\rOcclusion attribution:   0%|          | 0/")
        if explain is Occlusion:  # Captum's total ignores strides: it stops at 3%
            assert f"\rOcclusion attribution: 100%|██████████| {evaluations}/{evaluations} [00:0" in printed
        assert printed.endswith("it/s]\n")
    Occlusion(NETWORK).attribute(IMAGE, **WINDOW)
    assert capsys.readouterr().err == ""


def test_monais_progress_is_printed_where_verbose(capsys: Capture) -> None:
    OcclusionSensitivity(NETWORK, mask_size=6, n_batch=4)(IMAGE)
    assert "\r100%|██████████| " in capsys.readouterr().err
    OcclusionSensitivity(NETWORK, mask_size=6, verbose=False)(IMAGE)
    assert capsys.readouterr().err == ""


def test_a_stream_that_cannot_be_written_to_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stderr", stream)
        Occlusion(NETWORK).attribute(IMAGE, show_progress=True, **WINDOW)


def test_the_bar_is_drawn_now_and_then_and_at_its_end(capsys: Capture) -> None:
    with Bar("a", 8, 2) as bar:
        for windows in range(9):
            bar(windows)
    assert [line.split("|")[0] for line in capsys.readouterr().err.split("\r")[1:]] == ["a:   0%", "a: 100%"]
    with pytest.raises(KeyError), Bar("b", 0, 1):
        raise KeyError
    assert "b: 100%|██████████| 0/0" in capsys.readouterr().err


def test_futures_are_not_implemented() -> None:
    with pytest.raises(NotImplementedError):
        Occlusion(NETWORK).attribute_future()


class Marked(torch.Tensor):
    """A tensor of somebody's own class."""


AFFINE = torch.tensor([[2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]], dtype=torch.float64)
META = MetaTensor(IMAGE, affine=AFFINE, meta={"filename_or_obj": "a.nii"})


@pytest.mark.parametrize("given", [META, IMAGE, IMAGE.as_subclass(Marked), torch.nn.Parameter(IMAGE)])
def test_attributions_are_of_the_class_that_was_given(given: torch.Tensor) -> None:
    found = Occlusion(NETWORK).attribute(given, **WINDOW)
    theirs = TheirOcclusion(NETWORK).attribute(given, **WINDOW)
    assert type(found) is type(theirs) and found.dtype == theirs.dtype
    assert torch.allclose(torch.Tensor(found), torch.Tensor(theirs), atol=1e-5)
    if isinstance(theirs, MetaTensor):
        assert found.meta["filename_or_obj"] == "a.nii" and torch.equal(found.affine, theirs.affine)


def test_attributions_follow_what_the_function_answers() -> None:
    for forward in (lambda x: NETWORK(x.as_subclass(torch.Tensor)), lambda x: float(NETWORK(x).sum())):
        options = WINDOW | ({"target": None} if isinstance(forward(META), float) else {})
        theirs = TheirOcclusion(forward).attribute(META, **options)
        assert type(Occlusion(forward).attribute(META, **options)) is type(theirs) is torch.Tensor


BOXES: list[Any] = [
    *(None, [2, 7, 3, 9], (2, 7), [-1, -1, 3, 9], [-1, -1, -1, -1], [2, -3, 1, 8], [0, 0, 0, 0], [-4, 40, -3, 90]),
    *(torch.tensor([2, 7, 3, 9]), np.array([2, 7]), [torch.tensor(2), np.int64(7), 1, -1]),
]


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("given", [IMAGE, META], ids=["plain", "meta"])
def test_maps_are_monais_for_every_form_of_a_box(box: Any, given: torch.Tensor) -> None:
    options: dict[str, Any] = {"mask_size": 5, "verbose": False}
    found, most = OcclusionSensitivity(NETWORK, **options)(given, b_box=box)
    theirs, their_most = TheirSensitivity(NETWORK, **options)(given, b_box=box)
    assert isinstance(found, MetaTensor) and isinstance(most, MetaTensor)
    assert found.shape == theirs.shape and torch.allclose(found, theirs, atol=1e-5)
    assert most.shape == their_most.shape and most.dtype == torch.int64
    assert torch.equal(found.affine, theirs.affine) and torch.equal(most.affine, their_most.affine)
    assert len(found.applied_operations) == len(theirs.applied_operations)


def test_without_monai_maps_are_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "monai")
    found = monai_map(torch.zeros(2, 5, 6), (slice(1, 3), slice(0, 6)))
    assert type(found) is torch.Tensor and found.shape == (1, 2, 2, 6)
    assert monai_map(torch.zeros(2, 5, 6), None).shape == (1, 2, 5, 6)


def test_any_function_may_stand_for_the_module() -> None:
    class Asked:
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return NETWORK(x)  # type: ignore[no-any-return]

    expected = OcclusionSensitivity(NETWORK, mask_size=5, verbose=False)(IMAGE)[0]
    for function in (lambda x: NETWORK(x), NETWORK.forward, Asked()):
        found = OcclusionSensitivity(function, mask_size=5, verbose=False)(IMAGE)[0]
        assert torch.allclose(found, expected, atol=1e-6)


def raised(call: Callable[[], object]) -> type[BaseException]:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.type


TARGETS: list[Any] = [99, -9, (9,), (1, 2, 3), torch.tensor(99), [99], [(9,)], [1, 2], torch.tensor([1, 2]), "a", 1.5]
CAPTUM: list[dict[str, Any]] = [
    *({"target": target} for target in TARGETS),
    *({"inputs": inputs} for inputs in ([IMAGE], IMAGE.numpy(), None, (IMAGE.numpy(),))),
    *({"perturbations_per_eval": number} for number in (0, 1.5, "a", None)),
    *({"sliding_window_shapes": shape} for shape in (4, None, (3, 40, 4), (3, 4.0, 4), (3, 4), ((3, 4, 4),) * 2)),
    *({"strides": strides} for strides in (9, (3, 4), 1.5)),
    *({"baselines": baselines} for baselines in (torch.zeros(5, 5), "a", [0])),
    {"additional_forward_args": (1, 2)},
]


@pytest.mark.parametrize("wrong", CAPTUM, ids=lambda wrong: str(wrong)[:40])
def test_captums_exceptions_are_raised(wrong: dict[str, Any]) -> None:
    call = {"inputs": IMAGE} | WINDOW | wrong
    ours = raised(lambda: Occlusion(NETWORK).attribute(**call))
    assert issubclass(ours, raised(lambda: TheirOcclusion(NETWORK).attribute(**call)))


MONAI: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(({"mode": mode}, {}) for mode in ("test", None, [1])),
    *(({"mask_size": size}, {}) for size in (99, 0, (4, 4, 4), (4,))),
    *(({"overlap": overlap}, {}) for overlap in (1, -0.5, "a", (0.1, 0.2, 0.3))),
    *(({"n_batch": number}, {}) for number in (0,)),
    *(({}, {"x": x}) for x in (IMAGE.repeat(2, 1, 1, 1), IMAGE.numpy(), IMAGE[:, 0, 0])),
    *(({}, {"b_box": box}) for box in ("ab", [2.0, 7.0], [2], [], [0, 1] * 3)),
]


@pytest.mark.parametrize(("options", "call"), MONAI, ids=lambda wrong: str(wrong)[:40])
def test_monais_exceptions_are_raised(options: dict[str, Any], call: dict[str, Any]) -> None:
    options = {"nn_module": NETWORK, "mask_size": 5, "verbose": False} | options
    call = {"x": IMAGE} | call
    ours = raised(lambda: OcclusionSensitivity(**options)(**call))
    assert issubclass(ours, raised(lambda: TheirSensitivity(**options)(**call)))
    assert issubclass(ours, ArgumentError)
