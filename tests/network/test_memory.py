"""Memory: networks run with their channels last, and say what they say channel by channel, whatever views they take."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from kryptondb.network import Network, trace

SIZE, CHANNELS = 8, 4

VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "view of the batch and the rest": lambda x: x.view(x.size(0), -1),
    "view without the batch": lambda x: x.view(-1, CHANNELS * SIZE * SIZE),
    "view of channels and rows": lambda x: x.view(x.shape[0], CHANNELS * SIZE, SIZE).sum(2),
    "view of a transposed picture": lambda x: x.transpose(2, 3).contiguous().view(len(x.shape) and x.shape[0], -1),
    "view_as": lambda x: x.view_as(x).view(x.shape[0], -1),
    "view of channels in groups": lambda x: (
        x.view(x.shape[0], 2, 2, SIZE, SIZE).transpose(1, 2).contiguous().view(x.shape[0], -1)
    ),
    "view in one": lambda x: x.view(-1).reshape(x.shape[0], -1),
    "unflatten": lambda x: x.unflatten(1, (2, 2)).flatten(1),
    "permute and view": lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1),
    "view of a picture laid out anew": lambda x: (
        x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).view(x.shape[0], -1)
    ),
    "squeeze": lambda x: x[:, :1].squeeze(1).contiguous().view(x.shape[0], -1),
    "bits": lambda x: (
        x.view(torch.int32 if x.dtype == torch.float32 else torch.int64)
        .bitwise_not()
        .bitwise_not()
        .view(x.dtype)
        .flatten(1)
    ),
    "bits of another size": lambda x: x.view(torch.int16).view(x.dtype).flatten(1),
    "as_strided": lambda x: x.as_strided((x.shape[0], SIZE, SIZE), (CHANNELS * SIZE * SIZE, SIZE, 1), 64).flatten(1),
    "as_strided of a view": lambda x: (
        x.transpose(2, 3).as_strided((x.shape[0], SIZE, SIZE), (CHANNELS * SIZE * SIZE, 1, SIZE)).flatten(1)
    ),
    "complex numbers": lambda x: torch.view_as_real(torch.view_as_complex(x.view(x.shape[0], -1, 2))).flatten(1),
    "a write through a view": lambda x: _written(x),
    "a write through a view of a transposed picture": lambda x: _written(x, (0, 2, 3, 1), (0, 3, 1, 2)),
}


def _written(
    x: torch.Tensor, laid: tuple[int, ...] = (0, 1, 2, 3), back: tuple[int, ...] = (0, 1, 2, 3)
) -> torch.Tensor:
    x = x.permute(laid) * 1.0
    x.permute(back).view(x.shape[0], -1).mul_(2.0)
    return x.flatten(1)


class Viewed(nn.Module):
    def __init__(self, view: Callable[[torch.Tensor], torch.Tensor], last: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.view, self.last = nn.Conv2d(3, CHANNELS, 3, padding=1), view, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.last:  # a branch on the numbers cannot be traced
            x = x if float(x.sum()) < 1e9 else -x
        return self.view(torch.relu(self.conv(x)))


def both(view: Callable[[torch.Tensor], torch.Tensor], untraced: bool) -> tuple[nn.Module, Network, torch.Tensor]:
    module = Viewed(view, untraced).eval()
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return module, trace(module, (3, SIZE, SIZE), "none"), images


@pytest.mark.parametrize("name", VIEWS)
def test_a_traced_network_views_its_numbers_in_the_modules_order(name: str) -> None:
    module, network, images = both(VIEWS[name], untraced=False)
    assert network.traced, network.failure
    with torch.inference_mode():
        expected = module(images)
        for order in (torch.contiguous_format, torch.channels_last):
            torch.testing.assert_close(network.run(images.contiguous(memory_format=order))[0], expected)


def test_a_module_that_cannot_be_traced_gets_pictures_channel_by_channel() -> None:
    module, network, images = both(lambda x: x.view(x.size(0), -1), untraced=True)
    assert not network.traced
    with torch.inference_mode():
        found = network.run(images.contiguous(memory_format=torch.channels_last))[0]
        torch.testing.assert_close(found, module(images))


def test_a_view_of_channels_stays_in_the_algebra() -> None:
    _, network, _ = both(lambda x: VIEWS["view of channels in groups"](x), untraced=False)
    assert network.tail is not None
    assert [node.operator for node in network.nodes if node.reason] == ["view"]
