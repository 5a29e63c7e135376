"""Gather and overlay as one Triton kernel: every element is read once, from the base or from a patch, and written once.

Imported only where Triton is present. `overlay.overlaid_in_torch` says what it computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from kryptondb.executor.tiles.overlay import Rectangles
    from kryptondb.executor.tiles.regions_on_tensors import Table

_ELEMENTS = 1024  # of one program
_WIDEST = 128  # channels of one program: 512 bytes in a row, more than a transaction of memory


def overlaid(
    table: Table, read: Rectangles, outside: float, patches: torch.Tensor, covered: Rectangles
) -> torch.Tensor:
    """Rectangles of a base with patches laid over: [R * C, height, width, *channels], memory of its own."""
    channels = table.rows.shape[1]
    located = patches.reshape(read.count, covered.height, covered.width, channels).contiguous()
    output = table.rows.new_empty((read.count, read.height, read.width, *table.channels))
    locations = read.count * read.height * read.width
    across = min(_power_of_two(channels), _WIDEST)
    along = max(1, _ELEMENTS // across)
    programs = (-(-locations // along), -(-channels // across))
    _overlay[programs](
        output,
        table.rows,
        located,
        read.ys,
        read.xs,
        covered.ys,
        covered.xs,
        locations,
        read.xs.shape[0],
        read.height,
        read.width,
        table.height,
        table.width,
        covered.height,
        covered.width,
        channels,
        table.height * table.width + table.outside.index(outside),
        ALONG=along,
        ACROSS=across,
    )
    return output


def _power_of_two(number: int) -> int:
    """The smallest that is not less."""
    return 1 << (number - 1).bit_length()


def _overlay_program(
    output: tl.tensor,  # [positions, height, width, channels]
    rows: tl.tensor,  # [table_height * table_width + outside, channels]
    patches: tl.tensor,  # [positions, patch_height, patch_width, channels]
    read_ys: tl.tensor,
    read_xs: tl.tensor,
    patch_ys: tl.tensor,
    patch_xs: tl.tensor,
    locations: tl.tensor,
    columns: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    table_height: tl.tensor,
    table_width: tl.tensor,
    patch_height: tl.tensor,
    patch_width: tl.tensor,
    channels: tl.tensor,
    beyond: tl.tensor,
    ALONG: tl.constexpr,
    ACROSS: tl.constexpr,
) -> None:
    # 64 bits: the elements of a large batch are more than 2^31.
    location = tl.program_id(0).to(tl.int64) * ALONG + tl.arange(0, ALONG)
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)
    there = location < locations
    position = location // (width * height)
    row, column = position // columns, position % columns
    y = tl.load(read_ys + row, mask=there, other=0) + location // width % height
    x = tl.load(read_xs + column, mask=there, other=0) + location % width
    in_table = (y >= 0) & (y < table_height) & (x >= 0) & (x < table_width)
    base = tl.where(in_table, y * table_width + x, beyond)
    y -= tl.load(patch_ys + row, mask=there, other=0)
    x -= tl.load(patch_xs + column, mask=there, other=0)
    covered = (y >= 0) & (y < patch_height) & (x >= 0) & (x < patch_width)
    patch = (position * patch_height + y) * patch_width + x
    in_channels = (channel < channels)[None, :]
    some = there[:, None] & in_channels
    new = tl.load(patches + patch[:, None] * channels + channel[None, :], mask=some & covered[:, None], other=0.0)
    old = tl.load(rows + base[:, None] * channels + channel[None, :], mask=some & ~covered[:, None], other=0.0)
    tl.store(output + location[:, None] * channels + channel[None, :], tl.where(covered[:, None], new, old), mask=some)


#: Layers differ in these: told apart by whether they are 1 or divide by 16, each would be compiled anew.
_ANY = [
    *("read_ys", "read_xs", "patch_ys", "patch_xs", "locations", "columns", "height", "width"),
    *("table_height", "table_width", "patch_height", "patch_width", "beyond"),
]
_overlay = triton.jit(_overlay_program, do_not_specialize=_ANY)
