"""How a reshape moves the picture's axes."""

from __future__ import annotations

from collections.abc import Sequence

from kryptondb.network.node import Axes


def reshaped_axes(before: Sequence[int], after: Sequence[int], axes: Axes) -> Axes | None:
    """Where batch, height and width are after a reshape, or None when one of them is mixed with another dimension.

    Both shapes are cut into the shortest runs of dimensions with equal products; an axis survives when it is alone in
    its run, ones aside, on both sides:

        [1, 48, 28, 28] -> [1, 2, 24, 28, 28]    axes (0, 2, 3) -> (0, 3, 4)
        [1, 48, 28, 28] -> [1, 48, 784]          None

    A height or width of 1 cannot be told from any other 1, and is given up.
    """
    if before[axes.y] == 1 or before[axes.x] == 1:
        return _same_axes(before, after, axes)
    moved: dict[int, int] = {}
    i = j = 0
    if axes.batch != 0 or not after or after[0] != before[0]:
        return None
    moved[0] = 0  # the batch leads on both sides; its size of 1 would match any other
    i = j = 1
    while i < len(before) or j < len(after):
        left, right = [i] if i < len(before) else [], [j] if j < len(after) else []
        product_left = before[i] if left else 1
        product_right = after[j] if right else 1
        i, j = i + len(left), j + len(right)
        while product_left != product_right:
            if product_left < product_right and i < len(before):
                product_left *= before[i]
                left.append(i)
                i += 1
            elif product_right < product_left and j < len(after):
                product_right *= after[j]
                right.append(j)
                j += 1
            else:
                return None
        left = [d for d in left if before[d] != 1]
        right = [d for d in right if after[d] != 1]
        if len(left) == len(right) == 1:
            moved[left[0]] = right[0]
    if axes.y not in moved or axes.x not in moved:
        return None
    return Axes(0, moved[axes.y], moved[axes.x])


def _same_axes(before: Sequence[int], after: Sequence[int], axes: Axes) -> Axes | None:
    return axes if list(before) == list(after) else None
