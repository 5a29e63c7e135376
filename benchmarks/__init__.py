"""Benchmarks: each is one command that prints a table, with peers side by side in one run."""

import kryptondb  # noqa: F401  # before torch: sets how its threads wait, for all contenders alike
