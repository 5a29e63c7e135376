"""The rows of `redundancy(model, ...)`: the paper's Figure 5, one row a layer and a total."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pyarrow as pa

from kryptondb.executor.pieces import Piece, Stage
from kryptondb.optimizer.physical import Redundancy

if TYPE_CHECKING:
    from kryptondb.catalog import ModelStore

#: Sizes are NULL where there is no single one (the total), ratios where nothing is computed.
REDUNDANCY = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("operator", pa.string()),
        pa.field("channels", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("gflops_full", pa.float64()),
        pa.field("gflops_incremental", pa.float64()),
        pa.field("ratio", pa.float64()),
        pa.field("uniform_ratio", pa.float64()),
        pa.field("centre_ratio", pa.float64()),
    ]
)


def redundancy_rows(node: Redundancy, models: ModelStore) -> Stage:
    """The rows as a stage; the model is traced when they are asked for."""

    def start() -> Generator[Piece, None, None]:
        from kryptondb.network import Grid
        from kryptondb.network.redundancy import redundancy_table

        grid = Grid(node.height, node.width, node.patch, node.stride)
        layers = redundancy_table(models.network(node.model), grid)
        columns = [pa.array([getattr(layer, field.name) for layer in layers], field.type) for field in REDUNDANCY]
        yield Piece(pa.RecordBatch.from_arrays(columns, schema=REDUNDANCY), last=True)

    return Stage(REDUNDANCY, start)
