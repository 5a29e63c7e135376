"""One command each, prints a table; side by side with peers in one run."""

import kryptondb  # noqa: F401  # before torch: sets how its threads wait, for all contenders alike
