"""`python -m kryptondb`: the same as the `kryptondb` command."""

from __future__ import annotations

import sys

from kryptondb.cli import main

if __name__ == "__main__":
    sys.exit(main())
