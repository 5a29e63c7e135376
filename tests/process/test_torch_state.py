"""Torch's settings while KryptonDB works are its own, and the caller's again afterwards, in every thread."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from kryptondb.network import trace
from kryptondb.process.torch_state import building, is_as_own, leaves_numbers_alone, own_torch_state
from tests.patience import PATIENCE


class Doubling(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return 2 * func(*args, **(kwargs or {})) if func is torch.relu else func(*args, **(kwargs or {}))


class Forgetting(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return torch.ones(2) * 7 if "relu" in str(func) else func(*args, **(kwargs or {}))


Settings = dict[str, object]


def settings() -> Settings:
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "inference": torch.is_inference_mode_enabled(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "products": torch.get_float32_matmul_precision(),
        "convolutions": torch.backends.mkldnn.conv.fp32_precision,
        "flushes": bool(np.float32(1e-40) * np.float32(1) == 0),
        "relu": torch.relu(torch.ones(2, device="cpu", dtype=torch.float32)).tolist(),
    }


def _setting(set_it: Callable[[Any], object], value: object, before: object) -> Callable[[], Iterator[None]]:
    def hold() -> Iterator[None]:
        set_it(value)
        try:
            yield
        finally:
            set_it(before)

    return hold


def _inside(manager: Callable[[], Any]) -> Callable[[], Iterator[None]]:
    def hold() -> Iterator[None]:
        with manager():
            yield

    return hold


CALLERS: dict[str, Callable[[], Iterator[None]]] = {
    "nothing": _inside(torch.enable_grad),
    "autocast": _inside(lambda: torch.autocast("cpu", torch.bfloat16)),
    "inference mode": _inside(torch.inference_mode),
    "a default dtype": _setting(torch.set_default_dtype, torch.float64, torch.float32),
    "a default device": _setting(torch.set_default_device, "meta", None),
    "with torch.device": _inside(lambda: torch.device("meta")),
    "a function mode": _inside(Doubling),
    "a dispatch mode": _inside(Forgetting),
    "deterministic algorithms": _setting(torch.use_deterministic_algorithms, True, False),
    "products in bfloat16": _setting(torch.set_float32_matmul_precision, "medium", "highest"),
    "convolutions in bfloat16": _setting(
        lambda value: setattr(torch.backends.mkldnn.conv, "fp32_precision", value), "bf16", "none"
    ),
    "flushed denormals": _setting(torch.set_flush_denormal, True, False),
}


@pytest.fixture(params=CALLERS)
def caller(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from (request.param for _ in CALLERS[request.param]())


def test_nothing_of_the_caller_is_seen_inside_and_all_of_it_afterwards(caller: str) -> None:
    before = settings()
    with own_torch_state():
        inside = settings()
        assert torch.zeros(2).device.type == "cpu"
    assert settings() == before
    own = {"dtype": torch.float32, "autocast": False, "inference": False, "grad": False, "deterministic": False}
    own |= {"products": "highest", "device": torch.device("cpu"), "flushes": False, "relu": [1.0, 1.0]}
    assert {name: inside[name] for name in own} == own
    assert inside["convolutions"] in ("none", "ieee")


def test_what_the_caller_had_comes_back_after_an_error(caller: str) -> None:
    before = settings()
    with pytest.raises(ZeroDivisionError), own_torch_state(), own_torch_state():
        raise ZeroDivisionError
    assert settings() == before


@pytest.mark.parametrize("changes", ["autocast", "a function mode", "a dispatch mode", "with torch.device"])
def test_a_caller_whose_settings_change_numbers_is_found(changes: str) -> None:
    assert leaves_numbers_alone()
    for _ in CALLERS[changes]():
        assert not leaves_numbers_alone()


def test_settings_of_the_process_last_until_the_last_thread_leaves() -> None:
    torch.set_default_dtype(torch.float64)
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with own_torch_state():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    try:
        assert not is_as_own()
        with own_torch_state():
            thread.start()
            entered.wait()
        assert torch.get_default_dtype() is torch.float32, "the other thread is still inside"
        leave.set()
        thread.join()
        assert torch.get_default_dtype() is torch.float64
    finally:
        leave.set()
        torch.set_default_dtype(torch.float32)


def test_what_others_set_meanwhile_is_left_as_it_is() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with own_torch_state():
            torch.set_default_dtype(torch.float16)
        assert torch.get_default_dtype() is torch.float16
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("tf32", [True, False])
def test_products_on_a_gpu_are_made_in_float32_whichever_way_the_caller_chose_another(tf32: bool) -> None:
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = tf32
    try:
        with own_torch_state("cuda"):
            assert not products.allow_tf32
            assert not convolutions.allow_tf32
        assert (products.allow_tf32, convolutions.allow_tf32) == (tf32, tf32)
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def test_what_torch_says_while_it_exports_stays_inside_and_other_threads_are_heard(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger, stderr = logging.getLogger("torch.export"), sys.stderr
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait()
        logger.warning("of the other thread")
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        with building() as caught:
            logger.error("a message")
            logger.error("an error", exc_info=ValueError("why"))
            warnings.warn("a remark", stacklevel=1)
            inside.set()
            done.wait()
            assert sys.stderr is stderr
        assert list(warnings.filters) == filters
    thread.join()
    assert [str(error) for error in caught] == ["why"]
    assert [record.getMessage() for record in caplog.records] == ["of the other thread"]
    assert not warned
    assert "a message" not in capfd.readouterr().err
    assert not logger.filters


def test_a_filter_of_another_thread_that_is_set_and_reset_meanwhile_leaves_none_of_ours() -> None:
    filters = list(warnings.filters)
    other = warnings.catch_warnings()
    with building():
        other.__enter__()
    other.__exit__(None, None, None)
    assert list(warnings.filters) == filters
    other = warnings.catch_warnings()
    other.__enter__()
    with building():
        other.__exit__(None, None, None)
    assert list(warnings.filters) == filters


class Meeting(torch.nn.Module):
    """While it is exported, another thread begins to work in the middle of each run, and ends before its end."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        super().__init__()
        self.begin, self.end = begin, end
        self.first, self.second = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = self.first(images)
        if torch.compiler.is_exporting():
            self.begin()
        scores = self.second(torch.relu(values)).mean((2, 3))
        if torch.compiler.is_exporting():
            self.end()
        return scores


def test_a_thread_that_runs_modules_while_another_traces_becomes_no_part_of_the_graph() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.ReLU(), torch.nn.BatchNorm2d(3)).eval()
    image = torch.rand(1, 3, 8, 8)
    expected, found, state = module(image).detach(), [], ExitStack()

    def begin() -> None:
        state.enter_context(own_torch_state())
        found.append(module(image))

    with ThreadPoolExecutor(1) as other:
        meeting = Meeting(
            lambda: other.submit(begin).result(PATIENCE), lambda: other.submit(state.close).result(PATIENCE)
        )
        network = trace(meeting.eval(), (3, 16, 16))
    assert network.failure is None
    assert [node.operator for node in network.nodes if node.operator.startswith(("conv", "batch"))] == ["conv2d"] * 2
    assert found and all(torch.equal(values, expected) for values in found)
