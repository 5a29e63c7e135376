"""The networks of tests: small ones, random ones that hypothesis draws, and torchvision's families made talkative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import reject
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from kryptondb.network import Network, trace


def small_network(*, classes: int = 3, channels: int = 3, width: int = 4, seed: int = 3) -> nn.Sequential:
    """Two convolutions, a pool and a linear layer: a thousand pictures in a second. The weights are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, classes),
        ).eval()


def normalized_network(seed: int = 0, channels: int = 3, classes: int = 5) -> nn.Sequential:
    """Convolutions, a batch norm with statistics, pooling and a classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, classes),
        )
        network(torch.rand(16, channels, 20, 20))  # gives the batch norm some statistics
        return network.eval()


def coarse_network(classes: int) -> nn.Sequential:
    """Next to no work on a large picture: its first convolution takes steps of eight pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 8, stride=8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, classes),
        ).eval()


class SmallNet(nn.Module):
    """[N, 3, 16, 16] -> [N, 5], 145 parameters, with batch norm and dropout so that the mode matters."""

    def __init__(self, classes: int = 5, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm(self.stem(images))).mean((2, 3))
        return self.head(self.drop(features))


class Pair(nn.Module):
    """Returns two tensors, which no classifier should."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images.mean((2, 3)), images


def small_net(seed: int = 0, **arguments: int) -> SmallNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallNet(**arguments).eval()


def export(module: nn.Module, path: Path, side: int = 32, channels: int = 3, dynamic: bool = True) -> str:
    """Saves a module as an exported program; returns the path as text."""
    example = torch.zeros(2 if dynamic else 1, channels, side, side)
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), path)
    return str(path)


FAMILIES = {
    "alexnet": 64,
    "vgg11": 32,
    "vgg11_bn": 32,
    "resnet18": 48,
    "resnext50_32x4d": 48,
    "wide_resnet50_2": 48,
    "squeezenet1_1": 48,
    "densenet121": 48,
    "googlenet": 48,
    "inception_v3": 96,
    "mobilenet_v2": 48,
    "mobilenet_v3_small": 48,
    "mnasnet0_5": 48,
    "shufflenet_v2_x0_5": 48,
    "regnet_y_400mf": 48,
    "efficientnet_b0": 48,
    "efficientnet_v2_s": 48,
    "convnext_tiny": 48,
    "vit_b_32": 64,
    "swin_t": 64,
    "maxvit_t": 224,
}


def family(name: str, classes: int = 8) -> nn.Module:
    """A torchvision network with random weights whose probabilities move when the picture does."""
    options: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("vit"):
        options["image_size"] = FAMILIES[name]
    import torchvision

    torch.manual_seed(len(name))
    module = getattr(torchvision.models, name)(weights=None, num_classes=classes, **options).eval()
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
        elif isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight)
    # Running statistics that fit the weights, as training leaves them: else activations grow from layer to layer until
    # rounding alone decides what the network says.
    for norm in norms:
        norm.train()
        norm.momentum = None
    with torch.no_grad():
        module(torch.randn(6, 3, FAMILIES[name], FAMILIES[name]))
    for norm in norms:  # divides by the size of what comes, not by its spread, which may be next to nothing
        norm.running_var += norm.running_mean**2
        norm.running_mean *= 0.5
    return module.eval()


def standardized(module: nn.Module, image: torch.Tensor) -> nn.Module:
    """The module with its scores brought to a mean of 0 and a deviation of 2: no class takes all probability."""
    with torch.inference_mode():
        scores = module(torch.cat([image, torch.randn_like(image), torch.zeros_like(image)]))
    return _Standardized(module, scores.mean(), scores.std().clamp(min=1e-6) / 2).eval()


@dataclass(frozen=True)
class TracedFamily:
    """A torchvision network that sees a patch move, a picture [1, 3, size, size] and its graph, all in float32.

    Tests share them: none may change them.
    """

    module: nn.Module
    image: torch.Tensor
    network: Network

    @property
    def size(self) -> int:
        """Rows of its picture, and columns."""
        return self.image.shape[-1]


@lru_cache(maxsize=1)  # hundreds of megabytes
def traced_family(name: str) -> TracedFamily:
    """A family by its name, traced."""
    size = FAMILIES[name]
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(2))
    module = standardized(family(name), image)
    network = trace(module, (3, size, size))
    assert network.traced, network.failure
    return TracedFamily(module, image, network)


def for_families(*names: str) -> pytest.MarkDecorator:
    """Runs a test for each of these families, or for all. One worker runs all tests of one, and traces it once."""
    quick = ("vgg11", "resnet18", "squeezenet1_1")
    slow = {name: () if name in quick else (pytest.mark.slow,) for name in FAMILIES}
    cases = [pytest.param(name, marks=(pytest.mark.xdist_group(name), *slow[name])) for name in names or FAMILIES]
    return pytest.mark.parametrize("name", cases)


class _Standardized(nn.Module):
    def __init__(self, module: nn.Module, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.module = module
        self.mean, self.deviation = float(mean), float(deviation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.module(x) - self.mean) / self.deviation


class ToChannelsLast(nn.Module):
    """A block that works in channels-last, as ConvNeXt does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + functional.gelu(self.linear(self.norm(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


class Shuffle(nn.Module):
    """Channels shuffled in two groups, as ShuffleNet does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class HalfAndHalf(nn.Module):
    """One half of the channels goes on as it is."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, changed = x.chunk(2, dim=1)
        return torch.cat([kept, self.inner(changed)], dim=1)


class Branches(nn.Module):
    """Two branches put together by `how`: add, sub, mul, cat."""

    def __init__(self, how: str, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.how, self.left, self.right = how, left, right

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.left(x), self.right(x)
        if self.how == "cat":
            return torch.cat([left, right], dim=1)
        if self.how == "add_":
            left = left.clone()
            left += right
            return torch.relu_(left)
        return {"add": torch.add, "sub": torch.sub, "mul": torch.mul}[self.how](left, right)


class Pad(nn.Module):
    """A constant pad or crop on each side."""

    def __init__(self, pads: tuple[int, int, int, int], value: float, mode: str = "constant") -> None:
        super().__init__()
        self.pads, self.value, self.mode = pads, value, mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, self.pads, self.mode, self.value if self.mode == "constant" else None)


class Slice(nn.Module):
    """Part of the picture."""

    def __init__(self, top: int, left: int, step: int) -> None:
        super().__init__()
        self.top, self.left, self.step = top, left, step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, self.top :: self.step, self.left :]


class Gate(nn.Module):
    """Squeeze and excitation: every place is scaled by something that depends on all of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.linear(functional.adaptive_avg_pool2d(x, 1)))


class WriteThrough(nn.Module):
    """Writes into half of its channels through a view, after somebody has a branch of them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * 1.0
        before = x + 1.0
        x[:, : x.shape[1] // 2].mul_(0.5)
        return x + before


#: Ways to lay a picture [B, C, H, W] out as tokens, channels last; and, by the same names, back.
LAID_OUT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flatten": lambda x: x.flatten(2).transpose(1, 2),
    "view": lambda x: x.contiguous().view(x.shape[0], x.shape[1], -1).permute(0, 2, 1),
    "reshape": lambda x: x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1]),
    "column by column": lambda x: x.permute(0, 3, 2, 1).reshape(len(x), -1, x.shape[1]),
    "with the batch": lambda x: x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]),
    "row by row": lambda x: x.permute(0, 2, 3, 1).flatten(0, 1),
    "batch second": lambda x: x.flatten(2).permute(2, 0, 1),
}
PUT_BACK: dict[str, Callable[[torch.Tensor, int, int, int], torch.Tensor]] = {
    "flatten": lambda t, batch, height, width: t.transpose(1, 2).unflatten(2, (height, width)),
    "view": lambda t, batch, height, width: t.permute(0, 2, 1).contiguous().view(batch, -1, height, width),
    "reshape": lambda t, batch, height, width: t.reshape(batch, height, width, -1).movedim(-1, 1),
    "column by column": lambda t, batch, height, width: t.reshape(batch, width, height, -1).permute(0, 3, 2, 1),
    "with the batch": lambda t, batch, height, width: t.view(batch, height, width, t.shape[-1]).permute(0, 3, 1, 2),
    "row by row": lambda t, batch, height, width: t.reshape(batch, height, width, -1).permute(0, 3, 1, 2),
    "batch second": lambda t, batch, height, width: t.permute(1, 2, 0).reshape(batch, -1, height, width),
}
#: Layouts whose first dimension is not the batch alone.
BATCH_AMONG_TOKENS = ("with the batch", "row by row", "batch second")


class TokenStep(nn.Module):
    """A step on tokens, channels last, that looks at each by itself; `places` and `attention` do not."""

    KINDS = (
        *("norm", "linear", "gelu", "residual", "scale", "gate", "heads", "centered", "written", "rolled", "unbound"),
        *("cut", "padded", "masked"),
    )
    TOGETHER = ("places", "attention")

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.norm, self.linear = nn.LayerNorm(channels), nn.Linear(channels, channels)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, channels))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        channels = t.shape[-1]
        if self.kind == "residual":
            return t + functional.gelu(self.linear(self.norm(t)))
        if self.kind == "scale":
            return t * self.scale.reshape(*[1] * (t.ndim - 1), -1) - 0.5
        if self.kind == "gate":
            left, right = t.chunk(2, -1)
            return torch.cat([left * right.sigmoid(), right], -1)
        if self.kind == "heads":
            return t.reshape(*t.shape[:-1], 2, channels // 2).softmax(-1).flatten(-2)
        if self.kind == "centered":
            return (t - t.mean(-1, keepdim=True)) / (1 + t.square().sum(-1, keepdim=True).sqrt())
        if self.kind == "written":
            t = self.linear(t)
            t += self.scale
            return t.mul_(2).relu_()
        if self.kind == "rolled":
            return t.roll(1, -1).flip(-1) @ self.linear.weight.t()
        if self.kind == "unbound":
            return torch.stack([part[..., None].squeeze(-1) for part in t.unbind(-1)][::-1], -1)
        if self.kind == "cut":
            return torch.cat([t[..., channels // 2 :], t[..., : channels // 2], t[..., :1]], -1)[..., 1:]
        if self.kind == "padded":
            return functional.pad(t[..., :-1], (1, 0))
        if self.kind == "masked":
            return torch.where(t > 0, t, t.clone().clamp_(max=0.1) * 0.1)
        if self.kind == "places":
            return t + torch.linspace(-1, 1, t[0].numel(), dtype=t.dtype).reshape(t.shape[1:])
        if self.kind == "attention":
            return functional.scaled_dot_product_attention(self.linear(t), t, t)
        return {"norm": self.norm, "linear": self.linear, "gelu": functional.gelu}[self.kind](t)


class AsTokens(nn.Module):
    """A picture laid out as tokens, some steps, and back."""

    def __init__(self, layout: str, *steps: nn.Module) -> None:
        super().__init__()
        self.layout, self.steps = layout, nn.Sequential(*steps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = x.shape
        return PUT_BACK[self.layout](self.steps(LAID_OUT[self.layout](x)), batch, height, width)


@st.composite
def token_layers(draw: st.DrawFn, channels: int, kinds: tuple[str, ...] = TokenStep.KINDS) -> nn.Module:
    """A few steps on tokens."""
    layout = draw(st.sampled_from(list(LAID_OUT)))
    if layout in BATCH_AMONG_TOKENS:  # steps on all tokens together would see those of other pictures
        kinds = tuple(kind for kind in kinds if kind not in TokenStep.TOGETHER)
    return AsTokens(layout, *(TokenStep(kind, channels) for kind in draw(st.lists(st.sampled_from(kinds), max_size=3))))


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean([2, 3])


class Nhwc(nn.Module):
    """A network that takes images of height by width by channels."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.permute(0, 2, 3, 1).permute(0, 3, 1, 2))


_sizes = st.integers(1, 3)


@st.composite
def convolutions(draw: st.DrawFn, channels: int, out: int | None = None, same: bool = False) -> nn.Module:
    """A convolution with its batch norm and activation, or without."""
    out = out or draw(st.sampled_from([2, 4, 6]))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = draw(st.sampled_from([1, 1, 2]))
    groups = draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0 and out % g == 0]))
    if same:
        conv = nn.Conv2d(channels, out, kernel, padding="same", dilation=dilation, groups=groups)
    else:
        stride = (draw(_sizes), draw(_sizes))
        padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
        conv = nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias=draw(st.booleans()))
    norm = nn.BatchNorm2d(out)
    nn.init.uniform_(norm.running_mean, -0.2, 0.2)
    nn.init.uniform_(norm.running_var, 0.5, 1.5)
    act = draw(st.sampled_from([nn.ReLU(inplace=True), nn.Hardswish(), nn.SiLU(), nn.GELU(), nn.Identity()]))
    return nn.Sequential(conv, norm, act) if draw(st.booleans()) else nn.Sequential(conv, act)


@st.composite
def pools(draw: st.DrawFn) -> nn.Module:
    kernel = draw(st.integers(2, 3))
    stride, padding = draw(st.integers(1, 4)), draw(st.integers(0, kernel // 2))
    ceil = draw(st.booleans())
    if draw(st.booleans()):
        return nn.MaxPool2d(kernel, stride, padding, dilation=draw(st.integers(1, 2)), ceil_mode=ceil)
    return nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=draw(st.booleans()))


@st.composite
def small_cnns(draw: st.DrawFn, max_blocks: int = 4) -> tuple[nn.Module, tuple[int, int, int]]:
    """A random CNN in eval mode, float64, and its input shape."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    shape = (draw(st.sampled_from([1, 3])), draw(st.integers(7, 22)), draw(st.integers(7, 22)))
    layers: list[nn.Module] = [nn.Conv2d(shape[0], 4, 3, padding=1)]
    channels = 4
    for _ in range(draw(st.integers(1, max_blocks))):
        kind = draw(
            st.sampled_from(
                [
                    *("conv", "conv", "pool", "branches", "branches", "shuffle", "half", "last", "pad", "slice"),
                    *("gate", "dense", "tokens", "nearest"),
                ]
            )
        )
        if kind == "conv":
            out = draw(st.sampled_from([2, 4, 6]))
            layers.append(draw(convolutions(channels, out)))
            channels = out
        elif kind == "pool":
            layers.append(draw(pools()))
        elif kind == "branches":
            how = draw(st.sampled_from(["add", "add_", "sub", "mul", "cat"]))
            left = draw(convolutions(channels, channels, same=True))
            right = draw(st.one_of(st.just(nn.Identity()), convolutions(channels, channels, same=True)))
            layers.append(Branches(how, left, right))
            channels *= 2 if how == "cat" else 1
        elif kind == "shuffle":
            layers.append(Shuffle())
        elif kind == "half":
            layers.append(HalfAndHalf(draw(convolutions(channels // 2, channels // 2, same=True))))
        elif kind == "last":
            layers.append(ToChannelsLast(channels))
        elif kind == "pad":
            mode = draw(st.sampled_from(["constant", "replicate", "reflect", "circular"]))
            least = 0 if mode == "circular" else -1  # torch's leaves cells unwritten where it pads and cuts at once
            pads = tuple(draw(st.integers(least, 2)) for _ in range(4))
            layers.append(Pad(pads, draw(st.sampled_from([0.0, 1.5])), mode))  # type: ignore[arg-type]
        elif kind == "slice":
            layers.append(Slice(draw(st.integers(0, 2)), draw(st.integers(0, 2)), draw(st.integers(1, 2))))
        elif kind == "gate":
            layers.append(Gate(channels))
        elif kind == "tokens":
            layers.append(draw(token_layers(channels, (*TokenStep.KINDS, *TokenStep.TOGETHER))))
        elif kind == "nearest":
            layers.append(nn.Upsample(scale_factor=(draw(st.integers(1, 3)), draw(st.sampled_from([0.5, 1, 2])))))
        else:
            dense = [
                nn.GroupNorm(2, channels),
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.ConvTranspose2d(channels, channels, 2),
                WriteThrough(),
            ]
            layers.append(dense[draw(st.integers(0, len(dense) - 1))])
    head = draw(st.sampled_from(["mean", "average", "flatten", "pool"]))
    body = nn.Sequential(*layers).double().eval()
    try:
        with torch.inference_mode():
            out_shape = body(torch.zeros(1, *shape, dtype=torch.float64)).shape
    except RuntimeError:
        reject()
    if 0 in out_shape:  # slices that leave nothing of the picture: such a network has no scores to compare
        reject()
    if head == "flatten":
        tail: list[nn.Module] = [nn.Flatten(), nn.Linear(out_shape[1:].numel(), 5)]
    elif head == "average":
        tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]
    elif head == "pool":
        tail = [nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 5)]
    else:
        tail = [Mean(), nn.Linear(channels, 5)]
    return nn.Sequential(body, *tail).double().eval(), shape
