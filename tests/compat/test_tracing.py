"""Networks behind functions are kept as long as they are what the functions do."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from kryptondb.compat.tracing import Traced, Tracer, modules_of
from kryptondb.executor.tiles.tilings import extents_of
from kryptondb.network import Grid


def test_a_network_goes_when_its_module_has_learned_something_else() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    images, tracer = torch.randn(1, 3, 8, 8), Tracer()
    before = tracer.trace(module, images, torch.zeros_like(images))
    assert isinstance(before, Traced)
    extents_of(before.network, Grid(8, 8, (4, 4), (4, 4)))
    network = weakref.ref(before.network)
    del before
    with torch.no_grad():
        module[0].weight.add_(1.0)
    assert tracer.known(module, images) is None
    after = tracer.trace(module, images, torch.zeros_like(images))
    assert network() is None and isinstance(after, Traced)


class Sharp(nn.Module):
    """So sure of what it says that hardly anything changes that."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.gain = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), 8.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.gain * (self.norm(self.conv(images)).amax((2, 3)) + 0.5))


class Pipe:
    """Holds its module where nobody looks."""

    def __init__(self, module: nn.Module) -> None:
        self.stages = {"first": [[module]]}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.stages["first"][0][0](images)
        return output


def step(module: Sharp) -> None:
    with torch.no_grad():
        module.conv.weight.add_(0.01)


def hook(module: Sharp) -> None:
    module.register_forward_hook(lambda _, __, output: output * 1.3 - 0.3)


@pytest.mark.parametrize("forward_of", [lambda module: module, Pipe, lambda module: lambda x: module(x)])
@pytest.mark.parametrize(
    "change",
    [
        step,
        hook,
        lambda module: setattr(module, "gain", 9.0),
        lambda module: module.norm.weight.data.add_(0.1),
        lambda module: module.load_state_dict({name: value + 0.01 for name, value in module.state_dict().items()}),
    ],
    ids=["step", "hook", "attribute", "data", "load"],
)
def test_whatever_changes_behind_a_function_its_network_is_known_no_more(
    forward_of: Callable[[nn.Module], Callable[..., Any]], change: Callable[[Sharp], object]
) -> None:
    module = Sharp().eval()
    forward, images, tracer = forward_of(module), torch.rand(1, 3, 12, 12), Tracer()
    assert isinstance(tracer.trace(forward, images, torch.zeros_like(images)), Traced)
    assert isinstance(tracer.known(forward, images), Traced)
    change(module)
    assert tracer.known(forward, images) is None


def test_a_function_that_takes_one_image_at_a_time_is_not_traced_and_says_why() -> None:
    module = Sharp().eval()
    images = torch.rand(1, 3, 12, 12)
    why = Tracer().trace(lambda x: module(x).view(1, -1) * torch.ones(1, 4), images, torch.zeros_like(images))
    assert isinstance(why, str)
    weights = torch.rand(3, 1)
    why = Tracer().trace(lambda x: module(x) * weights, images, torch.zeros_like(images))
    assert isinstance(why, str) and why.startswith("it does not take two images at once")


def test_a_function_that_writes_into_its_images_is_not_traced_and_says_why() -> None:
    module, images = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).eval(),
        torch.rand(1, 3, 8, 8),
    )
    why = Tracer().trace(lambda x: module(x.sub_(0.5).mul_(4)), images, torch.zeros_like(images))
    assert "writes into its input" in str(why)


def test_tracing_leaves_real_tensors_with_hooks_and_caches_that_can_be_trained() -> None:
    class Caching(Sharp):
        def __init__(self) -> None:
            super().__init__()
            self.cache: dict[int, torch.Tensor] = {}

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            scale = self.cache.setdefault(len(images), torch.ones(1, 1)) if len(images) == 1 else torch.ones(1, 1)
            return super().forward(images) * scale

    module, seen = Caching().eval(), []
    module.conv.register_forward_hook(lambda _, __, output: seen.append(output))
    images = torch.rand(1, 3, 12, 12)
    Tracer().trace(module, images, torch.zeros_like(images))
    assert type(seen[-1]) is torch.Tensor
    module(images).sum().backward()


def test_functions_that_cannot_be_hashed_or_watched_are_asked_anew_each_time() -> None:
    @dataclass
    class Unhashable:
        module: nn.Module

        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.module(images)
            return output

    class Slots:
        __slots__ = ("module",)

        def __init__(self, module: nn.Module) -> None:
            self.module = module

        __call__ = Unhashable.__call__

    images, tracer = torch.rand(1, 3, 12, 12), Tracer()
    forward, watched = Slots(Sharp().eval()), Unhashable(Sharp().eval())
    assert tracer.spent(forward) == 0.0 and "tracing would not pay off" in tracer.not_worth(forward, 2.0)
    assert tracer.spent(forward) == 0.0
    for each in (forward, watched):
        assert isinstance(tracer.trace(each, images, torch.zeros_like(images)), Traced)
    assert tracer.known(forward, images) is None and isinstance(tracer.known(watched, images), Traced)


def test_a_function_of_what_has_no_value_yet_is_none_with_modules() -> None:
    def outer() -> Callable[..., Any]:
        def forward(images: torch.Tensor) -> torch.Tensor:
            return module(images)

        found = modules_of(forward)
        module = Sharp().eval()
        assert found == [] and modules_of(forward) == [module]
        return forward

    outer()
