"""What a plan costs, and the device's rates that turn work into seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """An estimate.

    Attributes:
        seconds: wall-clock time.
        flops: floating point operations, two a multiply-add (the paper's equations 16 to 19 count one).
        memory: the most bytes held at once beyond the network's weights.
    """

    seconds: float
    flops: float
    memory: int


@dataclass(frozen=True)
class Rates:
    """How fast a device is, measured once by `kryptondb.executor.calibrate` and remembered in the catalog.

    Attributes:
        flops_per_second: of a 3x3 convolution at a size that networks have.
        bytes_per_second: of a large copy, reads and writes counted.
        seconds_per_call: what launching one operator costs however small its work.
    """

    flops_per_second: float = 1.5e11
    bytes_per_second: float = 8e9
    seconds_per_call: float = 1.5e-5

    def seconds(self, flops: float, moved: float, calls: float) -> float:
        """Seconds for so many operations, bytes moved and operator launches."""
        return flops / self.flops_per_second + moved / self.bytes_per_second + calls * self.seconds_per_call
