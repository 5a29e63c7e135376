"""What a module computes, as text: modules that give other answers have other texts, twins have one."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import kryptondb
from kryptondb.catalog.model import fingerprint
from kryptondb.catalog.structure import module_structure
from kryptondb.images.preprocess import Preprocess

Function = Callable[[torch.Tensor], torch.Tensor]
FACTOR = 1.0


@dataclass
class Settings:
    factor: float
    names: tuple[str, ...] = ("a",)


class Slots:
    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor


class Calls(nn.Module):
    """Calls a function that it keeps, in whatever."""

    def __init__(self, **kept: Any) -> None:
        super().__init__()
        for name, value in kept.items():
            setattr(self, name, value)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        factor = self.factor if hasattr(self, "factor") else self.settings.factor  # type: ignore[union-attr]
        return images.mean((2, 3)) * factor


def scales(factor: float) -> Function:
    return lambda images: images.mean((2, 3)) * factor


def scales_by_default(factor: float) -> Function:
    def scale(images: torch.Tensor, factor: float = factor) -> torch.Tensor:
        return images.mean((2, 3)) * factor

    return scale


def closing_over(factor: Any) -> nn.Module:
    class Net(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) * factor

    return Net()


def with_attribute(factor: float) -> nn.Module:
    class Net(Calls):
        pass

    Net.factor = factor
    return Net()


def reading_a_global(factor: float) -> nn.Module:
    names: dict[str, Any] = {"nn": nn, "FACTOR": factor, "__name__": "mine"}
    exec("def forward(self, images):\n    return images.mean((2, 3)) * FACTOR", names)
    net = nn.Module()
    net.forward = MethodType(names["forward"], net)
    return net


def hooked(factor: float, before: bool = False) -> nn.Module:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if before:
        net.register_forward_pre_hook(lambda module, images: images[0] * factor)
    else:
        net.register_forward_hook(lambda module, images, scores: scores * factor)
    return net


def attention(heads: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.MultiheadAttention(4, heads)


def frozen(factor: float) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    for parameter in net.parameters():
        nn.init.constant_(parameter, factor)
    frozen: nn.Module = torch.jit.freeze(torch.jit.script(net.eval()))
    return frozen


class Scripted(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) * self.factor


DIFFERENT: dict[str, Callable[[float], nn.Module]] = {
    "a closure": closing_over,
    "a closure over a tensor": lambda factor: closing_over(torch.tensor(factor)),
    "a closure over an array": lambda factor: closing_over(np.full(3, factor)),
    "a function's closure": lambda factor: Calls(factor=scales(factor)),
    "a function's default": lambda factor: Calls(factor=scales_by_default(factor)),
    "functions of one line": lambda factor: Calls(factor=[lambda x: x, lambda x: x * 2][int(factor)]),
    "a partial function": lambda factor: Calls(factor=functools.partial(torch.mul, factor)),
    "settings in an object": lambda factor: Calls(settings=Settings(factor)),
    "settings in slots": lambda factor: Calls(settings=Slots(factor)),
    "settings in a namespace": lambda factor: Calls(settings=SimpleNamespace(factor=factor)),
    "a mapping": lambda factor: Calls(factor={"x": {"y": factor}}),
    "a list of tensors": lambda factor: Calls(factor=[torch.tensor([factor])]),
    "a set": lambda factor: Calls(factor={1, factor}),
    "an object's method": lambda factor: Calls(factor=closing_over(factor).forward),
    "a class's attribute": with_attribute,
    "a global": reading_a_global,
    "a hook": hooked,
    "a hook before": lambda factor: hooked(factor, before=True),
    "what torch's own layers do not print": lambda factor: attention(2 if factor else 1),
    "a TorchScript module's number": lambda factor: torch.jit.script(Scripted(factor)),
    "frozen weights": frozen,
    "a module that is no part": lambda factor: closing_over(nn.LazyLinear if factor else nn.Linear),
    "weights of a module that is no part": lambda factor: Calls(factor=(frozen(factor),)),
}


def text(module: nn.Module) -> str:
    return fingerprint(module_structure(module), module, Preprocess(16, 16))


@pytest.mark.parametrize("make", DIFFERENT.values(), ids=list(DIFFERENT))
def test_modules_that_differ_in_what_their_code_refers_to_have_fingerprints_of_their_own(
    make: Callable[[float], nn.Module],
) -> None:
    assert text(make(1.0)) == text(make(1.0))
    assert text(make(0.0)) != text(make(1.0))


def test_a_module_that_refers_to_itself_is_written_down_once() -> None:
    net = Calls(factor=2.0)
    net.again = [net, Settings(1.0)]  # type: ignore[assignment]
    assert text(net) == text(net)


def test_what_cannot_be_looked_into_equals_nothing() -> None:
    assert text(Calls(factor=iter([1, 2]))) != text(Calls(factor=iter([1, 2])))
    assert text(Calls(factor=1.0, lock=threading.Lock())) == text(Calls(factor=1.0, lock=threading.Lock()))


@pytest.mark.parametrize("kind", ["a closure", "settings in an object", "a hook", "frozen weights"])
def test_registered_modules_of_one_source_are_answered_each_by_itself(kind: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    with kryptondb.connect() as db:
        scores = []
        for name, factor in (("one", 1.0), ("two", 2.0)):
            db.register(name, DIFFERENT[kind](factor), size=2)
            query = (
                f"SELECT base FROM occlude({name}, ?, patch => 1, stride => 1, class => 0, score => 'logit') LIMIT 1"
            )
            scores.append(db.sql(query, [image]).arrow()["base"][0].as_py())
    assert scores[1] == pytest.approx(2 * scores[0], rel=1e-5)


def test_a_network_goes_by_its_module_not_by_what_its_code_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryptondb.catalog.structure.module_structure", lambda module: "the same")
    with kryptondb.connect() as db:
        db.register("one", closing_over(1.0), size=2)
        db.register("two", closing_over(2.0), size=2)
        assert db.database.models.network("one") is not db.database.models.network("two")
        assert db.database.models.network("one") is db.database.models.network("one")


class Asserting(nn.Module):
    """Its code refers to a whole test runner here: asserts are rewritten to call it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.ndim == 4
        return images.mean((2, 3))


def test_what_libraries_hold_is_not_written_down() -> None:
    assert len(module_structure(Asserting())) < 10_000
    assert module_structure(Asserting()) == module_structure(Asserting())


def test_a_module_that_hangs_on_too_much_is_like_no_other_and_its_text_is_bounded() -> None:
    many = Calls(factor=[Settings(float(number)) for number in range(60_000)])
    assert module_structure(many) != module_structure(many)
    assert len(module_structure(many)) < 1 << 26


def test_long_texts_and_arrays_count_by_what_they_hold() -> None:
    for one, other in ((b"a" * 100_000, b"b" * 100_000), ("a" * 100_000, "a" * 99_999 + "b")):
        assert text(Calls(factor=one)) == text(Calls(factor=one)) != text(Calls(factor=other))
        assert len(text(Calls(factor=one))) < 50_000
