"""Copies, class counts and fingerprints of modules."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from kryptondb.catalog.model import count_classes, fingerprint, own_copy, parameter_count
from kryptondb.catalog.structure import module_structure
from kryptondb.errors import ModelError
from kryptondb.images.preprocess import Preprocess
from tests.networks import Pair, small_net

PREPROCESS = Preprocess(16, 16)


class Scaled(nn.Module):
    """Keeps a number, a word and a tensor as plain attributes."""

    def __init__(self, factor: float = 2.0, shift: float = 0.0) -> None:
        super().__init__()
        self.factor = factor
        self.shift = torch.tensor(shift)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) * self.factor + self.shift


class Returns(nn.Module):
    """Gives what a function makes of its input."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: torch.Tensor) -> object:
        assert callable(self.function)
        return self.function(images)


def print_of(module: nn.Module, preprocess: Preprocess = PREPROCESS) -> str:
    return fingerprint(module_structure(module), module, preprocess)


def test_a_copy_is_frozen_and_the_original_is_not_changed() -> None:
    module = small_net().double().train()
    before = copy.deepcopy(module.state_dict())
    mine = own_copy(module)
    assert module.training and not mine.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not any(parameter.requires_grad for parameter in mine.parameters())
    assert {parameter.dtype for parameter in mine.parameters()} == {torch.float32}
    with torch.no_grad():
        next(mine.parameters()).zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_module_that_cannot_be_copied_is_named() -> None:
    module = small_net()
    module.weird = module.head.weight * 2  # type: ignore[assignment]  # no leaf: deepcopy refuses it
    with pytest.raises(ModelError, match="the module SmallNet cannot be copied"):
        own_copy(module)


def test_the_fingerprint_tells_models_apart() -> None:
    same = {print_of(small_net()), print_of(small_net()), print_of(small_net().train())}
    assert len(same) == 1
    changed = small_net()
    with torch.no_grad():
        changed.norm.running_var[0] += 1e-6
    others = [
        print_of(small_net(1)),
        print_of(changed),
        print_of(small_net(), Preprocess(16, 17)),
        print_of(small_net(), Preprocess(16, 16, mean=(0.1,))),
        print_of(Scaled()),
        print_of(Scaled(3.0)),
        print_of(Scaled(2.0, 1.0)),
    ]
    assert len({*same, *others}) == 1 + len(others)


def test_the_fingerprint_sees_the_code_of_a_class() -> None:
    class Net(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    first = Net

    class Net(nn.Module):  # type: ignore[no-redef]  # noqa: F811
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.amax((2, 3))

    assert print_of(first()) != print_of(Net())


def test_parameters_are_counted() -> None:
    assert parameter_count(small_net()) == 145


def test_classes_are_counted_by_one_pass() -> None:
    assert count_classes(small_net(), (3, 16, 16), "net") == 5


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Pair(), r"gives a tuple of 2 \(a tensor of 2 x 3, a tensor of 2 x 3 x 16 x 16\) for 2 images"),
        (Returns(lambda x: {"logits": x, "aux": x}), "gives a dict with logits, aux"),
        (Returns(lambda x: x), "gives a tensor of 2 x 3 x 16 x 16"),
        (Returns(lambda x: x.mean((0, 2, 3))[None]), r"not one tensor \[2, classes\]"),
        (Returns(lambda x: x.mean((2, 3))[:, :0]), "gives a tensor of 2 x 0"),
        (Returns(lambda x: x.mean((2, 3)) > 0), "gives torch.bool scores"),
        (Returns(lambda x: None), "gives a NoneType"),
        (Returns(lambda x: x.flatten(1).repeat(1, 200)), "gives 153,600 scores per image, more than 100,000"),
        (Returns(lambda x: x @ x.flatten()), 'model "net" fails on an input of 2 x 3 x 16 x 16: '),
    ],
)
def test_other_outputs_are_named(module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        count_classes(module, (3, 16, 16), "net")


def other_buffers(value: float) -> dict[str, torch.Tensor]:
    """Tensors of every kind that a network may carry and not read."""
    matrix = torch.diag(torch.tensor([1.0, 0.0, value, 2.0]))
    return {
        "empty": torch.full((0, 3), value),
        "coordinates": matrix.to_sparse(),
        "rows": matrix.to_sparse_csr(),
        "columns": matrix.to_sparse_csc(),
        "blocks": matrix.to_sparse_bsr((2, 2)),
        "nothing": torch.sparse_coo_tensor(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0), (3, 3)),
    }


@pytest.mark.parametrize("kind", list(other_buffers(3.0)))
def test_empty_and_sparse_buffers_have_a_fingerprint_of_what_they_hold(kind: str) -> None:
    def of(value: float) -> str:
        module = nn.Module()
        module.register_buffer("other", other_buffers(value)[kind])
        return fingerprint("a module", module, PREPROCESS)

    assert of(3.0) == of(3.0)
    assert (of(3.0) == of(4.0)) == (kind in ("empty", "nothing"))
