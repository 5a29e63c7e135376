"""Tiles side by side: the same work, by threads that have their own memory and share the processor."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from kryptondb.executor.kernels.winograd import Workspace
from kryptondb.executor.tiles.workers import workers
from tests.patience import PATIENCE, until


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_each_worker_has_one_workspace_and_its_share_of_the_threads() -> None:
    meeting = threading.Barrier(2)

    def task(number: int, workspace: Workspace) -> tuple[int, int, int, bool]:
        if number < 2:
            meeting.wait(PATIENCE)
        return number, id(workspace), torch.get_num_threads(), torch.is_inference_mode_enabled()

    with workers(2, task) as running:
        found = [result() for result in [running.start(number) for number in range(6)]]
    assert [number for number, *_ in found] == list(range(6))
    assert len({workspace for _, workspace, *_ in found}) == 2
    assert {(threads, mode) for *_, threads, mode in found} == {(1, True)}
    assert torch.get_num_threads() == 2 and not torch.is_inference_mode_enabled()


def test_threads_that_begin_afterwards_have_all_cores_again() -> None:
    with workers(2, lambda work, workspace: None):
        pass
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [2]


def test_an_interruption_before_all_are_ready_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted: list[str] = []

    class Interrupted(threading.Barrier):
        def wait(self, timeout: float | None = None) -> int:
            if threading.current_thread().name == "query":
                raise KeyboardInterrupt
            return super().wait(timeout)

    def query() -> None:
        try:
            with workers(2, lambda work, workspace: None):
                pass
        except KeyboardInterrupt:
            interrupted.append("told")

    monkeypatch.setattr("kryptondb.executor.tiles.workers.threading.Barrier", Interrupted)
    thread = threading.Thread(target=query, name="query", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert interrupted == ["told"]


def test_one_worker_works_at_once_and_in_the_same_thread() -> None:
    with workers(1, lambda work, workspace: threading.get_ident()) as running:
        assert running.pool is None
        assert running.start(None)() == threading.get_ident()


def test_what_a_worker_raises_reaches_whoever_waits_for_it() -> None:
    def task(work: str, workspace: Workspace) -> None:
        raise RuntimeError(f"[enforce fail] not enough memory for {work}")

    with workers(2, task) as running:
        waiting = running.start("a tile")
        with pytest.raises(RuntimeError, match="not enough memory for a tile"):
            waiting()


def test_leaving_drops_what_has_not_begun() -> None:
    begun: list[int] = []
    hold = threading.Event()

    def task(number: int, workspace: Workspace) -> None:
        begun.append(number)
        hold.wait(PATIENCE)

    with pytest.raises(KeyboardInterrupt), workers(2, task) as running:
        results = [running.start(number) for number in range(20)]
        until(lambda: len(begun) == 2, "both workers")
        last = results[-1].__self__  # its future, which is dropped last
        threading.Thread(target=lambda: (until(last.cancelled, "leaving"), hold.set()), daemon=True).start()
        raise KeyboardInterrupt
    assert len(begun) == 2
