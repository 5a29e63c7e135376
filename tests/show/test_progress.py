"""The progress line: late, on a terminal only, and gone when done."""

from __future__ import annotations

import io

from kryptondb.executor import Progress
from kryptondb.show.progress import ProgressLine, progress_line, waiting
from tests.patience import PATIENCE, until


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_done_within_a_second_shows_nothing():
    out, clock = FakeTerminal(), Clock()
    line = ProgressLine(out, clock=clock)
    clock.now = 0.9
    line(Progress("a.png", 10, 100, 1, 1))
    line.close()
    assert out.getvalue() == "" and not line.visible


def test_what_lasts_shows_positions_speed_and_time_left():
    out, clock = FakeTerminal(), Clock()
    line = ProgressLine(out, clock=clock)
    line(Progress("a.png", 0, 2809, 1, 1))
    clock.now = 3.0
    line(Progress("a.png", 1236, 2809, 1, 1))
    assert line.visible
    assert all(part in out.getvalue() for part in ("a.png", "1,236/2,809 positions", "412/s", "0:04"))


def test_of_many_images_the_number_is_shown():
    out, clock = FakeTerminal(), Clock()
    line = ProgressLine(out, clock=clock, delay=0)
    clock.now = 1.0
    line(Progress("b.png", 5, 9, 3, 40))
    assert "3/40" in out.getvalue()


def test_the_line_goes_away_and_comes_back():
    out, clock = FakeTerminal(), Clock()
    line = ProgressLine(out, clock=clock, delay=0)
    clock.now = 1.0
    line(Progress("b.png", 5, 9, 1, 1))
    line.pause()
    assert not line.visible
    clock.now = 2.0
    line(Progress("b.png", 6, 9, 1, 1))
    assert line.visible
    line.close()
    assert not line.visible


def test_the_line_is_not_drawn_for_every_tile():
    out, clock = FakeTerminal(), Clock()
    line = ProgressLine(out, clock=clock, delay=0)
    clock.now = 1.0
    for done in range(1000):
        line(Progress("b.png", done, 1000, 1, 1))
    assert out.getvalue().count("positions") == 1
    line.close()


def test_only_a_terminal_gets_one_and_only_if_wanted():
    assert progress_line("on", io.StringIO()) is None
    assert progress_line("off", FakeTerminal()) is None
    assert progress_line("auto", FakeTerminal()) is not None


def test_what_is_waited_for_is_said_when_it_takes_long_and_taken_back():
    out = FakeTerminal()
    with waiting("planning", "auto", out, delay=0.0):
        until(lambda: "planning ..." in out.getvalue(), "the line")
    assert out.getvalue() == "\rplanning ...\r\x1b[2K"


def test_what_is_waited_for_may_say_how_far_it_is():
    out = FakeTerminal()
    with waiting("calibrating", "auto", out, delay=0.0) as say:
        until(lambda: "calibrating ..." in out.getvalue(), "the line")
        say("calibrating, 3 of 9")
    assert out.getvalue() == "\rcalibrating ...\rcalibrating, 3 of 9 ...\x1b[K\r\x1b[2K"


def test_what_is_done_soon_is_not_worth_a_word():
    for setting, out in (("auto", FakeTerminal()), ("off", FakeTerminal()), ("auto", io.StringIO())):
        with waiting("planning", setting, out, delay=PATIENCE) as say:
            say("planning on")
        assert out.getvalue() == ""
