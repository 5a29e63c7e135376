"""A session about a trained network, and its maps with the time that each takes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

import kryptondb
from benchmarks.networks import RealNetwork


@contextmanager
def asking(
    network: RealNetwork, options: argparse.Namespace, database: str | None = None
) -> Iterator[kryptondb.Session]:
    """A session that knows the network as `net`, on the device and with the calibration that the options ask for.

    Args:
        database: the file that keeps what is measured; None for none.
    """
    with kryptondb.connect(database) as db:
        db.sql(f"SET device = '{options.device}'")
        db.register("net", network.module, **network.preprocessing)
        if options.calibration:
            db.sql("CALIBRATE net")
        yield db


def timed_map(db: kryptondb.Session, query: str, picture: np.ndarray) -> tuple[np.ndarray, float]:
    """The heat map of a picture, and the seconds that the query took from its text to its answer."""
    began = time.perf_counter()
    heat_map = db.sql(query, [picture]).heatmaps()[0]
    return heat_map, time.perf_counter() - began
