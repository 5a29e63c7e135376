"""Amounts as people read them."""

from __future__ import annotations

import pytest

from kryptondb.text.units import bytes_text, clock_text, gflop_text, seconds_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (1e-6, "<0.1 ms"),
        (0.0031, "3.1 ms"),
        (0.034, "34 ms"),
        (0.12, "0.12 s"),
        (3.14, "3.1 s"),
        (31, "31 s"),
        (0.04, "40 ms"),
        (6.83, "6.8 s"),
        (125, "2 min 5 s"),
        (599.4, "9 min 59 s"),
        (720, "12 min"),
        (9000, "2.5 h"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (41_300, "41 kB"),
        (3_240_000, "3.2 MB"),
        (57e6, "57 MB"),
        (1.25e9, "1.2 GB"),
        (9.99e5, "999 kB"),
    ],
)
def test_bytes(size: float, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("flops", "text"),
    [(0, "0 GFLOP"), (1e6, "<0.01 GFLOP"), (4.2e8, "0.42 GFLOP"), (7.6e9, "7.6 GFLOP"), (3.12e12, "3,120 GFLOP")],
)
def test_operations(flops: float, text: str) -> None:
    assert gflop_text(flops) == text


def test_time_left_reads_like_a_clock():
    assert [clock_text(seconds) for seconds in (6, 760, 3723)] == ["0:06", "12:40", "1:02:03"]
