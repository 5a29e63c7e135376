"""Every quantity in words: seconds, bytes, operations and counts as people read them."""

from __future__ import annotations


def seconds_text(seconds: float) -> str:
    """`3.1 ms`, `0.82 s`, `31 s`, `2 min 5 s`, `12 min`, `2.5 h`: two or three significant digits."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.2g} ms" if seconds * 1000 >= 0.1 else "0 ms" if seconds == 0 else "<0.1 ms"
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    if seconds < 599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    return f"{seconds / 60:.0f} min" if seconds < 7170 else f"{seconds / 3600:.1f} h"


def bytes_text(size: float) -> str:
    """`512 B`, `57 MB`, `1.2 GB`, in powers of ten."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5 or unit == "TB":
            return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"
    raise AssertionError


def gflop_text(flops: float) -> str:
    """`0.42 GFLOP`, `31 GFLOP`, `3,120 GFLOP`."""
    giga = flops / 1e9
    if giga == 0:
        return "0 GFLOP"
    if giga < 0.01:
        return "<0.01 GFLOP"
    return f"{giga:.2f} GFLOP" if giga < 0.995 else f"{giga:.1f} GFLOP" if giga < 9.95 else f"{giga:,.0f} GFLOP"


def clock_text(seconds: float) -> str:
    """`0:06`, `12:40`, `1:02:03`."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(number: int, noun: str) -> str:
    """`1 row`, `2,799 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
