"""A process that is told to end tidies up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kryptondb.cli import main
from kryptondb.process.termination import Termination, termination_signals

pytestmark = pytest.mark.skipif(
    os.name != "posix" or threading.current_thread() is not threading.main_thread(),
    reason="signals come to the main thread of a POSIX process",
)


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    """Signals as a shell leaves them, however these tests were started."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_command_line_and_leaves_nothing_half_written(
    number: signal.Signals, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
        os.kill(os.getpid(), number)

    monkeypatch.setattr("kryptondb.session.Session.run", ended)
    assert main(["-o", str(tmp_path / "out.csv"), "-c", "SHOW SETTINGS"]) == status
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_does_not_break_into_the_tidying_up() -> None:
    tidied = False
    with pytest.raises(Termination), termination_signals():
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            tidied = True
    assert tidied


def test_signals_are_as_they_were_afterwards_and_those_of_others_are_left_alone() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with termination_signals():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_another_thread_takes_no_signals() -> None:
    def work() -> None:
        with termination_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
