"""Tests of KryptonDB, each worker of pytest-xdist with its share of the processors."""

import os

_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _workers > 1:
    # Before torch is imported, which reads it once. Threads of two workers on one processor wait for each other while
    # they spin. Processes that tests start inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))
