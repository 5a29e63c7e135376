"""The language in IPython and notebooks: `%load_ext kryptondb` adds `%occlude` lines and `%%occlude` cells.

    %load_ext kryptondb

    %%occlude
    CREATE MODEL imagenet FROM pretrained('efficientnet_lite0');
    SELECT HEATMAP FROM occlude(imagenet, $image)

This needs the extra `notebook`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load", "unload"]


def load(shell: InteractiveShell) -> None:
    """Registers the magics and their completion."""
    from kryptondb.ipython.magics import OccludeMagics, add_completion

    magics = OccludeMagics(shell)
    shell.register_magics(magics)
    add_completion(shell, magics.session)


def unload(shell: InteractiveShell) -> None:
    """Removes the magics and their completion."""
    from kryptondb.ipython.magics import remove_completion

    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("occlude", None)
    remove_completion(shell)
