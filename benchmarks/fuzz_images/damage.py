"""Damage: files cut off, bytes changed, numbers made extreme, pieces removed, repeated or taken from another file."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.fuzz_images.originals import Original

_EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEAD = 600  # bytes at each end, where headers and directories stand
_WINDOWS = (None, None, None, (40.0, 400.0), (0.5, 1e-6), (-1e30, 1e30))


@dataclass(frozen=True)
class Case:
    """One damaged file, and the fragment that a query names."""

    number: int
    original: Original
    data: bytes
    fragment: str
    window: tuple[float, float] | None


def case(number: int, seed: int, originals: Sequence[Original]) -> Case:
    """The case of a number, the same on every machine with the same packages."""
    chance = random.Random(f"{seed} {number}")
    formats = sorted({original.format for original in originals})
    format = formats[number % len(formats)]
    original = chance.choice([original for original in originals if original.format == format])
    data = bytearray(original.data)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        chance.choice((_change_bytes, _change_bytes, _make_extreme, _make_extreme, _cut_out, _repeat))(data, chance)
    if chance.random() < 0.1:
        other = chance.choice(originals).data
        at = chance.randrange(len(other) + 1)
        data[chance.randrange(len(data) + 1) :] = other[at : at + 4096]
    if chance.random() < 0.25:
        del data[_place(data, chance) :]
    return Case(number, original, bytes(data), chance.choice(original.fragments), chance.choice(_WINDOWS))


def _place(data: bytearray, chance: random.Random) -> int:
    """Somewhere in the file, in two of three cases near an end of it."""
    if not data:
        return 0
    where = chance.randrange(3)
    if where == 0:
        return chance.randrange(len(data))
    offset = chance.randrange(min(_HEAD, len(data)))
    return offset if where == 1 else len(data) - 1 - offset


def _change_bytes(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        if data:
            data[_place(data, chance)] = chance.randrange(256)


def _make_extreme(data: bytearray, chance: random.Random) -> None:
    size, value = chance.choice((1, 2, 4, 8)), chance.choice(_EXTREME)
    form = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
    number = struct.pack(chance.choice("<>") + form, value & (2 ** (8 * size) - 1))
    at = _place(data, chance)
    data[at : at + size] = number


def _cut_out(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.randint(1, 64)]


def _repeat(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    data[at:at] = data[at : at + chance.randint(1, 64)] * chance.randint(1, 4)
