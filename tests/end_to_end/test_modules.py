"""Modules as people register them: what is exact, what is approximate, and what is refused in our own words."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import kryptondb
from tests.networks import small_network

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
QUERY = "SELECT HEATMAP FROM occlude(m, ?, patch => 8, stride => 8, class => 0)"


def net(body: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> nn.Module:
    return Net(body).eval()


class Net(nn.Module):
    def __init__(self, body: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.head, self.body = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), body

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.body(self.convolution(images).relu()).mean((2, 3))) * 9
        return scores


class Counts(nn.Module):
    """Answers otherwise each `period`th time."""

    def __init__(self, period: int, after: int = 0) -> None:
        super().__init__()
        self.net, self.period, self.after, self.calls = net(), period, after, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        scores: torch.Tensor = self.net(images)
        return scores * 2 if self.calls % self.period == 0 and self.calls > self.after else scores


class Buffered(nn.Module):
    """Keeps a running value of what it saw, and adds it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        scores: torch.Tensor = self.net(images) + torch.arange(5) * self.seen
        return scores


class StaysInTraining(Net):
    def __init__(self) -> None:
        super().__init__(lambda x: functional.dropout(x, 0.5, self.training))

    def train(self, mode: bool = True) -> StaysInTraining:
        return super().train(True)


class Untraced(nn.Module):
    """Looks at its numbers, so that it runs as it stands."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if float(images.sum()) == 0.125:
            images = images + 1
        scores: torch.Tensor = self.inner(images)
        return scores


UNSTEADY: dict[str, Callable[[], nn.Module]] = {
    "dropout of its own": lambda: net(lambda x: functional.dropout(x, 0.5, True)),
    "feature dropout": lambda: net(lambda x: functional.dropout2d(x, 0.5, True)),
    "noise": lambda: net(lambda x: x + 0.1 * torch.randn_like(x)),
    "numpy's noise": lambda: net(lambda x: x + float(np.random.rand())),
    "Python's noise": lambda: net(lambda x: x + random.random()),
    "rarely drawn": lambda: net(lambda x: torch.where(torch.rand(()) < 1e-6, x + 1, x)),
    "attention with dropout": lambda: net(lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)),
    "training that stays": StaysInTraining,
    "each second": lambda: Counts(2),
    "each fifth": lambda: Counts(5),
    "a buffer": Buffered,
    "a TorchScript module with dropout": lambda: torch.jit.script(nn.Sequential(Flat(), AlwaysDrops())),
}


class Flat(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


class AlwaysDrops(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return functional.dropout(images, 0.5, True)


@pytest.mark.parametrize("make", UNSTEADY.values(), ids=list(UNSTEADY))
def test_a_module_that_answers_one_picture_in_two_ways_is_approximate_and_warned_of_once(
    make: Callable[[], nn.Module],
) -> None:
    with kryptondb.connect() as db, pytest.warns(kryptondb.NondeterministicModel) as warned:
        db.register("m", make(), size=24)
        states = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()
        result = db.sql(QUERY, [IMAGE])
        result.heatmaps()
        db.sql(QUERY, [IMAGE]).heatmaps()
        cells = db.sql(QUERY.replace("HEATMAP", "exact"), [IMAGE]).arrow()
        explained = db.sql("EXPLAIN " + QUERY, [IMAGE]).message or ""
        described = dict(db.sql("DESCRIBE m").df().itertuples(index=False))
        with pytest.raises(kryptondb.PlanError, match="no SSIM can be promised"):
            db.sql(QUERY + " WITH SSIM >= 0.9", [IMAGE])
    ours = [each for each in warned if each.category is kryptondb.NondeterministicModel]
    assert [each.filename for each in ours] == [__file__]
    assert result.plan is not None
    assert result.plan.quality.kind == "approximate" and result.plan.quality.note in " ".join(explained.split())
    assert result.schema.metadata[b"kryptondb.quality"] == b"approximate"
    assert result.schema.metadata[b"kryptondb.nondeterministic"].decode() in result.plan.quality.note
    assert not any(cells["exact"].to_pylist())
    assert described["deterministic"].startswith("no: ")
    assert torch.equal(states[0], torch.get_rng_state()), "the caller's random numbers go on where they were"
    assert states[1] == np.random.get_state()[1].tobytes()
    assert states[2] == random.getstate()


STEADY: dict[str, Callable[[], nn.Module]] = {
    "dropout in eval mode": lambda: nn.Sequential(net(), nn.Dropout(0.5)),
    "attention": lambda: net(lambda x: functional.scaled_dot_product_attention(x, x, x)),
    "a counter that nothing reads": lambda: Counts(10**9),
    "an untraced module": lambda: Untraced(net()),
    "a randomized slope in eval mode": lambda: nn.Sequential(net(), nn.RReLU()),
}


@pytest.mark.parametrize("make", STEADY.values(), ids=list(STEADY))
def test_a_module_that_always_says_the_same_is_exact(make: Callable[[], nn.Module]) -> None:
    with kryptondb.connect() as db, warnings.catch_warnings():
        warnings.simplefilter("error")
        db.register("m", make(), size=24)
        result = db.sql(QUERY, [IMAGE])
        result.heatmaps()
    assert result.plan is not None and result.plan.quality.kind == "exact"
    assert result.schema.metadata[b"kryptondb.quality"] == b"exact"


@pytest.mark.slow
def test_an_untraced_module_that_changes_while_a_query_runs_is_approximate_from_there_on() -> None:
    with kryptondb.connect() as db:
        db.register("m", Untraced(Counts(2, after=40)), size=24)
        result = db.sql(
            "SELECT exact FROM occlude(m, ?, patch => 4, stride => 1, class => 0) USING batch => 8", [IMAGE]
        )
        with pytest.warns(kryptondb.NondeterministicModel):
            exact = result.arrow()["exact"].to_pylist()
    assert exact[0] and not exact[-1]
    assert result.schema.metadata[b"kryptondb.quality"] == b"approximate"


class Raises(nn.Module):
    """Raises for what is not dark."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.net, self.error = net(), error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if float(images.max()) > 0.5:
            raise self.error
        scores: torch.Tensor = self.net(images)
        return scores


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("bad"), RuntimeError("bad"), StopIteration(), AssertionError()]
)
def test_what_a_module_raises_about_a_picture_names_the_picture(error: Exception) -> None:
    with kryptondb.connect() as db:
        db.register("m", Raises(error), size=24)
        with pytest.raises(kryptondb.ExecutionError, match=r"^image: the network failed: "):
            db.sql(QUERY, [IMAGE]).heatmaps()


class Returns(nn.Module):
    def __init__(self, what: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.net, self.what = net(), what

    def forward(self, images: torch.Tensor) -> Any:
        return self.what(self.net(images))


class Odd(nn.Module):
    """Raises where a module is looked at."""

    def __init__(self, **methods: Callable[..., Any]) -> None:
        super().__init__()
        self.net = net()
        for name, method in methods.items():
            setattr(type(self), name, method)


def _raise(*_: object, **__: object) -> Any:
    raise KeyError("mine")


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "a dict": lambda: Returns(lambda x: {"scores": x}),
    "a tuple": lambda: Returns(lambda x: (x, x)),
    "None": lambda: Returns(lambda x: None),
    "numpy": lambda: Returns(lambda x: x.detach().numpy()),
    "integers": lambda: Returns(lambda x: x.argmax(1, keepdim=True)),
    "meta": lambda: net().to("meta"),
    "a buffer on meta": lambda: nn.Sequential(net(), nn.BatchNorm1d(5, device="meta")),
    "lazy": lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3)),
    "an error of its own": lambda: Returns(_raise),
    "no copy": lambda: type("NoCopy", (Odd,), {})(__deepcopy__=_raise),
    "no eval": lambda: type("NoEval", (Odd,), {})(train=_raise),
    "no text": lambda: type("NoText", (Odd,), {})(extra_repr=_raise, forward=lambda self, x: self.net(x)),
    "no type": lambda: type("NoType", (Odd,), {})(_apply=_raise),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=list(REFUSED))
def test_a_module_that_cannot_be_taken_is_a_model_error(make: Callable[[], nn.Module]) -> None:
    with kryptondb.connect() as db, pytest.raises(kryptondb.ModelError):
        db.register("m", make(), size=24)


class Holds(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.module(images) * 2
        return scores


class Each(Holds):
    """Maps its module over the pictures one by one."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = torch.vmap(lambda image: self.module(image[None])[0])(images)
        return scores


def _doubled(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda _module, _given, scores: scores * 2)
    return module


def _exported() -> nn.Module:
    batch = ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(small_network(), (torch.zeros(2, 3, 24, 24),), dynamic_shapes=batch).module()


TAKEN: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "scripted": (lambda: torch.jit.script(small_network()), 1),
    "traced": (lambda: torch.jit.trace(small_network(), torch.zeros(1, 3, 24, 24)), 1),
    "frozen": (lambda: torch.jit.freeze(torch.jit.script(small_network())), 1),
    "holds a scripted one": (lambda: Holds(torch.jit.script(small_network())), 2),
    "scripted, holds a traced one": (
        lambda: torch.jit.script(Holds(torch.jit.trace(small_network(), torch.zeros(1, 3, 24, 24)))),
        2,
    ),
    "data parallel": (lambda: nn.DataParallel(small_network()), 1),
    "compiled": (lambda: torch.compile(small_network()), 1),  # type: ignore[dict-item]  # a module all the same
    "double": (lambda: small_network().double(), 1),
    "of inference tensors": (lambda: torch.inference_mode()(small_network)(), 1),
    "symbolically traced": (lambda: torch.fx.symbolic_trace(small_network()), 1),
    "exported": (lambda: _exported(), 1),
    "with a hook": (lambda: _doubled(small_network()), 2),
    "vectorized": (lambda: Each(small_network()), 1),
}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "times"), TAKEN.values(), ids=list(TAKEN))
def test_every_kind_of_module_is_taken(make: Callable[[], nn.Module], times: float) -> None:
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = float(small_network()(pixels)[0, 0]) * times
    query = "SELECT base FROM occlude(m, ?, patch => 8, stride => 8, class => 0, score => 'logit') LIMIT 1"
    with kryptondb.connect() as db:
        db.register("m", make(), size=24)
        assert db.sql(query, [IMAGE]).arrow()["base"][0].as_py() == pytest.approx(expected, rel=1e-5)


def test_torchscript_modules_with_other_code_have_other_fingerprints() -> None:
    with kryptondb.connect() as db:
        db.register("m", torch.jit.script(Holds(nn.Flatten())), size=4)
        db.register("n", torch.jit.script(nn.Sequential(nn.Flatten())), size=4)
        assert db.database.models.get("m").fingerprint != db.database.models.get("n").fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("where", ["autocast", "meta", "float64", "inference mode", "bfloat16 products"])
@pytest.mark.parametrize("operator", ["full", "incremental"])
def test_the_callers_settings_change_no_answer(where: str, operator: str) -> None:
    def ask(db: kryptondb.Session) -> np.ndarray:
        return db.sql(f"{QUERY} USING operator => '{operator}'", [IMAGE]).heatmaps()[0]

    module = small_network()
    with kryptondb.connect() as db:
        db.register("m", module, size=24)
        want = ask(db)
    with kryptondb.connect() as db:
        if where == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                db.register("m", module, size=24)
                inside = ask(db)
        elif where == "meta":
            with torch.device("meta"):
                db.register("m", module, size=24)
                inside = ask(db)
        elif where == "inference mode":
            with torch.inference_mode():
                db.register("m", module, size=24)
                inside = ask(db)
        elif where == "float64":
            torch.set_default_dtype(torch.float64)
            try:
                db.register("m", module, size=24)
                inside = ask(db)
            finally:
                torch.set_default_dtype(torch.float32)
        else:
            torch.set_float32_matmul_precision("medium")
            try:
                db.register("m", module, size=24)
                inside = ask(db)
            finally:
                torch.set_float32_matmul_precision("highest")
        after = ask(db)
    np.testing.assert_allclose(inside, want, atol=1e-7)
    np.testing.assert_allclose(after, want, atol=1e-7)


def test_a_caller_that_reads_picture_by_picture_keeps_its_settings_in_between() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with kryptondb.connect() as db:
            db.register("m", small_network(), size=24)
            for _ in db.sql(QUERY, [[IMAGE, IMAGE, IMAGE]]).batches():
                assert torch.get_default_dtype() is torch.float64
                assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_threads_with_sessions_of_their_own_trace_at_the_same_time() -> None:
    failures: list[Exception] = []

    def ask() -> None:
        try:
            with kryptondb.connect() as db:
                db.register("m", small_network(), size=24)
                db.sql(f"{QUERY} USING operator => 'incremental'", [IMAGE]).heatmaps()
        except Exception as error:
            failures.append(error)

    filters = list(warnings.filters)
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(warnings.filters) == filters


def unpooled(x: torch.Tensor) -> torch.Tensor:
    maxima, places = functional.max_pool2d(x, 3, 2, return_indices=True)
    return functional.max_unpool2d(maxima, places, 3, 2, output_size=x.shape[-2:])


def at_its_maximum(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2) * torch.nn.functional.one_hot(x.flatten(2).argmax(2), x.shape[2] * x.shape[3])


SHOWN_FLAT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "unpooling": unpooled,
    "the place of a maximum": lambda x: at_its_maximum(x).view_as(x),
    "several constants of one operator": lambda x: x * torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 2)).sum(0),
}


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("body", SHOWN_FLAT.values(), ids=list(SHOWN_FLAT))
def test_flat_patches_are_answered_as_the_module_answers(body: Callable[[torch.Tensor], torch.Tensor]) -> None:
    torch.manual_seed(0)

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = (
                nn.Conv2d(3, 8, 3, padding=1),
                nn.Conv2d(8, 6, 2),
                nn.Linear(6 * 529, 3),
            )

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            shown = self.second(body(functional.leaky_relu(self.first(images), 0.3))).relu()
            scores: torch.Tensor = self.head(shown.flatten(1))
            return scores

    module, pixels = Flat().eval(), torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 255
    expected = []
    for y in range(0, 19, 3):
        for x in range(0, 19, 3):
            occluded = pixels.clone()
            occluded[:, :, y : y + 6, x : x + 6] = 0.5
            with torch.no_grad():
                expected.append(float(module(occluded)[0, 0]))
    query = "SELECT score FROM occlude(m, ?, patch => 6, stride => 3, class => 0, score => 'logit') ORDER BY row, col"
    with kryptondb.connect() as db:
        db.register("m", module, size=24)
        assert db.sql(query, [IMAGE]).arrow()["score"].to_pylist() == pytest.approx(expected, abs=1e-4)


class ByTheLargest(nn.Module):
    """Divides by the largest number of its whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net(lambda x: x / x.max())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.net(images)
        return scores


@pytest.mark.parametrize("module", [ByTheLargest(), Untraced(ByTheLargest())], ids=["traced", "untraced"])
def test_the_plan_says_that_pictures_run_one_by_one_and_which_batch_is_not_kept(module: nn.Module) -> None:
    with kryptondb.connect() as db:
        db.register("m", module.eval(), size=24)
        plain, one, eight, full = (
            " ".join((db.sql("EXPLAIN " + QUERY + using, [IMAGE]).message or "").split())
            for using in ("", " USING batch => 1", " USING batch => 8", " USING operator => 'full', batch => 8")
        )
    assert all("they run one by one" in each for each in (plain, one, eight, full))
    assert "is not kept" not in plain + one
    assert all("batch => 8 is not kept: its scores depend on the other pictures" in each for each in (eight, full))


def test_the_plan_says_which_batch_the_memory_limit_does_not_allow() -> None:
    query = "EXPLAIN SELECT HEATMAP FROM occlude(m, ?, patch => 8, stride => 4, class => 0) USING operator => 'full', "
    with kryptondb.connect() as db:
        db.register("m", net(), size=384)
        image = np.zeros((384, 384, 3), np.uint8)
        db.sql("SET memory_limit = '256MB'")
        small, large = (" ".join((db.sql(f"{query}batch => {n}", [image]).message or "").split()) for n in (2, 500))
    assert "is not kept" not in small
    assert "batch => 500 is not kept: " in large and "the memory limit of 256 MB allows only" in large
