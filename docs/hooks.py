"""What mkdocs calls while it builds the site: drawings and notebooks are put in, and nothing may be fetched."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drawn import maps
from drawn.grammar import Grammar
from mkdocs.exceptions import PluginError

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent

#: What `<!-- drawn: NAME -->` on a line of its own becomes.
DRAWINGS: dict[str, Callable[[], str]] = {
    "grammar": lambda: Grammar((ROOT / "kryptondb/grammar/occlude.lark").read_text(encoding="utf-8")).page(),
    "region growth": maps.region_growth,
    "read window": maps.read_window,
    "tile": maps.tile,
    "shares": maps.shares,
}
_MARK = re.compile(r"^<!-- drawn: (.+) -->$", re.MULTILINE)
#: What a browser would fetch by itself from another place.
_FETCHED = re.compile(r"""<(?:script|img|iframe|link|source)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The notebooks of docs/notebooks become pages, and README's picture is the site's too."""
    from drawn.notebooks import pages
    from mkdocs.structure.files import File

    files.append(File.generated(config, "images/cat.png", abs_src_path=str(ROOT / "docs/images/cat.png")))
    for file in pages(ROOT / "docs/notebooks", config):
        files.append(file)
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Drawings stand where a page asks for them."""
    return _MARK.sub(lambda mark: DRAWINGS[mark[1]](), markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """A page that would fetch something from elsewhere ends the build."""
    found = _FETCHED.search(output)
    if found:
        raise PluginError(f"{page.file.src_uri} fetches from elsewhere: {found[0]}")
    return output
