"""Describes each network, and checks that it is the expected one.

python -m benchmarks.networks
"""

from __future__ import annotations

import sys

from rich.table import Table

from benchmarks.networks import NETWORKS, RealNetwork
from benchmarks.report import console
from kryptondb.errors import ModelError


def main() -> int:
    """Prints a line per network; 1 where one is missing."""
    table = Table()
    for title in ("network", "input", "classes", "tuning", "unseen", "what is known of it"):
        table.add_column(title)
    missing = []
    for name, load in NETWORKS.items():
        try:
            network = load()
        except ModelError as error:
            missing.append(str(error))
            continue
        side = str(network.side)
        counts = (len(network.labels), len(network.tuning), len(network.unseen))
        table.add_row(name, f"{side} x {side}", *map(str, counts), known(network))
    out = console()
    out.print(table)
    for problem in missing:
        out.print(problem, soft_wrap=True)
    return 1 if missing else 0


def known(network: RealNetwork) -> str:
    """Its accuracy where it was trained here, and what it says of pictures whose answers are known."""
    lines = [] if network.accuracy is None else [f"{network.accuracy:.3f} of held-out pictures right"]
    for check in network.checks:
        label, probability = network.top(check.picture)
        lines.append(f"{check.what}: {label} {probability:.5f} (known: {check.label} {check.probability:g})")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
