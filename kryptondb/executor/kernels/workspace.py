"""Memory that one tile after the other uses for the same thing, so that nothing is allocated once the first has run."""

from __future__ import annotations

import math

import torch


class Workspace:
    """Named buffers that grow to the largest size asked for."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """An uninitialized tensor of this shape, in the precision and on the device of `like`.

        The next `take` of the same name hands the same memory out again.
        """
        key = (name, like.dtype, like.device)
        elements = math.prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < elements:
            self._buffers.pop(key, None)
            del buffer  # given back before more is asked for
            buffer = like.new_empty(elements)
            self._buffers[key] = buffer
        return buffer[:elements].view(shape)
