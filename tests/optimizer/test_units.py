"""Amounts as people read them."""

from __future__ import annotations

import pytest

from kryptondb.text.units import bytes_text, gflop_text, seconds_text


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
        (125, "2 min"),
        (9000, "2.5 h"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (512, "512 B"), (57e6, "57 MB"), (1.25e9, "1.2 GB"), (9.99e5, "999 kB")]
)
def test_bytes(size: float, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("flops", "text"),
    [(0, "0 GFLOP"), (1e6, "<0.01 GFLOP"), (4.2e8, "0.42 GFLOP"), (7.6e9, "7.6 GFLOP"), (3.12e12, "3,120 GFLOP")],
)
def test_operations(flops: float, text: str) -> None:
    assert gflop_text(flops) == text
