"""How torch's worker threads wait for each other: asleep rather than spinning."""

from __future__ import annotations

import os
import sys


def wait_asleep() -> None:
    """Asks OpenMP, before torch loads it, to let threads that have nothing to do sleep.

    By default they spin. Where another process wants one of the cores, the thread that holds the others up then waits
    for a core that the others burn: one busy neighbour on two cores makes a query twenty times slower. Asleep it costs
    that neighbour's share. A policy that is set already stays; once torch is loaded it is too late: nothing is done.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
