"""A query's whole trip."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import kryptondb
from kryptondb.executor import calibrate
from kryptondb.optimizer.cost import Rates
from kryptondb.statements.queries import trip
from tests.networks import small_network

QUERY = "SELECT y, x, drop FROM occlude(net, ?, patch => 8, stride => 8) WHERE y < 20 ORDER BY drop DESC LIMIT 4"


def test_the_trip_that_is_there_to_be_read_gives_what_a_session_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "measure", lambda _: Rates())
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=32)
        rows = pa.Table.from_batches(list(trip(session.database, QUERY, {"0": pixels})))
        assert rows.equals(session.sql(QUERY, [pixels]).arrow())
