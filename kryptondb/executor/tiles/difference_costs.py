"""What a run on differences costs beyond one on values: what reads the base, and what has to see whole values."""

from __future__ import annotations

from kryptondb.executor.tiles.difference_base import tables_of_clamp
from kryptondb.executor.tiles.overheads import cell_steps
from kryptondb.executor.tiles.tilings import Tiling
from kryptondb.network.differences import effects_of
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import BASE_BYTES

#: Tensors in the base's precision that are read or written for each input that is made whole (its base is gathered and
#: added to), and for each output (computed, its base gathered and taken away, rounded).
_FOR_INPUT, _FOR_OUTPUT = 4, 6


def difference_seconds(tiling: Tiling, rates: Rates, element_bytes: int, sharing: int = 1) -> float:
    """Seconds over all tiles.

    Args:
        element_bytes: of one difference.
        sharing: how many tiles run side by side and share the caches.
    """
    network = tiling.network
    effects, steps = effects_of(network), cell_steps(network)
    stride = tiling.extents.regions.grid.stride
    seconds = 0.0
    for node in network.nodes:
        index = node.index
        if index in effects.clamps:
            tables = tables_of_clamp(effects.clamps[index])
            even = all(along % step == 0 for along, step in zip(stride, steps[index], strict=True))
            height, width = tiling.region(index)
            gathered = ((height != node.height) | (width != node.width)) & (not even)
            # Each table is read beside the value; where regions do not lie evenly spaced it is gathered first.
            moved = element_bytes * node.channels * tiling.locations(index) * tables * (1.0 + 2.0 * gathered)
            calls = tables * tiling.count
            seconds += tiling.total(rates.moving(moved, sharing)) + calls * rates.seconds_per_call
            seconds += tables * tiling.total(gathered) * rates.seconds_per_gather
        elif index in effects.whole:
            elements = _FOR_OUTPUT * node.channels * tiling.locations(index)
            regions = [network.nodes[source] for source in node.inputs if network.regional[source]]
            for source in regions:
                elements = elements + _FOR_INPUT * source.channels * tiling.locations(source.index)
            seconds += tiling.total(rates.moving(BASE_BYTES * elements.astype(float), sharing))
            launched = (1 + len(regions)) * tiling.count
            seconds += launched * (rates.seconds_per_call + rates.seconds_per_gather)
    return seconds
