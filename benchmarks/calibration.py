"""The rates that plans are costed with: those of a database after CALIBRATE, or of one that has not seen it yet."""

from __future__ import annotations

from dataclasses import replace

from kryptondb.executor.calibrate import measure_layers
from kryptondb.network import Network
from kryptondb.optimizer.cost import LayerRate, LayerShape, Rates, layer_shapes


class Calibration:
    """What is known of single layers, measured once per run, even if several networks and cases share a shape.

    Attributes:
        wanted: whether layers are measured at all.
    """

    def __init__(self, device: str, wanted: bool) -> None:
        self.wanted = wanted
        self._device = device
        self._known: dict[LayerShape, list[LayerRate]] = {}

    def rates(self, general: Rates, network: Network) -> Rates:
        """The general rates, and those of each of the network's layers."""
        if not self.wanted:
            return general
        shapes = layer_shapes(network)
        for rate in measure_layers([shape for shape in shapes if shape not in self._known], self._device):
            self._known.setdefault(rate.shape, []).append(rate)
        return replace(general, layers=tuple(rate for shape in shapes for rate in self._known[shape]))

    def __str__(self) -> str:
        return "layers calibrated" if self.wanted else "layers not calibrated"
